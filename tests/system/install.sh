#!/bin/bash
# What README promises: the program in it, copied from it, builds with pkg-config
# against what `make install` put in place, and runs, on the software back end
# here and on the module in a guest. So do the other programs of docs/examples.
set -euo pipefail

top=$(cd "$(dirname "$(realpath "$0")")/../.." && pwd)
build=${IPCDOOR_BUILD:-$top/build}
cxx=${CXX:-g++}
work=$(mktemp -d "${TMPDIR:-/tmp}/ipcdoor-install.XXXXXX")
trap 'rm -rf "$work"' EXIT

fail() {
    echo "FAILED: $*"
    exit 1
}

# The first ```cpp block of a Markdown file.
first_program() { awk '/^```cpp$/ { on = 1; next } /^```$/ && on { exit } on' "$1"; }

# With a PREFIX of its own, as a distribution would have it.
env -u MAKEFLAGS -u MAKELEVEL make -s -C "$top" install BUILD="$build" DESTDIR="$work/root" \
    PREFIX=/usr > "$work/install.log" 2>&1 || { cat "$work/install.log"; fail "make install"; }

first_program "$top/README.md" > "$work/hello.cpp"
lines=$(wc -l < "$work/hello.cpp")
[ "$lines" -gt 0 ] || fail "README.md has no program: expected a block that starts with \`\`\`cpp"
[ "$lines" -le 22 ] || fail "the program in README.md has $lines lines, 20 were promised"
cmp -s "$work/hello.cpp" "$top/docs/examples/hello.cpp" ||
    fail "the program in README.md is not docs/examples/hello.cpp: $(diff "$work/hello.cpp" \
        "$top/docs/examples/hello.cpp" | head -n 5)"

pc=$(find "$work/root" -name ipcdoor.pc)
[ -n "$pc" ] || fail "no ipcdoor.pc was installed: $(find "$work/root" -type f)"
export PKG_CONFIG_SYSROOT_DIR=$work/root PKG_CONFIG_LIBDIR
PKG_CONFIG_LIBDIR=$(dirname "$pc")
# Nothing of the source tree may be needed.
cd "$work"
# shellcheck disable=SC2046
"$cxx" -std=c++20 -Wall -Wextra -Werror -o hello hello.cpp $(pkg-config --cflags --libs ipcdoor) ||
    fail "the program does not build with: $cxx -std=c++20 hello.cpp $(pkg-config --cflags --libs ipcdoor)"
libraries=$(dirname "$(find "$work/root" -name 'libipcdoor.so.0*' | head -n 1)")
LD_LIBRARY_PATH=$libraries ldd hello | grep -q 'libipcdoor\.so\.0 => ' ||
    fail "the program is not linked with libipcdoor.so.0"

for example in pipe stream; do
    # shellcheck disable=SC2046
    "$cxx" -std=c++20 -Wall -Wextra -Werror -pthread -o "$example" "$top/docs/examples/$example.cpp" \
        $(pkg-config --cflags --libs ipcdoor) || fail "docs/examples/$example.cpp does not build"
done

# The library's C interface from C, too.
printf '#include <ipcdoor.h>\nint main(void) { return ipcdoor_version()[0] == 0; }\n' > c.c
# shellcheck disable=SC2046
"${CC:-gcc}" -std=c11 -Wall -Wextra -Werror -o c c.c $(pkg-config --cflags --libs ipcdoor) ||
    fail "a C program does not build"
LD_LIBRARY_PATH=$libraries ./c || fail "a C program does not run"

cat > talk.sh <<'TALK'
set -eu
./hello & server=$!
tries=0
until answer=$(./hello world 2> error); do
    tries=$((tries + 1))
    [ "$tries" -lt 100 ] || { cat error; exit 1; }
    sleep 0.1  # until the server listens
done
[ "$answer" = "hello, world" ] || { echo "the answer was: $answer"; exit 1; }
wait "$server"

./pipe in > lines & reader=$!
printf 'one\ntwo\n' | ./pipe out
wait "$reader"
[ "$(cat lines)" = "> one
> two" ] || { echo "the pipe's reader said: $(cat lines)"; exit 1; }

./stream & server=$!
tries=0
until answer=$(echo again | ./stream send 2> error); do
    tries=$((tries + 1))
    [ "$tries" -lt 100 ] || { cat error; exit 1; }
    sleep 0.1
done
kill "$server"
[ "$answer" = "again" ] || { echo "the echo was: $answer"; exit 1; }
TALK

mkdir runtime && chmod 700 runtime
IPCDOOR_URI=soft: IPCDOOR_RUNTIME_DIR=$work/runtime LD_LIBRARY_PATH=$libraries \
    timeout 60 sh talk.sh || fail "the program on soft:, status $?"

export LD_LIBRARY_PATH=$libraries  # for whoever gathers the libraries to add
"$top/qemu/run" --timeout 120 --env IPCDOOR_URI=door:/dev/ipcdoor0 --add hello --add pipe --add stream \
    --add talk.sh -- \
    sh talk.sh || fail "the program on door:, status $?"
echo "note: README's program and the other examples built against DESTDIR and ran on soft: and door:"
