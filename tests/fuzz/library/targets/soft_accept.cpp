// SPDX-License-Identifier: MIT
// Fuzz target: a listener of the software back end and clients that lie in their
// introductions, their files and their pages. An endpoint comes of a client that
// was honest in all, and of no other; nobody holds up the next one.
#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <list>
#include <string>

#include <ipcdoor/door.hpp>

#include "fuzz/library/check.hpp"
#include "fuzz/library/input.hpp"
#include "fuzz/library/room.hpp"
#include "fuzz/library/soft_props.hpp"

namespace {

using namespace ipcdoor;
namespace soft = backend::soft;
namespace sys = backend::sys;

constexpr soft::shape shape{2, fuzz::page, fuzz::page, fuzz::page};
constexpr soft::seat client_seat{1, 1, fuzz::all_rights};
constexpr soft::introduction honest{soft::message_magic, soft::layout_version, 1,         1,
                                    fuzz::all_rights,    fuzz::page,           fuzz::page};

struct stage {
    stage()
        : listener(door.listen("fuzz", {.slot_bytes = fuzz::page, .data_bytes = fuzz::page})),
          data(fuzz::memory_file(fuzz::page, true, F_SEAL_SHRINK | F_SEAL_GROW)) {
        dir = ipcdoor::owned_fd(sys::open_at(AT_FDCWD, room.names().c_str(), O_PATH | O_DIRECTORY));
    }
    fuzz::room room;
    ipcdoor::door door = room.door();
    ipcdoor::listener listener;
    ipcdoor::owned_fd dir;
    fuzz::honest_slot slot{shape, client_seat};
    ipcdoor::owned_fd data;
    fuzz::wrong_files wrong{shape};
};

class play {
public:
    play(fuzz::input& in, stage& on) : in_(in), on_(on) { on.slot.reset(); }

    void run() {
        for (int client = 0; client < 4 && (client == 0 || !in_.empty()); ++client) {
            connect();
            const int moves = in_.byte() % 4;
            for (int i = 0; i < moves; ++i) fuzz::spoil_header(in_, on_.slot.pages.own_head());
            accept();
        }
        // Those who said nothing leave, and the listener lets go of them.
        sockets_.clear();
        left_ += honest_;
        honest_ = 0;
        accept();
        accept();
    }

private:
    void connect() {
        ipcdoor::owned_fd socket(sys::socket_new(true));
        FUZZ_CHECK(sys::socket_connect(socket.get(), on_.dir.get(), "fuzz.sock", 0) == 0);
        const int fd = socket.get();
        const std::uint8_t how = in_.byte();
        int files[4];
        std::size_t count = 0;
        bool good = true;
        const std::size_t wanted = (how & 3) == 0 ? in_.byte() % 5 : 2;
        for (; count < wanted; ++count) {
            const bool lies = in_.byte() % 8 == 0;
            files[count] = lies         ? on_.wrong.choose(in_)
                           : count == 0 ? on_.slot.file.get()
                                        : on_.data.get();
            good = good && !lies;
        }
        bool says_truth = true;
        const soft::introduction hello = fuzz::introduce(in_, honest, says_truth);
        std::byte message[128] = {};
        std::memcpy(message, &hello, sizeof(hello));
        const std::size_t bytes = (how & 12) == 0 ? in_.byte() % sizeof(message) : sizeof(hello);
        sockets_.push_back(std::move(socket));
        if ((how & 0x70) == 0) return;  // says nothing, or not yet
        sys::socket_send(fd, message, bytes, {files, count});
        if ((how & 0x80) != 0 && (how & 0x70) == 0x10) {
            sockets_.pop_back();  // and leaves
            ++left_;
            return;
        }
        if (good && says_truth && bytes == sizeof(hello) && count == 2) ++honest_;
    }

    bool pages_are_honest() const {
        const soft::control& head = on_.slot.pages.own_head();
        return head.magic == soft::control_magic && head.version == soft::layout_version &&
               head.slots == 2 && head.slot == 1 && head.generation == 1;
    }

    void accept() {
        std::optional<endpoint> end;
        const int error =
            fuzz::error_of([&] { end = on_.listener.try_accept(deadline::at_ns(0)); });
        FUZZ_CHECK(error == 0);
        if (!end) {
            if (pages_are_honest()) FUZZ_CHECK(honest_ == 0);
            honest_ = 0;  // turned away, for their pages
            left_ = 0;
            return;
        }
        FUZZ_CHECK((honest_ > 0 || left_ > 0) && pages_are_honest());
        if (end->peer_info(1).state == IPCDOOR_SLOT_DEAD)
            --left_;
        else
            --honest_;
        FUZZ_CHECK(honest_ >= 0 && left_ >= 0);
        FUZZ_CHECK(end->slot() == 0 && end->memory(1).size() == fuzz::page);
        FUZZ_CHECK(end->data().size() == fuzz::page);
        fuzz::touch(end->memory(1));
        const int rung = fuzz::error_of([&] { end->ring(1, 1); });
        FUZZ_CHECK_ERROR(rung, EPIPE, EAGAIN, EOPNOTSUPP);
    }

    fuzz::input& in_;
    stage& on_;
    std::list<ipcdoor::owned_fd> sockets_;
    int honest_ = 0;  // clients, not accepted yet, who stay
    int left_ = 0;    // and who left
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    static stage here;
    fuzz::keeps_descriptors([&] {
        fuzz::input in(data, size);
        play(in, here).run();
    });
    return 0;
}
