# SPDX-License-Identifier: MIT
# Of `objdump -dr` of the module with its tables (-j __ex_table -j __jump_table too): the
# points, "SECTION OFFSET" a line, that no run passes without the kernel reporting a bug.
# Such a point is no gap in the fuzzing: to reach it would be a finding.
#
# It is found out from the code itself, so that nothing else is ever excused: either every
# way on from the point goes through a call that reports something (UBSAN, refcounts,
# lockdep, list and page checks, a WARN's trap), or every way to it goes through a point of
# the first kind. Three facts are taken from the kernel: a flag that says "reported once"
# (.data.once, .data.unlikely) is read where something is to be reported;
# debug_lockdep_rcu_enabled() is false only when lockdep has reported already; and the
# check of a list is false only after it has reported.

# mawk has no strtonum()
function hex(text, i, value) {
    value = 0
    for (i = 1; i <= length(text); i++)
        value = value * 16 + index("0123456789abcdef", substr(text, i, 1)) - 1
    return value
}

# Without its width: a for %eax and %al, r14 for %r14d.
function register(name) {
    sub(/^%/, "", name)
    if (name ~ /^r[0-9]/) sub(/[dwb]$/, "", name)
    else {
        sub(/^[er]/, "", name)
        sub(/[xl]$/, "", name)
    }
    return name
}

# The number of the instruction that a relocation's symbol names, 0 where it is elsewhere.
function resolve(symbol, correction, parts, offset) {
    offset = 0
    if (match(symbol, /[-+]0x[0-9a-f]+$/)) {
        offset = hex(substr(symbol, RSTART + 3))
        if (substr(symbol, RSTART, 1) == "-") offset = -offset
        symbol = substr(symbol, 1, RSTART - 1)
    }
    if (symbol in function_at) {
        split(function_at[symbol], parts, " ")
        symbol = parts[1]
        offset += parts[2]
    }
    return at[symbol, offset + correction] + 0
}

/^Disassembly of section/ { section = $4; sub(/:$/, "", section); next }

# a table of relocations: where code may go on without a jump that says so
/^RELOCATION RECORDS FOR/ { section = ""; next }
section == "" && $2 ~ /^R_X86_64/ { landing[++landings] = $3; next }

/^[0-9a-f]+ <.*>:$/ {
    name = $2
    gsub(/[<>:]/, "", name)
    sub(/^0+/, "", $1)
    function_at[name] = section " " hex($1)
    begins[n + 1] = 1
    next
}

/^ *[0-9a-f]+:\t/ {
    address = $1
    sub(/:$/, "", address)
    n++
    at[section, hex(address)] = n
    where[n] = section " 0x" address
    operation[n] = $2
    operands[n] = $3
    if ($2 ~ /^j/ && $3 ~ /^[0-9a-f]+$/) local_target[n] = section SUBSEP hex($3)
    if ($0 ~ /\.data\.(once|unlikely)/) reports[n] = 1
    if ($2 == "ud2") reports[n] = 1
    if (traced) point[n] = 1
    traced = 0
    next
}

/R_X86_64_/ {
    symbol = $NF
    if (operation[n] ~ /^j/) remote_target[n] = symbol
    if (operation[n] ~ /^call/ && symbol ~ /^__sanitizer_cov_trace_pc-/) traced = 1
    if (symbol ~ /^\.data\.(once|unlikely)/) reports[n] = 1
    if (symbol ~ /^(__warn_printk|refcount_warn_saturate|lockdep_rcu_suspicious|fortify_panic|dump_page|__stack_chk_fail|__ubsan_handle_[a-z_]*|__asan_report_[a-z0-9_]*)-/) reports[n] = 1
    if (operation[n] ~ /^call/) calls[n] = symbol
    if (symbol ~ /^__x86_return_thunk-/) leaves[n] = 1
}

# `after_report`: who goes there has reported something just before
function edge(from, to, after_report) {
    if (to == 0 || to > n) return
    ways[1, from] = ways[1, from] " " to
    if (after_report) return
    ways[2, from] = ways[2, from] " " to
    ways_to[to] = ways_to[to] " " from
}

END {
    for (i = 1; i <= n; i++) {
        op = operation[i]
        # what they answered is tested, maybe after a copy of it
        if (i in calls) {
            if (calls[i] ~ /^(debug_lockdep_rcu_enabled|__list_add_valid|__list_del_entry_valid)-/) answer = "a"
            else if (calls[i] !~ /^__sanitizer_cov_trace_const_cmp/) answer = ""
            tested = 0
        } else if (op == "mov" && answer == "a" && operands[i] ~ /^%eax,%[a-z0-9]+$/ && operands[i] != "%eax,%esi")
            answer = register(substr(operands[i], 6))
        else if (op == "test" && answer != "") {
            split(operands[i], tests, ",")
            tested = tests[1] == tests[2] && register(tests[1]) == answer
        }
        target = 0
        if (i in remote_target) target = resolve(remote_target[i], 4)
        else if (i in local_target) target = at[local_target[i]] + 0
        if (op ~ /^ret/ || leaves[i] || op ~ /^jmp/ && !target) leaves[i] = 1
        else if (op ~ /^jmp/) edge(i, target)
        else if (op ~ /^j/) {
            edge(i, i + 1, tested && op == "jne")
            edge(i, target, tested && op == "je")
            answer = ""
            tested = 0
        } else edge(i, i + 1)
    }

    # backwards from the ends: from where one can leave without a report
    top = 0
    for (i = 1; i <= n; i++)
        if (leaves[i] && !reports[i]) { quiet[i] = 1; stack[++top] = i }
    while (top > 0) {
        i = stack[top--]
        count = split(ways_to[i], from, " ")
        for (j = 1; j <= count; j++)
            if (!quiet[from[j]] && !reports[from[j]]) { quiet[from[j]] = 1; stack[++top] = from[j] }
    }

    # forwards from the beginnings: twice, through everything and through what is quiet
    for (pass = 1; pass <= 2; pass++) {
        top = 0
        for (i = 1; i <= n; i++) if (begins[i]) stack[++top] = i
        for (i = 1; i <= landings; i++) if ((j = resolve(landing[i], 0)) > 0) stack[++top] = j
        while (top > 0) {
            i = stack[top--]
            if (seen[pass, i]) continue
            if (pass == 2 && !quiet[i]) continue
            seen[pass, i] = 1
            count = split(ways[pass, i], to, " ")
            for (j = 1; j <= count; j++) if (!seen[pass, to[j]]) stack[++top] = to[j]
        }
    }
    for (i = 1; i <= n; i++)
        if (point[i] && (!quiet[i] || seen[1, i] && !seen[2, i])) print where[i]
}
