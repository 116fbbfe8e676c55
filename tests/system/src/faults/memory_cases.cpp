// SPDX-License-Identifier: MIT
// Fault points of mappings: mmap and the first touch of each kind of page, and what
// takes mappings apart. Each mapping of DATA is counted, for SEAL_WRITE: a count
// that is wrong after a failure would forbid the seal for ever, or allow it too
// early.
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>

#include "system/src/faults/subject.hpp"
#include "uapi/uapi.hpp"

namespace ipcdoor::test {

namespace {

constexpr int rw = PROT_READ | PROT_WRITE;
constexpr std::size_t page = 4096;
constexpr std::size_t data_bytes = 3 * page;
constexpr std::size_t table_bytes = 512 * page;  // what one table of pages maps
constexpr std::size_t region_bytes = 3 * table_bytes;

enum class kind { state, own_slot, peer_slot, data };

// A segment for each attempt; `range` is what is mapped.
class mapping_subject : public subject {
public:
    mapping_subject(const unique_fd& door, kind what) : door_(door), what_(what) {}

    void before() override {
        own_ = create(door_, create_args("", data_bytes));
        // Room for what moves, where there is no page table yet: the first touch needs one.
        void* const region = ::mmap(nullptr, region_bytes, PROT_NONE,
                                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        require(region != MAP_FAILED, "mmap of nothing");
        region_ = region;
        const auto start = reinterpret_cast<std::uintptr_t>(region);
        home_ = static_cast<char*>(region) + (table_bytes - start % table_bytes);
    }

protected:
    int map() {
        void* const memory = ::mmap(home_, bytes(), protection(), MAP_SHARED | MAP_FIXED,
                                    own_.get(), static_cast<off_t>(offset()));
        return memory == MAP_FAILED ? -errno : 0;
    }
    // Takes the mappings away; afterwards nobody may be left that could write DATA.
    void unmap() {
        require(::munmap(region_, region_bytes) == 0, "munmap");
        require(seal(own_, IPCDOOR_SEAL_WRITE) == 0, "mappings are counted wrongly: SEAL_WRITE");
        own_ = {};
    }
    // While there is a mapping that could be written, the seal must be refused.
    void check_counted() {
        if (what_ == kind::data)
            require(seal(own_, IPCDOOR_SEAL_WRITE) == -EBUSY, "a writable mapping is not counted");
    }
    volatile std::uint64_t& word(std::size_t at = 0) const {
        return static_cast<volatile std::uint64_t*>(home_)[at / sizeof(std::uint64_t)];
    }
    char* at(std::size_t offset) const { return static_cast<char*>(home_) + offset; }
    bool writable() const { return what_ == kind::own_slot || what_ == kind::data; }
    std::size_t bytes() const { return what_ == kind::data ? data_bytes : page; }
    int protection() const { return writable() ? rw : PROT_READ; }
    std::uint64_t offset() const {
        switch (what_) {
            case kind::state: return own_.info.state_offset;
            case kind::own_slot: return own_.info.slot_offset;
            case kind::peer_slot: return own_.info.slot_offset + own_.info.slot_bytes;
            default: return own_.info.data_offset;
        }
    }

    const unique_fd& door_;
    const kind what_;
    endpoint own_;
    void* region_ = nullptr;
    void* home_ = nullptr;
};

template <kind What>
class map_subject : public mapping_subject {
public:
    explicit map_subject(const unique_fd& door) : mapping_subject(door, What) {}
    int attempt() override { return map(); }
    void after(int result) override {
        if (result == 0) {
            check_counted();
            if (writable()) {
                word() = 1;
                require(word() == 1, "the mapping does not hold");
            }
        } else if (What == kind::data) {
            require(seal(own_, IPCDOOR_SEAL_WRITE) == 0, "a failed mmap is counted");
        }
        unmap();
    }
};

template <kind What>
class touch_subject : public mapping_subject {
public:
    explicit touch_subject(const unique_fd& door) : mapping_subject(door, What) {}
    void before() override {
        mapping_subject::before();
        require(map() == 0, "mmap");
    }
    int attempt() override {
        if (writable()) {
            word() = 7;
        } else {
            seen_ = word();
        }
        return 0;
    }
    void after(int) override {
        const std::uint64_t expected = writable()            ? 7
                                       : What == kind::state ? IPCDOOR_STATE_MAGIC
                                                             : 0;
        require((writable() ? word() : seen_) == expected, "the touched page holds something else");
        unmap();
    }

private:
    std::uint64_t seen_ = 0;
};

// With DATA mapped and touched.
class mapped_subject : public mapping_subject {
public:
    explicit mapped_subject(const unique_fd& door) : mapping_subject(door, kind::data) {}
    void before() override {
        mapping_subject::before();
        require(map() == 0, "mmap");
        for (std::size_t at = 0; at < data_bytes; at += page) word(at) = at + 1;
    }
    void after(int result) override {
        check_counted();
        check(result);
        unmap();
    }

protected:
    virtual void check(int result) = 0;
};

class split_by_munmap : public mapped_subject {
public:
    using mapped_subject::mapped_subject;
    int attempt() override { return ::munmap(at(page), page) != 0 ? -errno : 0; }

private:
    void check(int result) override {
        if (result != 0) require(word(page) == page + 1, "munmap: failed and was done");
        require(word(0) == 1 && word(2 * page) == 2 * page + 1, "munmap: took too much");
    }
};

class split_by_mprotect : public mapped_subject {
public:
    using mapped_subject::mapped_subject;
    int attempt() override { return ::mprotect(at(page), page, PROT_READ) != 0 ? -errno : 0; }

private:
    void check(int) override {
        for (std::size_t at = 0; at < data_bytes; at += page)
            require(word(at) == at + 1, "mprotect: the mapping does not hold");
    }
};

class move_mapping : public mapped_subject {
public:
    using mapped_subject::mapped_subject;
    int attempt() override {
        void* const moved = ::mremap(home_, data_bytes, data_bytes, MREMAP_MAYMOVE | MREMAP_FIXED,
                                     at(2 * data_bytes));
        return moved == MAP_FAILED ? -errno : 0;
    }

private:
    void check(int result) override {
        const std::size_t where = result == 0 ? 2 * data_bytes : 0;
        for (std::size_t at = 0; at < data_bytes; at += page)
            require(word(where + at) == at + 1, "mremap: the mapping is in neither place");
    }
};

// The child must get none of the mappings, however far fork() comes.
class fork_subject : public mapped_subject {
public:
    using mapped_subject::mapped_subject;
    int attempt() override {
        const pid_t pid = ::fork();
        if (pid != 0) return pid < 0 ? -errno : pid;
        // mincore() fails where nothing is mapped
        unsigned char resident = 0;
        ::_exit(::mincore(home_, page, &resident) != 0 && errno == ENOMEM ? 0 : 1);
    }

private:
    void check(int result) override {
        if (result < 0) return;
        child_status status;
        require(::waitpid(result, &status.raw, 0) == result, "waitpid");
        require(status.exited(0), "fork: the child has the parent's mapping");
    }
};

}  // namespace

void add_memory_cases(std::vector<fault_case>& cases) {
    const std::vector<int> memory{ENOMEM};
    const auto user = caller::user;
    cases.push_back({"mmap STATE", memory, make_subject<map_subject<kind::state>>, user});
    cases.push_back({"mmap its SLOT", memory, make_subject<map_subject<kind::own_slot>>, user});
    cases.push_back(
        {"mmap a peer's SLOT", memory, make_subject<map_subject<kind::peer_slot>>, user});
    cases.push_back({"mmap DATA", memory, make_subject<map_subject<kind::data>>, user});
    cases.push_back({"first touch of STATE", {}, make_subject<touch_subject<kind::state>>, user});
    cases.push_back(
        {"first touch of its SLOT", {}, make_subject<touch_subject<kind::own_slot>>, user});
    cases.push_back(
        {"first touch of a peer's SLOT", {}, make_subject<touch_subject<kind::peer_slot>>, user});
    cases.push_back({"first touch of DATA", {}, make_subject<touch_subject<kind::data>>, user});
    cases.push_back({"munmap amid DATA", memory, make_subject<split_by_munmap>, user});
    cases.push_back({"mprotect amid DATA", memory, make_subject<split_by_mprotect>, user});
    cases.push_back({"mremap of DATA", memory, make_subject<move_mapping>, user});
    cases.push_back({"fork with mappings", {ENOMEM, EAGAIN}, make_subject<fork_subject>, user});
}

}  // namespace ipcdoor::test
