# shellcheck shell=bash
# For the tests of what a user of an installed ipcdoor does; to be sourced. Installs into
# `root` of scratch.bash's work; pkg-config and the loader find ipcdoor there and nowhere
# else.

. "$(dirname "$(realpath "${BASH_SOURCE[0]}")")/scratch.bash"
cxx=${CXX:-g++}
cc=${CC:-gcc}

# With a PREFIX of its own, as a distribution would have it.
env -u MAKEFLAGS -u MAKELEVEL make -s -C "$top" install BUILD="$build" DESTDIR="$work/root" \
    PREFIX=/usr > "$work/install.log" 2>&1 || { cat "$work/install.log"; fail "make install"; }

pc=$(find "$work/root" -name ipcdoor.pc)
[ -n "$pc" ] || fail "no ipcdoor.pc was installed: $(find "$work/root" -type f)"
libraries=$(dirname "$(find "$work/root" -name 'libipcdoor.so.0*' | head -n 1)")
export LD_LIBRARY_PATH=$libraries

# ipcdoor's flags, and those of other packages named.
flags() {
    PKG_CONFIG_SYSROOT_DIR=$work/root PKG_CONFIG_LIBDIR=$(dirname "$pc") pkg-config --cflags --libs ipcdoor
    [ $# = 0 ] || pkg-config --cflags --libs "$@"
}

# build_program PROGRAM SOURCE [PACKAGE…]: with all that a careful user switches on.
build_program() {
    local program=$1 source=$2 compile
    shift 2
    case $source in
        *.c) compile=("$cc" -std=c11) ;;
        *) compile=("$cxx" -std=c++20) ;;
    esac
    # shellcheck disable=SC2046
    "${compile[@]}" -Wall -Wextra -Werror -pthread -I. -o "$program" "$source" $(flags "$@") ||
        fail "does not build: ${compile[*]} ${source##*/} $(flags "$@" | tr '\n' ' ')"
}

# on_both SCRIPT PROGRAM…: the script with the programs beside it, on soft: here and on
# door: in a guest.
on_both() {
    local script=$1 add=() program
    shift
    for program in "$@" "$script"; do add+=(--add "$program"); done
    IPCDOOR_URI=soft: timeout 120 sh "$script" ||
        fail "$script on soft:, status $?"
    "$top/qemu/run" --timeout 300 --env IPCDOOR_URI=door:/dev/ipcdoor0 "${add[@]}" -- sh "$script" ||
        fail "$script on door:, status $?"
}

# Nothing of the source tree may be needed.
cd "$work" || exit 1
