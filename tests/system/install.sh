#!/bin/bash
# What README promises: the program in it, copied from it, builds with pkg-config
# against what `make install` put in place, and runs, on the software back end
# here and on the module in a guest. So does a C program.
set -euo pipefail
. "$(dirname "$(realpath "$0")")/installed.bash"

# The first ```cpp block of a Markdown file.
first_program() { awk '/^```cpp$/ { on = 1; next } /^```$/ && on { exit } on' "$1"; }

first_program "$top/README.md" > hello.cpp
lines=$(wc -l < hello.cpp)
[ "$lines" -gt 0 ] || fail "README.md has no program: expected a block that starts with \`\`\`cpp"
[ "$lines" -le 22 ] || fail "the program in README.md has $lines lines; a first one has 22 at most"
cmp -s hello.cpp "$top/docs/examples/hello.cpp" ||
    fail "the program in README.md is not docs/examples/hello.cpp: $(diff hello.cpp \
        "$top/docs/examples/hello.cpp" | head -n 5)"
build_program hello hello.cpp
ldd hello > needs
grep -q 'libipcdoor\.so\.0 => ' needs || fail "the program is not linked with libipcdoor.so.0: $(cat needs)"

printf '#include <ipcdoor.h>\nint main(void) { return ipcdoor_version()[0] == 0; }\n' > c.c
build_program c c.c
./c || fail "a C program does not run"

# A program of 32 bits, as far as its compiler says, is refused in words.
# shellcheck disable=SC2046
if "$cc" -U__SIZEOF_POINTER__ -D__SIZEOF_POINTER__=4 -fsyntax-only c.c $(flags) 2> said; then
    fail "a 32-bit program builds"
fi
grep -q '#error "libipcdoor is for 64-bit programs' said || fail "a 32-bit program is not told so: $(cat said)"

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
TALK
on_both talk.sh hello

env -u MAKEFLAGS -u MAKELEVEL make -s -C "$top" uninstall BUILD="$build" DESTDIR="$work/root" \
    PREFIX=/usr > uninstall.log 2>&1 || { cat uninstall.log; fail "make uninstall"; }
left=$(find root -type f -o -type l)
[ -z "$left" ] || fail "make uninstall left $left"
echo "note: README's program built against DESTDIR and ran on soft: and door:"
