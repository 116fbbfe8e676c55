# shellcheck shell=bash
# What the guest's console says went wrong. Sourced after common.sh.

# Complaints of a Linux kernel that no run of ours may cause. One alternative a
# line, extended regular expressions.
complaint_patterns='WARNING:
BUG:
BUG [a-z]
Oops
\[ cut here \]
Kernel panic
general protection fault
stack segment|double fault
Unable to handle kernel
invalid opcode
KASAN|KCSAN|KMSAN|KFENCE|UBSAN
kmemleak: .*(new suspected memory leaks|unreferenced object)
possible recursive locking
possible circular locking|possible irq lock inversion
possible deadlock|inconsistent lock state|inconsistent \{
held lock freed|lock held when returning to user space|locks? held by .* but
suspicious RCU usage|Illegal context switch in RCU
Invalid wait context
scheduling while atomic
sleeping function called from invalid context
DEBUG_LOCKS_WARN_ON
ODEBUG:
refcount_t:
list_(add|del) corruption
Bad page (state|map)|bad rss-counter
Objects remaining in
(rcu|RCU).*(stall|STALL)
self-detected stall
(soft|hard) (lockup|LOCKUP)
LOCKUP
blocked for more than [0-9]+ seconds
workqueue lockup
irq [0-9]+: nobody cared
spinlock .* on CPU
Unbalanced enable for IRQ|Trying to (vfree|free already-free)'

# Only what follows the line that the init writes before it loads the module:
# what a stock kernel says about an emulated machine is not ours.
console_since_begin() { sed -n '/ipcdoor-harness: begin/,$p' "$1"; }

# console_complaints FILE: prints the complaining lines.
console_complaints() {
    local pattern
    pattern=$(paste -sd "|" <<< "$complaint_patterns")
    console_since_begin "$1" | grep -aE "$pattern" || true
}

console_end() {
    local lines=${2:-40}
    say "the end of the guest's console:"
    tail -n "$lines" "$1" | LC_ALL=C tr -d '\r' | sed 's/^/    | /' >&2
}
