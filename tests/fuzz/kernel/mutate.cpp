// SPDX-License-Identifier: MIT
#include "fuzz/kernel/mutate.hpp"

#include <linux/ipcdoor.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/mman.h>

#include <algorithm>
#include <utility>
#include <vector>

namespace kfuzz {

namespace {

using enum field_type;
using kind = op_kind;

// What the registers hold as far as can be told without running: who would read an
// endpoint shall most often get one.
class contents {
public:
    void note(const operation& op) {
        const op_spec& known = spec(op.kind);
        for (std::size_t i = 0; i < known.fields.size(); ++i) {
            const std::uint64_t target = op.values[i];
            if (known.fields[i].type == to_fd && target < fd_registers)
                fds_[target] = kind_made(op);
            if (known.fields[i].type == to_mapping && target < map_registers)
                mapped_[target] = true;
        }
        if (op.kind == kind::fork) forked_[op.get("child")] = true;
    }

    // A register that holds a `wanted`, or any one where there is none.
    std::uint64_t fd(field_type wanted, random_numbers& random) const {
        std::array<std::uint64_t, fd_registers> fitting{};
        std::size_t count = 0;
        for (unsigned i = 0; i < fd_registers; ++i)
            if (fds_[i] == wanted || (wanted == any_fd && fds_[i] != any_fd)) fitting[count++] = i;
        return count == 0 ? random.below(fd_registers) : fitting[random.below(count)];
    }

    std::uint64_t free_fd(random_numbers& random) const {
        for (unsigned i = 0; i < fd_registers; ++i)
            if (fds_[i] == any_fd) return i;
        return random.below(fd_registers);
    }

    std::uint64_t map(random_numbers& random) const {
        std::array<std::uint64_t, map_registers> fitting{};
        std::size_t count = 0;
        for (unsigned i = 0; i < map_registers; ++i)
            if (mapped_[i]) fitting[count++] = i;
        return count == 0 ? random.below(map_registers) : fitting[random.below(count)];
    }

    std::uint64_t free_map(random_numbers& random) const {
        for (unsigned i = 0; i < map_registers; ++i)
            if (!mapped_[i]) return i;
        return random.below(map_registers);
    }

    bool forked(unsigned child) const { return forked_[child]; }

private:
    field_type kind_made(const operation& op) const {
        switch (op.kind) {
            case kind::open: return door;
            case kind::create:
            case kind::attach:
            case kind::connect:
            case kind::accept: return endpoint;
            case kind::listen: return listener;
            case kind::eventfd: return eventfd;
            case kind::epoll_create: return epoll;
            case kind::dup:
            case kind::steal: {
                const std::uint64_t source = op.get("fd");
                return source < fd_registers ? fds_[source] : any_fd;
            }
            default: return endpoint;  // received, or something of no use
        }
    }

    std::array<field_type, fd_registers> fds_ = [] {
        std::array<field_type, fd_registers> empty{};
        empty.fill(any_fd);
        return empty;
    }();
    std::array<bool, map_registers> mapped_{};
    std::array<bool, children> forked_{};
};

contents contents_before(const program& of, std::size_t end) {
    contents known;
    for (std::size_t i = 0; i < end; ++i) known.note(of[i]);
    return known;
}

std::uint64_t odd_number(random_numbers& random) {
    static const std::uint64_t odd[] = {0,          1,          2,           63,         64,
                                        255,        256,        4095,        4096,       4097,
                                        0x7fffffff, 0x80000000, 0xfffffffe,  0xffffffff, 1ull << 32,
                                        1ull << 63, ~0ull,      ~0ull - 4095};
    if (random.one_in(4)) return random.bits();
    return random.pick(odd);
}

std::uint64_t make_bytes(random_numbers& random) {
    static const std::uint64_t usual[] = {0, 0, 4096, 4096, 8192, 12288, 65536};
    static const std::uint64_t odd[] = {
        1,          4095,       4097,  1ull << 20, 1ull << 22, 1ull << 30, (1ull << 30) + 4096,
        1ull << 40, 1ull << 63, ~0ull, ~0ull << 12};
    return random.one_in(8) ? random.pick(odd) : random.pick(usual);
}

std::uint64_t make_flags(std::uint64_t valid, random_numbers& random) {
    if (random.one_in(12)) return odd_number(random) & ~std::uint32_t{0};
    return random.bits() & valid;
}

std::uint64_t make_deadline(random_numbers& random) {
    switch (random.below(16)) {
        case 0:
        case 1:
        case 2:
        case 3:
        case 4:
        case 5: return 0;
        case 6: return 1;
        case 7: return random.one_in(4) ? IPCDOOR_NO_DEADLINE : 2000;
        case 8: return random.one_in(8) ? (1ull << 63) - random.below(2) : 300;
        default: return 10 + random.below(200);
    }
}

std::uint64_t make_mask(random_numbers& random) {
    switch (random.below(8)) {
        case 0: return 0;
        case 1: return 1;
        case 2: return ~0ull;
        case 3: return ~0ull << 1;
        case 4: return random.bits();
        case 5: return std::uint64_t{1} << random.below(64);
        default: return 2 + 4 * random.below(2);
    }
}

std::uint64_t make_signo(random_numbers& random) {
    static const std::uint64_t usual[] = {0, SIGUSR1, SIGUSR2, 36, 36, SIGCHLD, SIGSTOP, SIGCONT};
    if (random.one_in(8)) return SIGKILL;
    return random.one_in(8) ? random.below(70) : random.pick(usual);
}

std::uint64_t make_user(random_numbers& random) {
    static const std::uint64_t usual[] = {0xffffffff, 0xffffffff, 0, 1000, 1001, 0xfffffffe, 77};
    return random.pick(usual);
}

std::uint64_t make_protection(random_numbers& random) {
    static const std::uint64_t usual[] = {PROT_READ | PROT_WRITE,
                                          PROT_READ | PROT_WRITE,
                                          PROT_READ,
                                          PROT_READ,
                                          PROT_NONE,
                                          PROT_READ | PROT_EXEC,
                                          PROT_READ | PROT_WRITE | PROT_EXEC,
                                          PROT_WRITE};
    return random.pick(usual);
}

std::uint64_t make_map_flags(random_numbers& random) {
    static const std::uint64_t usual[] = {MAP_SHARED,
                                          MAP_SHARED,
                                          MAP_SHARED,
                                          MAP_SHARED,
                                          MAP_SHARED | MAP_POPULATE,
                                          MAP_SHARED | MAP_LOCKED,
                                          MAP_PRIVATE,
                                          MAP_SHARED_VALIDATE,
                                          MAP_SHARED_VALIDATE | MAP_SYNC};
    return random.pick(usual);
}

std::uint64_t make_advice(random_numbers& random) {
    static const std::uint64_t usual[] = {
        MADV_DONTNEED, MADV_REMOVE,    MADV_DOFORK,    MADV_DONTFORK,      MADV_WILLNEED,
        MADV_FREE,     MADV_COLD,      MADV_PAGEOUT,   MADV_POPULATE_READ, MADV_POPULATE_WRITE,
        MADV_HUGEPAGE, MADV_MERGEABLE, MADV_WIPEONFORK};
    return random.pick(usual);
}

std::uint64_t make_events(random_numbers& random) {
    static const std::uint64_t usual[] = {EPOLLIN,
                                          EPOLLIN | EPOLLPRI,
                                          EPOLLPRI,
                                          0,
                                          EPOLLIN | (1u << 31),
                                          EPOLLIN | EPOLLONESHOT,
                                          EPOLLIN | (1u << 28),
                                          0xffffffff};
    return random.pick(usual);
}

std::uint64_t make_size(random_numbers& random) {
    static const std::uint64_t odd[] = {0,   1,   8,   16,  24,   40,   56,   72,   112,  128,
                                        160, 200, 208, 256, 1024, 4095, 4096, 4097, 8192, 16383};
    if (!random.one_in(24)) return 0;
    return random.pick(odd) | (random.one_in(3) ? 1u << 16 : 0);
}

std::uint64_t make_pointer(const contents& known, random_numbers& random) {
    if (!random.one_in(20)) return at_buffer;
    if (random.one_in(3)) return at_mapping + known.map(random);
    return random.below(at_kinds);
}

std::uint64_t make_register(const field& of, const contents& known, random_numbers& random) {
    if (of.usual == none && random.one_in(2)) return none;
    if (random.one_in(24)) return random.below(fd_registers);
    return known.fd(random.one_in(24) ? any_fd : of.type, random);
}

std::uint64_t make_value(const field& of, const contents& known, random_numbers& random) {
    switch (of.type) {
        case door:
        case endpoint:
        case listener:
        case eventfd:
        case epoll:
        case any_fd: return make_register(of, known, random);
        case mapping: return known.map(random);
        case to_fd: return random.one_in(6) ? random.below(fd_registers) : known.free_fd(random);
        case to_mapping:
            return random.one_in(6) ? random.below(map_registers) : known.free_map(random);
        case flags: return make_flags(of.parameter, random);
        case number: return odd_number(random);
        case pad: return random.one_in(24) ? odd_number(random) & 0xffffffff : 0;
        case data_bytes: return make_bytes(random);
    case slots: {
            static const std::uint64_t odd[] = {0, 1, 255, 256, 257, 0x80000000, 0xffffffff};
            return random.one_in(10) ? random.pick(odd) : 2 + random.below(3);
        }
        case source: return random.one_in(24) ? odd_number(random) & 0xffffffff : random.below(6);
        case mode: {
            static const std::uint64_t usual[] = {0600, 0666, 0666, 0660, 0644,
                                                  0400, 0,    0006, 0777};
            return random.pick(usual);
        }
        case user: return make_user(random);
        case name:
            return random.one_in(8) ? random.below(names().size()) : random.below(good_names);
        case rights: {
            static const std::uint64_t usual[] = {1, 3, 3, 3, 0, 2, 7, 0xffffffff};
            return random.pick(usual);
        }
        case slot: {
            static const std::uint64_t usual[] = {0, 0, 1, 1, 2, 3, IPCDOOR_ANY_SLOT};
            return random.one_in(16) ? odd_number(random) & 0xffffffff : random.pick(usual);
        }
        case backlog: {
            static const std::uint64_t usual[] = {
                1, 1, 2, 3, 0, IPCDOOR_MAX_BACKLOG, IPCDOOR_MAX_BACKLOG + 1};
            return random.pick(usual);
        }
        case deadline: return make_deadline(random);
        case vector:
            return random.one_in(12) ? odd_number(random) & 0xffffffff : 1 + random.below(3);
        case mask: return make_mask(random);
        case generation: return random.one_in(4) ? random.below(6) : 0;
        case value: return odd_number(random);
        case signo: return make_signo(random);
        case seals: return random.one_in(16) ? odd_number(random) & 0xffffffff : random.below(16);
        case seen: return random.one_in(3) ? 1 + make_pointer(known, random) : 0;
        case size: return make_size(random);
        case pointer: return make_pointer(known, random);
        case fail:
            if (of.parameter != 0) return random.below(of.parameter + 1);
            return random.one_in(12) ? 1 + random.below(random.one_in(3) ? 120 : 30) : 0;
        case map_kind: return random.one_in(16) ? 3 : random.below(3);
        case page: return random.one_in(16) ? odd_number(random) : random.below(3);
        case pages: return random.one_in(16) ? odd_number(random) & 0xffffff : 1 + random.below(3);
        case protection: return make_protection(random);
        case map_flags: return make_map_flags(random);
        case advice: return make_advice(random);
        case events: return make_events(random);
        case timeout: return random.below(3);
        case choice: return random.below(of.parameter + 1);
        case actor: return random.below(actors);
    }
    return 0;
}

unsigned pick_actor(const contents& known, random_numbers& random) {
    const std::uint64_t dice = random.below(16);
    if (dice < 3 && known.forked(0)) return threads;
    if (dice < 5 && known.forked(1)) return threads + 1;
    if (dice < 9) return 0;
    return dice < 13 ? 1 : 2;
}

kind pick_kind(random_numbers& random) {
    static const std::uint64_t total = [] {
        std::uint64_t sum = 0;
        for (std::size_t i = 0; i < op_kinds; ++i) sum += spec(static_cast<kind>(i)).weight;
        return sum;
    }();
    std::uint64_t left = random.below(total);
    for (std::size_t i = 0; i < op_kinds; ++i) {
        const unsigned weight = spec(static_cast<kind>(i)).weight;
        if (left < weight) return static_cast<kind>(i);
        left -= weight;
    }
    return kind::open;
}

operation make_operation(kind of, unsigned by, const contents& known, random_numbers& random) {
    operation made = operation::usual(of, by);
    const auto& fields = spec(of).fields;
    for (std::size_t i = 0; i < fields.size(); ++i) {
        const bool refers = fields[i].type <= to_mapping;
        // most of the rest as usual, so that most calls get beyond the checks
        if (refers || fields[i].type == vector || fields[i].type == deadline || random.one_in(3))
            made.values[i] = make_value(fields[i], known, random);
    }
    return made;
}

void append(program& to, operation op) { to.push_back(op); }

operation simple(kind of, unsigned by,
                 std::initializer_list<std::pair<const char*, std::uint64_t>> fields) {
    operation made = operation::usual(of, by);
    for (const auto& [key, value] : fields) made.set(key, value);
    return made;
}

// How two endpoints meet: f0 is a door, f1 and f2 are theirs most of the time.
program make_meeting(random_numbers& random) {
    const std::uint64_t by_source = random.below(5);
    const std::uint64_t called = 1 + random.below(good_names - 1);
    const std::uint64_t user = random.one_in(2) ? 0 : 1000 + random.below(2);
    program made{simple(kind::open, 0, {{"to", 0}})};
    // those with children take longest, and are rarer for it
    switch (random.below(12)) {
        case 0:  // nobody yet
            break;
        case 1:
        case 2:
        case 3:
        case 4:
            append(made, simple(kind::create, 0,
                                {{"to", 1},
                                 {"source", by_source},
                                 {"slots", 2 + random.below(3)},
                                 {"max_data", 16384},
                                 {"flags", random.below(2)}}));
            append(made, simple(kind::attach, 0, {{"to", 2}, {"from", 1}}));
            break;
        case 5:
        case 6:
        case 7:
        case 8:
            append(made, simple(kind::listen, 0,
                                {{"to", 3},
                                 {"name", called},
                                 {"source", by_source},
                                 {"flags", random.below(2)},
                                 {"backlog", 1 + random.below(2)}}));
            append(made, simple(kind::connect, 0, {{"to", 2}, {"name", called}}));
            append(made, simple(kind::accept, 0, {{"fd", 3}, {"to", 1}}));
            break;
        case 9:
            append(made, simple(kind::create, 0,
                                {{"to", 1},
                                 {"source", by_source},
                                 {"slots", 3},
                                 {"name", called},
                                 {"mode", 0666},
                                 {"max_data", 16384}}));
            append(made, simple(kind::fork, 0, {{"uid", user}}));
            append(made, simple(kind::attach, threads, {{"to", 2}, {"name", called}}));
            break;
        default:
            append(made,
                   simple(kind::listen, 0,
                          {{"to", 3}, {"name", called}, {"mode", 0666}, {"source", by_source}}));
            append(made, simple(kind::fork, 0, {{"uid", user}}));
            append(made, simple(kind::connect, threads, {{"to", 2}, {"name", called}}));
            append(made, simple(kind::accept, 0, {{"fd", 3}, {"to", 1}, {"deadline", 3000}}));
            break;
    }
    return made;
}

void insert_random(program& into, std::size_t at, random_numbers& random) {
    const contents known = contents_before(into, at);
    const unsigned by = pick_actor(known, random);
    into.insert(into.begin() + static_cast<std::ptrdiff_t>(at),
                make_operation(pick_kind(random), by, known, random));
}

void change_field(program& of, random_numbers& random) {
    const std::size_t at = random.below(of.size());
    const auto& fields = spec(of[at].kind).fields;
    if (fields.empty()) return;
    const std::size_t i = random.below(fields.size());
    of[at].values[i] = make_value(fields[i], contents_before(of, at), random);
}

void splice(program& into, const program& other, random_numbers& random) {
    if (other.empty()) return;
    const auto from = static_cast<std::ptrdiff_t>(random.below(other.size()));
    const auto count = static_cast<std::ptrdiff_t>(1 + random.below(6));
    const auto end = std::min(static_cast<std::ptrdiff_t>(other.size()), from + count);
    const auto at = static_cast<std::ptrdiff_t>(random.below(into.size() + 1));
    into.insert(into.begin() + at, other.begin() + from, other.begin() + end);
}

void change_once(program& what, const program& other, random_numbers& random) {
    switch (random.below(10)) {
        case 0:
        case 1:
        case 2: insert_random(what, random.below(what.size() + 1), random); break;
        case 3:
            if (what.size() > min_operations)
                what.erase(what.begin() + static_cast<std::ptrdiff_t>(random.below(what.size())));
            break;
        case 4:
            what[random.below(what.size())].actor =
                static_cast<std::uint8_t>(pick_actor(contents_before(what, what.size()), random));
            break;
        case 5: std::swap(what[random.below(what.size())], what[random.below(what.size())]); break;
        case 6: splice(what, other, random); break;
        case 7: {
            const operation again = what[random.below(what.size())];
            what.insert(what.begin() + static_cast<std::ptrdiff_t>(random.below(what.size() + 1)),
                        again);
            break;
        }
        default: change_field(what, random); break;
    }
}

// Nobody runs what an unborn child should: t0 takes it over.
void adopt_orphans(program& of) {
    std::array<bool, children> forked{};
    for (const operation& op : of)
        if (op.kind == kind::fork && op.actor < threads) forked[op.get("child")] = true;
    for (operation& op : of)
        if (op.actor >= threads && !forked[op.actor - threads]) op.actor = 0;
}

// Who waits without end is killed in the end, which takes its time: t0 rarely does.
void limit_waits(program& of, random_numbers& random) {
    for (operation& op : of) {
        const auto& fields = spec(op.kind).fields;
        for (std::size_t i = 0; i < fields.size(); ++i)
            if (fields[i].type == deadline && op.values[i] >> 32 != 0 &&
                !random.one_in(op.actor == 0 ? 64 : 4))
                op.values[i] = 100;
    }
}

// Taking the device away waits for grace periods, as giving it back does.
void limit_unplugging(program& of, random_numbers& random) {
    if (random.one_in(3)) return;
    std::erase_if(of, [](const operation& op) { return op.kind == kind::unplug; });
}

void finish(program& of, random_numbers& random) {
    limit_waits(of, random);
    limit_unplugging(of, random);
    while (of.size() < min_operations) insert_random(of, of.size(), random);
    if (of.size() > max_operations) of.resize(max_operations);
    adopt_orphans(of);
}

}  // namespace

program make_program(random_numbers& random) {
    program made = make_meeting(random);
    const std::size_t more = 3 + random.below(12);
    for (std::size_t i = 0; i < more; ++i) insert_random(made, made.size(), random);
    finish(made, random);
    return made;
}

program make_race(random_numbers& random) {
    program made = make_meeting(random);
    const contents known = contents_before(made, made.size());
    const kind first = pick_kind(random);
    std::vector<operation> racing{
        make_operation(first, 1, known, random),
        make_operation(random.one_in(4) ? first : pick_kind(random), 2, known, random)};
    if (random.one_in(2)) racing.push_back(make_operation(pick_kind(random), 0, known, random));
    const std::size_t times = 2 + random.below(4);
    for (std::size_t i = 0; i < times; ++i)
        for (const operation& one : racing) append(made, one);
    finish(made, random);
    return made;
}

program mutate(const program& base, const program& other, random_numbers& random) {
    program changed = base;
    const std::uint64_t times = 1 + random.below(4);
    for (std::uint64_t i = 0; i < times; ++i) change_once(changed, other, random);
    finish(changed, random);
    return changed;
}

}  // namespace kfuzz
