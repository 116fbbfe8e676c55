# shellcheck shell=bash
# The Debian archive, through a private apt: nothing is installed and no package
# database of the host is touched. Sourced after common.sh.

# use_suites SUITE[,SUITE…]: from here on packages come from there, of two versions
# from the first suite's.
use_suites() {
    local tool suite uri keyring=/usr/share/keyrings/debian-archive-keyring.gpg root=$CACHE/apt/$1
    for tool in apt-get apt-cache dpkg-deb; do
        command -v "$tool" > /dev/null || die \
"fetching a guest kernel needs '$tool': only Debian and its relatives have it. Elsewhere, copy
$CACHE/kernels from a Debian machine."
    done
    [ -f "$keyring" ] || die "needs $keyring (package debian-archive-keyring)"
    mkdir -p "$root"/{state/lists/partial,cache/archives/partial}
    : > "$root/sources.list"
    for suite in ${1//,/ }; do
        uri=$(repository "$suite")
        echo "deb [signed-by=$keyring] $uri $suite main" >> "$root/sources.list"
    done
    apt_options=(
        -o Dir::State="$root/state" -o Dir::State::status=/dev/null
        -o Dir::Cache="$root/cache"
        -o Dir::Etc::SourceList="$root/sources.list" -o Dir::Etc::SourceParts=/dev/null
        -o Dir::Etc::Preferences=/dev/null -o Dir::Etc::PreferencesParts=/dev/null
        -o APT::Architecture=amd64 -o APT::Architectures=amd64
        -o APT::Default-Release="${1%%,*}"
        -o APT::Sandbox::User=root -o Acquire::Languages=none -o Acquire::Retries=3
    )
    apt-get "${apt_options[@]}" -qq update >&2
}

# The repository that serves a suite: exactly what the machine uses for one of
# that kind, whatever its release.
repository() {
    local suite=$1 kind=debian uris
    case $suite in *-security) kind=debian-security ;; esac
    if [ -n "${IPCDOOR_MIRROR:-}" ]; then
        echo "${IPCDOOR_MIRROR%/}/$kind"
        return
    fi
    uris=$(apt-get update --print-uris 2> /dev/null | sed -n "s#^'\([^']*\)/dists/.*#\1#p" | sort -u)
    grep -m1 "/$kind\$" <<< "$uris" ||
        { grep -m1 '/debian$' <<< "$uris" | sed "s#/debian\$#/$kind#"; } ||
        die "this machine's apt has no Debian archive; name one: IPCDOOR_MIRROR=http://HOST"
}

# package_version PACKAGE: the one that would be taken.
package_version() { apt-cache "${apt_options[@]}" policy "$1" | sed -n 's/^ *Candidate: //p'; }

package_depends() { apt-cache "${apt_options[@]}" depends "$1" | sed -n 's/^ *\(Pre\)\?Depends: //p'; }

# package_download DIRECTORY PACKAGE…: the .deb files into it.
package_download() {
    local directory=$1
    shift
    mkdir -p "$directory"
    (cd "$directory" && apt-get "${apt_options[@]}" -qq download "$@" >&2)
}
