#!/bin/bash
# The programs of docs/examples build against what `make install` put in place, without a
# warning, and do what their first lines say: on the software back end here, and on the
# module in a guest.
set -euo pipefail
. "$(dirname "$(realpath "$0")")/installed.bash"

# What else an example is built with.
packages_of() {
    case $1 in
        async_io_uring) echo liburing ;;
        async_sd_event) echo libsystemd ;;
    esac
}

for schema in "$top"/docs/examples/*.fbs; do flatc --cpp "$schema"; done
programs=()
for source in "$top"/docs/examples/*.{c,cpp}; do
    program=$(basename "${source%.*}")
    [ "$program" != hello ] || continue  # the test of the installation has it
    # shellcheck disable=SC2046
    build_program "$program" "$source" $(packages_of "$program")
    programs+=("$program")
done

cat > talk.sh <<'TALK'
set -eu

# until_says TEXT COMMAND…: that is what it says once the other side is there.
until_says() {
    wanted=$1
    shift
    tries=0
    until answer=$("$@" 2> error); do
        tries=$((tries + 1))
        [ "$tries" -lt 100 ] || { echo "$*: $(cat error)"; exit 1; }
        sleep 0.1
    done
    [ "$answer" = "$wanted" ] || { echo "$* said: $answer"; exit 1; }
}

./pipe in > lines & reader=$!
printf 'one\ntwo\n' | ./pipe out
wait "$reader"
[ "$(cat lines)" = "> one
> two" ] || { echo "the pipe's reader said: $(cat lines)"; exit 1; }

./stream & server=$!
echo again > again
until_says again sh -c './stream send < again'
kill "$server"
wait "$server" || true

./signal wait 2 > got & waiter=$!
until_says "" ./signal send 42 43
wait "$waiter"
sed 's/, uid .*//' got > codes
[ "$(cat codes)" = "code 1, value 42
code 1, value 43" ] || { echo "the waiter said: $(cat got)"; exit 1; }

# says SERVER TEXT COMMAND…
says() {
    $1 & pid=$!
    shift
    until_says "$@"
    kill "$pid"
    wait "$pid" || true
}
says "./rpc serve" 5 ./rpc 2 3
says "./rpc_c serve" 5 ./rpc 2 3
says "./rpc serve" 5 ./rpc_c 2 3
says "./rpc_flatbuffers serve" "2 x tea: 7" ./rpc_flatbuffers tea 2 3.5

says "./publish paper" "a new page
a new page
a new page" ./publish 3

says "./latest write" "a newer one
a newer one
a newer one" ./latest 3

./heap keep & keeper=$!
until_says "one" ./heap one
until_says "two
one" ./heap two
until_says "two
one" ./heap
kill "$keeper"
wait "$keeper" || true

./resource_semaphore hold 60 > first & first=$!
until_says "" grep -q . first
./resource_semaphore hold 60 > second & second=$!
until_says "" grep -q . second
./resource_semaphore hold 0 > third & third=$!
kill -9 "$first"
wait "$third"
[ "$(cat first second third)" = "got one, 1 free
got one, 0 free
got one, 0 free" ] || { echo "the holders said: $(cat first second third)"; exit 1; }
kill "$second"
wait "$first" "$second" || true

for server in ./message ./wait_set ./async_epoll ./async_asio ./async_io_uring ./async_sd_event; do
    "$server" & pid=$!
    until_says "you said: hello" ./message hello
    until_says "you said: again" ./message again
    kill "$pid"
    wait "$pid" || true
done
TALK
on_both talk.sh "${programs[@]}"
echo "note: ${#programs[@]} examples built against DESTDIR and ran on soft: and door:"
