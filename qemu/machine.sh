# shellcheck shell=bash
# The virtual machine: QEMU's arguments and the kernel's command line, the same
# for qemu/run, qemu/shell and the probe. Sourced after common.sh.

# machine_arguments ACCEL CPUS MEMORY_MB DEVICE ICOUNT: sets the array qemu_arguments.
machine_arguments() {
    local accel=$1 cpus=$2 memory=$3 device=$4 icount=$5
    # Not "pc": there ACPI computes the interrupt routing in a loop, which a kernel
    # with KASAN and kmemleak works on for half a minute and then gives up.
    qemu_arguments=(
        qemu-system-x86_64 -nodefaults -no-user-config -display none -no-reboot
        -machine q35 -smp "$cpus" -m "$memory" -rtc base=utc
    )
    case $accel in
        kvm) qemu_arguments+=(-accel kvm -cpu host) ;;
        tcg)
            if [ "$icount" = yes ]; then
                # One instruction is one nanosecond, and idle time is skipped.
                qemu_arguments+=(-accel tcg,thread=single -icount shift=0,sleep=off)
            else
                qemu_arguments+=(-accel tcg,thread=multi)
            fi
            # 5-level page tables only make every emulated page walk longer.
            qemu_arguments+=(-cpu max,la57=off)
            ;;
    esac
    if [ "$device" != none ]; then qemu_arguments+=(-device "$device"); fi
}

# kernel_command_line ACCEL ICOUNT DEBUG: prints it.
kernel_command_line() {
    local accel=$1 icount=$2 debug=$3
    # A guest that panics ends at once (-no-reboot): it must never hang, and an
    # oops is as good as a panic. A warning lets the guest go on, so that the
    # command's own output is complete; the run fails by the console's text. A
    # debug kernel ends at the first report: what follows is not to be trusted.
    printf '%s' "console=ttyS0,115200 loglevel=7 panic=-1 oops=panic rdinit=/init"
    if [ "$debug" = yes ]; then printf '%s' " panic_on_warn=1"; else printf '%s' " panic_on_warn=0"; fi
    printf '%s' " nokaslr no_timer_check net.ifnames=0"
    if [ "$accel" = tcg ]; then
        # The emulated TSC is one counter for all CPUs; the kernel cannot know.
        printf '%s' " tsc=reliable"
    fi
    if [ "$icount" = yes ]; then printf '%s' " clocksource=tsc"; fi
    printf '\n'
}
