// SPDX-License-Identifier: MIT
// Fault points of the door: open, GET_INFO, CREATE, ATTACH, LISTEN, CONNECT, ACCEPT.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "system/src/faults/subject.hpp"
#include "uapi/uapi.hpp"

namespace ipcdoor::test {

namespace {

constexpr int rw = PROT_READ | PROT_WRITE;
constexpr const char* label = "fault";

class open_subject : public subject {
public:
    explicit open_subject(const unique_fd&) {}
    int attempt() override {
        const int fd = ::open("/dev/ipcdoor0", O_RDWR | O_CLOEXEC);
        return fd < 0 ? -errno : fd;
    }
    void after(int result) override { unique_fd(result).reset(); }
};

class get_info_subject : public subject {
public:
    explicit get_info_subject(const unique_fd& door) : door_(door) {}
    int attempt() override { return call(door_, IPCDOOR_IOC_GET_INFO, &info_); }
    void after(int) override { info_ = {}; }

private:
    const unique_fd& door_;
    ipcdoor_info info_{};
};

// With more than one page of each kind.
ipcdoor_create large_args(const std::string& name) {
    auto args = create_args(name, 3 * 4096);
    args.slots = 5;
    args.flags = IPCDOOR_CREATE_STAMPS;
    return args;
}

class create_subject : public subject {
public:
    create_subject(const unique_fd& door, const std::string& name)
        : door_(door), args_(large_args(name)) {}
    int attempt() override { return call(door_, IPCDOOR_IOC_CREATE, &args_); }
    void after(int result) override {
        endpoint made;
        made.fd.reset(result);
        made.info = args_.info;
        if (result < 0) return;
        require(map_data(made, rw).word() == 0, "CREATE: DATA is not zero");
        require(state_of(map_state(made)).magic == IPCDOOR_STATE_MAGIC, "CREATE: no STATE");
    }

private:
    const unique_fd& door_;
    ipcdoor_create args_;
};

struct create_anonymous : create_subject {
    explicit create_anonymous(const unique_fd& door) : create_subject(door, "") {}
};

// A name that stayed behind would make the next attempt EEXIST.
struct create_named : create_subject {
    explicit create_named(const unique_fd& door) : create_subject(door, label) {}
};

class create_full_table : public create_subject {
public:
    explicit create_full_table(const unique_fd& door)
        : create_subject(door, ""), table_(door.get()) {}
    void before() override { table_.take_last(); }
    void after(int result) override {
        create_subject::after(result);
        table_.give_back_last();
    }

private:
    full_table table_;
};

class attach_subject : public subject {
public:
    explicit attach_subject(const unique_fd& door) : door_(door) {}
    int attempt() override { return call(door_, IPCDOOR_IOC_ATTACH, &args_); }
    void after(int result) override {
        unique_fd(result).reset();
        if (result >= 0)
            require(take(segment_, lifecycle_bit).error == 0, "ATTACH: nobody was told");
        require((poll_now(segment_.get()) & POLLERR) == 0, "ATTACH: the other end broke");
        segment_ = {};
    }

protected:
    const unique_fd& door_;
    endpoint segment_;
    ipcdoor_attach args_{};
};

class attach_by_name : public attach_subject {
public:
    using attach_subject::attach_subject;
    void before() override {
        segment_ = create(door_, create_args(label));
        args_ = attach_args(label);
    }
};

class attach_by_fd : public attach_subject {
public:
    using attach_subject::attach_subject;
    void before() override {
        segment_ = create(door_);
        args_ = attach_args_fd(segment_.get());
    }
};

// A slot that somebody had gets fresh pages; without them a peer that maps it must
// not notice.
class attach_used_slot : public attach_subject {
public:
    using attach_subject::attach_subject;
    void before() override {
        auto layout = create_args();
        layout.slot_bytes = 3 * 4096;
        segment_ = create(door_, layout);
        const auto first = attach_to(door_, segment_);
        map_slot(first, 1, rw).word() = 1;
        seen_ = map_slot(segment_, 1, PROT_READ);
        require(seen_.word() == 1, "ATTACH: the peer's slot cannot be seen");
        args_ = attach_args_fd(segment_.get());
        args_.slot = 1;
    }
    void after(int result) override {
        if (result >= 0) require(seen_.word() == 0, "ATTACH: the slot's pages are not fresh");
        require(seen_.word(512) == 0 && seen_.word(1024) == 0, "ATTACH: the slot's pages");
        seen_ = mapping();
        take(segment_, lifecycle_bit);
        unique_fd(result).reset();
        segment_ = {};
    }

private:
    mapping seen_;
};

class listen_subject : public subject {
public:
    explicit listen_subject(const unique_fd& door) : door_(door), args_(listen_args(label)) {}
    int attempt() override { return call(door_, IPCDOOR_IOC_LISTEN, &args_); }
    void after(int result) override { unique_fd(result).reset(); }

private:
    const unique_fd& door_;
    ipcdoor_listen args_;
};

// Accepts what waits and closes it.
void drain(const unique_fd& listener) {
    for (;;) {
        ipcdoor_accept args{};
        const unique_fd made(call(listener, IPCDOOR_IOC_ACCEPT, &args));
        if (!made) break;
    }
}

class connect_subject : public subject {
public:
    explicit connect_subject(const unique_fd& door) : door_(door) {
        // one place: a lost one would make the next attempt wait
        auto args = listen_args(label);
        args.backlog = 1;
        listener_ = listen(door, args);
        args_ = connect_args(label);
        args_.deadline_ns = 0;
    }
    int attempt() override { return call(door_, IPCDOOR_IOC_CONNECT, &args_); }
    void after(int result) override {
        unique_fd(result).reset();
        drain(listener_);
    }

private:
    const unique_fd& door_;
    unique_fd listener_;
    ipcdoor_connect args_{};
};

class accept_subject : public subject {
public:
    explicit accept_subject(const unique_fd& door)
        : door_(door), listener_(listen(door, listen_args(label))) {}
    void before() override { client_ = connect(door_, connect_args(label)); }
    int attempt() override { return call(listener_, IPCDOOR_IOC_ACCEPT, &args_); }
    void after(int result) override {
        // It is queued, or accepted, or the server died at birth; nothing between.
        const auto server = peer_info(client_, 0).state;
        if (result >= 0) {
            require(server == IPCDOOR_SLOT_ALIVE, "ACCEPT: the server is not alive");
        } else {
            require(server != IPCDOOR_SLOT_ALIVE, "ACCEPT: failed, and the server is alive");
            require(server == IPCDOOR_SLOT_PENDING || ring(client_, 0, 1) == -EPIPE,
                    "ACCEPT: the server can be rung");
        }
        unique_fd(result).reset();
        drain(listener_);
        require((poll_now(client_.get()) & POLLHUP) != 0, "ACCEPT: the client was not told");
        client_ = {};
    }

private:
    const unique_fd& door_;
    unique_fd listener_;
    endpoint client_;
    ipcdoor_accept args_{};
};

}  // namespace

void add_door_cases(std::vector<fault_case>& cases) {
    const std::vector<int> copies{ENOMEM, EFAULT};
    cases.push_back({"open", copies, make_subject<open_subject>, caller::root});
    cases.push_back({"GET_INFO", {EFAULT}, make_subject<get_info_subject>});
    cases.push_back({"CREATE anonymous", copies, make_subject<create_anonymous>});
    cases.push_back({"CREATE named", copies, make_subject<create_named>});
    cases.push_back({"CREATE, descriptors full", copies, make_subject<create_full_table>});
    cases.push_back({"ATTACH by name", copies, make_subject<attach_by_name>});
    cases.push_back({"ATTACH by descriptor", copies, make_subject<attach_by_fd>});
    cases.push_back({"ATTACH to a used slot", copies, make_subject<attach_used_slot>});
    cases.push_back({"LISTEN", copies, make_subject<listen_subject>});
    cases.push_back({"CONNECT", copies, make_subject<connect_subject>});
    cases.push_back({"ACCEPT", copies, make_subject<accept_subject>});
}

}  // namespace ipcdoor::test
