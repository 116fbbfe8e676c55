# shellcheck shell=bash
# Kernels from Debian's packages, unpacked into the cache. Sourced after archive.sh.

# packaged_fetch META TEMPORARY: unpacks the newest kernel of the headers' meta
# package into TEMPORARY, a fresh directory, and sets release; just the latter when
# the cache has it.
packaged_fetch() {
    local meta=$1 temporary=$2 headers image deb tree
    local parts=() binaries=()
    headers=$(package_depends "$meta" | awk '/^linux-headers-/ && !found++')
    [ -n "$headers" ] || die "no package $meta in $suite: correct its line in qemu/kernels"
    release=${headers#linux-headers-}
    if [ -d "$CACHE/kernels/$release" ]; then return; fi

    mapfile -t parts < <(package_depends "$headers" | grep -E '^linux-(headers|kbuild|compiler)-')
    [ ${#parts[@]} -gt 0 ] || die "$headers lists no parts: the archive's layout has changed"
    # Newer ones keep the kernel in linux-binary-*, which the image depends on.
    image=linux-image-$release
    mapfile -t binaries < <(package_depends "$image" | grep '^linux-binary-')
    say "downloading kernel $release (about 50 MB) into $CACHE/kernels"
    package_download "$temporary/deb" "$headers" "${parts[@]}" "${binaries[@]:-$image}" ||
        die "the download of kernel $release failed (see above)"
    for deb in "$temporary"/deb/*.deb; do
        dpkg-deb -x "$deb" "$temporary"
    done
    rm -r "$temporary/deb"

    mkdir -p "$temporary/boot"
    if [ ! -f "$temporary/boot/vmlinuz-$release" ]; then
        ln -s "../usr/lib/modules/$release/vmlinuz" "$temporary/boot/vmlinuz-$release"
    fi
    [ -f "$temporary/boot/vmlinuz-$release" ] || die "$image has no kernel where it is expected"
    tree=$temporary/usr/src/linux-headers-$release
    relocate_headers "$tree"
    wrap_tools "$tree" "$temporary"
}

# The headers name their common part and their tools by the paths they would be
# installed to.
relocate_headers() {
    local tree=$1 makefile=$1/Makefile link target
    sed -i 's#^include /usr/src/#include $(dir $(abspath $(lastword $(MAKEFILE_LIST))))../#
            s#\([ =]\)/usr/src/#\1$(dir $(abspath $(firstword $(MAKEFILE_LIST))))../#' "$makefile"
    if grep -q '[ =]/usr/src/' "$makefile"; then
        die "$makefile still names /usr/src: the headers' layout has changed"
    fi
    for link in "$tree"/scripts "$tree"/tools; do
        if [ -L "$link" ]; then
            target=$(readlink "$link")
            case $target in /usr/*) ln -sfn "../../..$target" "$link" ;; esac
        fi
    done
}

# The tools of newer headers want a newer libc than this machine may have: then they
# get it, with its own loader.
wrap_tools() {
    local tree=$1 root=$2 tool path libc='' relative
    for tool in objtool/objtool mod/modpost; do
        for path in "$tree"/{scripts,tools}/"$tool"{,.real-x86,.real-lsb-64}; do
            [ -f "$path" ] || continue
            path=$(realpath "$path")
            if LC_ALL=C ldd "$path" 2>&1 | grep "GLIBC_.* not found" > /dev/null; then
                if [ -z "$libc" ]; then
                    package_download "$root/deb" libc6 || die "the download of libc6 for kernel $release failed"
                    dpkg-deb -x "$root"/deb/libc6_*.deb "$root/libc"
                    rm -r "$root/deb"
                    libc=$(find "$root/libc" -name libc.so.6 -printf '%h\n' | head -n 1)
                fi
                relative=$(realpath --relative-to="${path%/*}" "$libc")
                mv "$path" "$path.elf"
                # Found from the script's own place: the whole directory is renamed later.
                cat > "$path" <<WRAPPER
#!/bin/sh
libc=\$(dirname "\$(realpath "\$0")")/$relative
exec "\$libc/ld-linux-x86-64.so.2" --library-path "\$libc:/usr/lib/x86_64-linux-gnu:/lib/x86_64-linux-gnu" "\$(realpath "\$0").elf" "\$@"
WRAPPER
                chmod 755 "$path"
            fi
        done
    done
}
