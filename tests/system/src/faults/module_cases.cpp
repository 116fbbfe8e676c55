// SPDX-License-Identifier: MIT
// Fault points of the module itself: loading and unloading it, and plugging its edu
// device in and out. A fault in a place where the kernel goes on without (the node,
// the interrupt source msi) makes loading succeed with less; the next loading must
// bring everything.
#include <sys/mman.h>

#include <cerrno>

#include "system/src/faults/subject.hpp"
#include "system/src/shared/module_control.hpp"
#include "uapi/uapi.hpp"

namespace ipcdoor::test {

namespace {

constexpr int rw = PROT_READ | PROT_WRITE;

// One call of each kind.
void check_works(const unique_fd& door) {
    const auto both = attached_pair(door);
    require(ring(both.a, 1, 1) == 0, "RING after loading");
    require(wait_long(both.b, bit(1)).count == 1, "WAIT after loading");
    map_data(both.a, rw).word() = 1;
}

class load_subject : public subject {
public:
    explicit load_subject(const unique_fd&) {}
    void before() override { ensure_unloaded(); }
    int attempt() override { return load_module(file_); }
    void after(int result) override {
        require(module_loaded() == (result == 0), "loaded or not, against the result");
        if (result == 0) check_works(open_door_or_make_node());
        ensure_unloaded();
    }

private:
    unique_fd file_ = open_module_file();
};

class unload_subject : public subject {
public:
    explicit unload_subject(const unique_fd&) {}
    void before() override {
        ensure_loaded(file_);
        check_works(open_door_or_make_node());
    }
    int attempt() override { return unload_module(); }
    void after(int result) override {
        require(module_loaded() == (result != 0), "unloaded or not, against the result");
    }

private:
    unique_fd file_ = open_module_file();
};

std::uint32_t sources(const unique_fd& door) { return get_info(door).sources; }
constexpr std::uint32_t msi_bit = 1U << IPCDOOR_SOURCE_MSI;

class bind_subject : public subject {
public:
    explicit bind_subject(const unique_fd& door) : door_(door) {}
    ~bind_subject() override { ensure_edu_bound(); }
    void before() override { ensure_edu_unbound(); }
    int attempt() override { return switch_.write(); }
    void after(int result) override {
        require(edu_bound() == (result == 0), "bound or not, against the result");
        require(((sources(door_) & msi_bit) != 0) == (result == 0), "GET_INFO: the source msi");
    }

private:
    const unique_fd& door_;
    edu_attribute switch_{"bind"};
};

// With an endpoint on the device, which dies.
class unbind_subject : public subject {
public:
    explicit unbind_subject(const unique_fd& door) : door_(door) {}
    ~unbind_subject() override { ensure_edu_bound(); }
    void before() override {
        ensure_edu_bound();
        auto args = create_args();
        args.source = IPCDOOR_SOURCE_MSI;
        both_ = attached_pair(door_, args);
        data_ = map_data(both_.a, rw);
        data_.word() = 1;
    }
    int attempt() override { return switch_.write(); }
    void after(int result) override {
        require(edu_bound() == (result != 0), "unbound or not, against the result");
        require(ring(both_.a, 1, 1) == (result == 0 ? -ESHUTDOWN : 0), "RING after unplugging");
        data_ = mapping();
        both_ = {};
    }

private:
    const unique_fd& door_;
    edu_attribute switch_{"unbind"};
    pair both_;
    mapping data_;
};

}  // namespace

void add_module_cases(std::vector<fault_case>& cases) {
    const std::vector<int> copies{ENOMEM, EFAULT};
    if (!edu_address().empty()) {
        cases.push_back(
            {"edu bind", {ENOMEM, EFAULT, ENOSPC}, make_subject<bind_subject>, caller::root});
        cases.push_back({"edu unbind", copies, make_subject<unbind_subject>, caller::root});
    }
    cases.push_back({"load the module", copies, make_subject<load_subject>, caller::no_door});
    cases.push_back({"unload the module", copies, make_subject<unload_subject>, caller::no_door});
}

}  // namespace ipcdoor::test
