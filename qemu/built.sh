# shellcheck shell=bash
# Kernels built here from Debian's source packages, for what no distribution's kernel
# has: sanitizers, lock checking, coverage. Sourced after archive.sh.

# source_package SERIES: downloads linux-source-SERIES once; prints the .deb's path.
source_package() {
    local package=linux-source-$1 version directory=$CACHE/sources deb
    mkdir -p "$directory"
    version=$(package_version "$package")
    case $version in '' | '(none)') die "no package $package in $suite: correct its line in qemu/kernels" ;; esac
    deb=$directory/${package}_$version.deb
    if [ ! -f "$deb" ]; then
        say "downloading the source of Linux $1 (about 140 MB) into $directory"
        rm -rf "$directory/.download"
        package_download "$directory/.download" "$package" || die "the download of $package failed (see above)"
        mv "$directory"/.download/*.deb "$deb"
        rmdir "$directory/.download"
    fi
    echo "$deb"
}

# source_extract DEB DIRECTORY [PATTERN…]: its tree, or what matches, into a directory.
source_extract() {
    local deb=$1 directory=$2 member
    shift 2
    member=$(dpkg-deb --fsys-tarfile "$deb" | tar -t | grep -m1 '/linux-source-[0-9.]*\.tar\.xz$')
    dpkg-deb --fsys-tarfile "$deb" | tar -xO "$member" |
        tar -xJ -C "$directory" --strip-components=1 ${1:+--wildcards "$@"}
}

# source_tree SERIES: the unpacked source, kept because modules are built with it.
source_tree() {
    local deb tree temporary
    deb=$(source_package "$1")
    tree=${deb%.deb}
    if [ ! -d "$tree" ]; then
        temporary=$(mktemp -d "$CACHE/sources/.new.XXXXXX")
        say "unpacking ${tree##*/}"
        source_extract "$deb" "$temporary"
        # Every symbol there is: what a fragment asks for must be one of them or be
        # another version's.
        find "$temporary" -name 'Kconfig*' -exec sed -nE 's/^[[:space:]]*(menu)?config ([A-Z0-9_]+).*/CONFIG_\2/p' {} + |
            sort -u > "$temporary/.ipcdoor-symbols"
        chmod 755 "$temporary"
        mv -T "$temporary" "$tree"
    fi
    echo "$tree"
}

# fragments CONFIG: the lines of the fragments named, commas between them.
fragments() {
    local name
    for name in ${1//,/ }; do
        [ -f "$TOP/qemu/configs/$name.config" ] || die "no fragment qemu/configs/$name.config"
        grep '^CONFIG_' "$TOP/qemu/configs/$name.config"
    done
}

# built_mark CONFIG: tells kernels of different configs and compilers apart, which the
# cache may hold side by side, for several trees use it.
built_mark() { { fragments "$1"; gcc --version | head -n 1; } | sha256sum | cut -c 1-6; }

# check_config BUILD SYMBOLS: each wish was granted.
check_config() {
    local build=$1 symbols=$2 symbol wanted bad=0
    while IFS='=' read -r symbol wanted; do
        if ! grep -qx "$symbol" "$symbols"; then
            progress "this series has no $symbol"
        elif [ "$wanted" = n ]; then
            if grep -q "^$symbol=" "$build/.config"; then say "$symbol cannot be switched off"; bad=1; fi
        elif ! grep -qx "$symbol=$wanted" "$build/.config"; then
            say "$symbol=$wanted did not survive: $(grep -w "$symbol" "$build/.config" || echo "its dependencies are missing")"
            bad=1
        fi
    done < <(awk -F = '{ last[$1] = $2 } END { for (s in last) print s "=" last[s] }' "$build/fragments" | sort)
    [ "$bad" = 0 ] || die "qemu/configs asks for what this kernel cannot give: change those lines"
}

# built_fetch NAME PACKAGE CONFIG MARK: builds the kernel into the cache and sets
# release. Minutes; the source's own make says what is wrong if anything is.
built_fetch() {
    local name=$1 series=${2#linux-source-} config=$3 mark=$4 tree build make started=$SECONDS
    "$TOP/tools/setup" --kernels || exit 1
    tree=$(source_tree "$series")
    build=$CACHE/builds/$name-$mark
    mkdir -p "$build"
    make=(nice -n 5 make -C "$tree" "O=$build" ARCH=x86_64 "-j${JOBS:-$(nproc)}"
        KBUILD_BUILD_TIMESTAMP=2020-01-01 KBUILD_BUILD_USER=ipcdoor KBUILD_BUILD_HOST=guest)
    if [ "$(type -P gcc-12)" ]; then make+=(CC=gcc-12); fi
    { fragments "$config"; echo "CONFIG_LOCALVERSION=\"-${name#*-}-$mark\""; } > "$build/fragments"
    say "building kernel $name from ${tree##*/}: 5 to 15 minutes, once (log: $build/build.log)"
    "${make[@]}" KCONFIG_ALLCONFIG="$build/fragments" allnoconfig > "$build/build.log" 2>&1 ||
        { tail -n 20 "$build/build.log" >&2; die "kernel $name cannot be configured (log: $build/build.log)"; }
    check_config "$build" "$tree/.ipcdoor-symbols"
    "${make[@]}" bzImage modules_prepare >> "$build/build.log" 2>&1 ||
        { grep -E -B2 -A8 'error:|Error [0-9]' "$build/build.log" | tail -n 40 >&2; die "kernel $name does not build (log: $build/build.log)"; }
    # Its own modules are not wanted, so what they would see is what the kernel exports.
    cp "$build/vmlinux.symvers" "$build/Module.symvers"
    release=$(cat "$build/include/config/kernel.release")
    built_publish "$build" "$release"
    say "built kernel $name ($release) in $((SECONDS - started)) s"
}

# The same places as a packaged kernel's.
built_publish() {
    local build=$1 root=$CACHE/kernels/$2
    mkdir -p "$root/boot" "$root/usr/src"
    ln -sfn "$build/arch/x86/boot/bzImage" "$root/boot/vmlinuz-$2"
    ln -sfn "$build" "$root/usr/src/linux-headers-$2"
}
