# shellcheck shell=bash
# What the guest's console says went wrong. Sourced after common.sh.

# Complaints of a Linux kernel that no run of ours may cause. One alternative a
# line, extended regular expressions. What a program does to itself ("traps: x[1]
# general protection fault ip:") is not among them.
complaint_patterns='WARNING:
(^|[^E])BUG(:| [a-z])
Oops
\[ cut here \]
Kernel panic
general protection fault[,:]
(invalid opcode|stack segment|divide error|int3): [0-9a-f]+ \[#
PANIC: 
Unable to handle kernel
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

# KCSAN tells of Linux's own races, too. Ours are those where one of the two accesses was
# made by the module, or by what the module called for it (a list's or bit's helper): of
# what happens deeper, as between two callers of the page cache, only a line is left.
without_foreign_races() {
    LC_ALL=C awk '
        function show() { if (ours) printf "%s", report; else print title; report = "" }
        report == "" && /BUG: KCSAN: / {
            title = $0
            sub(/BUG: KCSAN: /, "left out, a race of Linux itself: ", title)
            report = $0 "\n"
            ours = frame = 0
            next
        }
        report == "" { print; next }
        / of [0-9]+ bytes by / { frame = 0 }
        /\+0x[0-9a-f]+\/0x[0-9a-f]+/ { if (++frame <= 2 && /\[ipcdoor/) ours = 1 }
        { report = report $0 "\n" }
        /==========/ { show() }
        END { if (report != "") printf "%s", report }'
}

# What Linux itself leaks where an injected failure hits it: the name of a class whose kset
# cannot be registered (__class_register() of 6.1 frees the rest). The init lists all that
# kmemleak suspects, so the kernel's own count of it goes where nothing of ours is among them.
without_foreign_leaks() {
    LC_ALL=C awk '
        function end_block() { if (block != "" && !(block in foreign)) ours = 1; block = "" }
        { line[NR] = $0 }
        /^kmemleak: unreferenced object/ { end_block(); block = ++blocks; register = name = 0 }
        !/^kmemleak: / { end_block() }
        block != "" {
            of[NR] = block
            if (/ __class_register\+|\] __class_register/) register = 1
            if (/ kobject_set_name\+|\] kobject_set_name/) name = 1
            if (register && name) foreign[block] = 1
        }
        END {
            end_block()
            for (i = 1; i <= NR; ++i) {
                if (i in of && of[i] in foreign) {
                    if (line[i] ~ /unreferenced object/)
                        print "left out, a leak of Linux itself (__class_register)"
                } else if (blocks == 0 || ours || line[i] !~ /kmemleak: .*new suspected memory leaks/) {
                    print line[i]
                }
            }
        }'
}

# Only what follows the line that the init writes before it loads the module:
# what a stock kernel says about an emulated machine is not ours.
console_since_begin() {
    sed -n '/ipcdoor-harness: begin/,$p' "$1" | without_foreign_races | without_foreign_leaks
}

# console_complaints FILE [-n]: prints the complaining lines, with -n numbered.
console_complaints() {
    local pattern
    pattern=$(paste -sd "|" <<< "$complaint_patterns")
    console_since_begin "$1" | grep -aE ${2:+"$2"} -e "$pattern" || true
}

indented() { LC_ALL=C tr -d "\r" | sed "s/^/    | /" >&2; }

console_end() {
    say "the end of the guest's console:"
    tail -n "${2:-40}" "$1" | indented
}

# console_trouble FILE: from the first complaint on, if there is one, else the end.
console_trouble() {
    local first all
    first=$(console_complaints "$1" -n | sed -n 1p)
    first=${first%%:*}
    if [ -z "$first" ]; then
        console_end "$1" 60
        return
    fi
    all=$(console_since_begin "$1")
    say "the guest's console, from the first complaint on:"
    sed -n "$((first > 2 ? first - 2 : 1)),$((first + 97))p" <<< "$all" | indented
    if [ "$(wc -l <<< "$all")" -gt $((first + 97)) ]; then console_end "$1" 15; fi
}
