# shellcheck shell=bash
# What qemu/run and qemu/shell share: the options that describe a guest, and
# turning them into files. Sourced after common.sh and machine.sh.

kernel='' cpus='' memory='' debug=no icount=no device=edu module=yes module_file='' module_args='' append=''
adds=()

guest_usage() {
    cat <<USAGE
  --kernel K            a kernel of qemu/kernels (default: the first one)
  --cpus N              virtual CPUs (default 2; 1 with --icount)
  --memory MB           default 1024, for a debug kernel 2048
  --icount              the guest's TSC counts instructions; one CPU, emulated
  --quick-debug         a debug kernel without kmemleak, debug objects and slab
                        poisoning: KASAN, lockdep and the rest stay, at thrice the speed
  --device edu|none     PCI device to add (default edu, the source of MSIs)
  --no-module           do not load the module
  --module FILE         load this .ko, not the one built for the kernel
  --module-args "A=B…"  module parameters
  --append "ARG…"       kernel arguments; those of several are added up
  --add PATH[=GUEST]    put a file or directory into the guest, by default into
                        /host (which is in PATH and the working directory);
                        programs bring their shared libraries along

Options in the variable IPCDOOR_GUEST come before those given here.
USAGE
}

# guest_option ARGUMENT…: takes one option; sets consumed to the number of
# arguments that it took, 0 when the option is not about the guest.
guest_option() {
    consumed=1
    case $1 in
        --icount) icount=yes; return ;;
        --no-module) module=no; return ;;
        --quick-debug) append="$append kmemleak=off no_debug_objects slub_debug=-"; return ;;
    esac
    consumed=2
    case $1 in
        --kernel | --cpus | --memory | --device | --module | --module-args | --append | --add)
            [ $# -ge 2 ] || fail_setup "$1 needs a value (see --help)"
            ;;
    esac
    case $1 in
        --kernel) kernel=$2 ;;
        --cpus) cpus=$2 ;;
        --memory) memory=$2 ;;
        --device) device=$2 ;;
        --module) module_file=$2 ;;
        --module-args) module_args=$2 ;;
        --append) append="$append $2" ;;
        --add) adds+=(--add "$2") ;;
        *) consumed=0 ;;
    esac
}

# Those of IPCDOOR_GUEST, which are separated by blanks.
guest_options_of_environment() {
    local words=()
    read -ra words <<< "${IPCDOOR_GUEST:-}"
    set -- "${words[@]}"
    while [ $# -gt 0 ]; do
        guest_option "$@"
        [ "$consumed" -gt 0 ] || fail_setup "IPCDOOR_GUEST: unknown option $1 (see --help)"
        shift "$consumed"
    done
}

positive() { [[ $2 =~ ^[1-9][0-9]*$ ]] || fail_setup "$1 is a positive number, not '$2'"; }

# Checks the options and sets release, vmlinuz, module_file and accel.
resolve_guest() {
    if [ -z "$cpus" ]; then
        if [ "$icount" = yes ]; then cpus=1; else cpus=2; fi
    fi
    case $("$TOP/qemu/kernel" --config ${kernel:+"$kernel"}) in
        # it must outlive the races of Linux's own, which console.sh leaves out
        *debug*kcsan*) debug=yes append="$append panic_on_warn=0" ;;
        *debug*) debug=yes ;;
    esac
    if [ -z "$memory" ]; then
        if [ "$debug" = yes ]; then memory=2048; else memory=1024; fi
    fi
    positive --cpus "$cpus"
    positive --memory "$memory"
    [ "$icount" = no ] || [ "$cpus" = 1 ] || fail_setup "--icount counts the instructions of one CPU only"
    case $device in edu | none) ;; *) fail_setup "--device is edu or none, not '$device'" ;; esac

    need qemu-system-x86_64
    read -r release vmlinuz _ <<< "$("$TOP/qemu/kernel" ${kernel:+"$kernel"})" || true
    [ -n "${vmlinuz:-}" ] || fail_setup "no kernel to boot"
    if [ "$module" = yes ]; then
        module_file=${module_file:-$BUILD/kmod/$release/ipcdoor.ko}
        [ -f "$module_file" ] || fail_setup "no $module_file: build it with 'make kmod${kernel:+ K=$kernel}'"
    fi
    if [ "$icount" = yes ]; then accel=tcg; else accel=$("$TOP/qemu/accel" ${kernel:+"$kernel"}); fi
}

guest_description() {
    local how=emulated
    if [ "$accel" = kvm ]; then how=accelerated; fi
    if [ "$icount" = yes ]; then how="emulated, counting instructions"; fi
    echo "$release with $cpus CPU(s), $how"
}

# build_initramfs OUTPUT HARNESS_DIR
build_initramfs() {
    local with_module=()
    if [ "$module" = yes ]; then with_module=(--module "$module_file"); fi
    "$TOP/qemu/initramfs" "$1" "$2" "${with_module[@]}" "${adds[@]}" || exit "$SETUP"
}
