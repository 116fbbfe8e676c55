// SPDX-License-Identifier: MIT
// Fuzz target: a client of the software back end and a server that lies in its
// listener's file, its introduction, its slot's file and its pages, or leaves. The
// client must come to an honest connection or to a documented error, soon.
#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <optional>
#include <string>

#include <ipcdoor/door.hpp>

#include "../userlib/src/failure.h"
#include "fuzz/library/check.hpp"
#include "fuzz/library/input.hpp"
#include "fuzz/library/poll_hook.hpp"
#include "fuzz/library/room.hpp"
#include "fuzz/library/soft_props.hpp"

namespace {

using namespace ipcdoor;
using namespace std::chrono_literals;
namespace soft = backend::soft;
namespace sys = backend::sys;

constexpr soft::shape shape{2, fuzz::page, 0, 0};
constexpr soft::seat server_seat{0, 1, fuzz::all_rights};
constexpr soft::introduction honest{soft::message_magic, soft::layout_version, 0, 1,
                                    fuzz::all_rights,    fuzz::page,           0};
constexpr soft::listener_file honest_file{soft::listener_magic, soft::layout_version, 0, fuzz::page,
                                          0};

struct stage {
    stage() {
        dir = ipcdoor::owned_fd(sys::open_at(AT_FDCWD, room.names().c_str(), O_PATH | O_DIRECTORY));
        FUZZ_CHECK(sys::socket_bind(listening.get(), dir.get(), "fuzz.sock") == 0);
        FUZZ_CHECK(sys::socket_listen(listening.get(), 8) == 0);
        about = ipcdoor::owned_fd(sys::open_at(dir.get(), "fuzz.door", O_RDWR | O_CREAT, 0600));
        FUZZ_CHECK(about.get() >= 0);
    }
    fuzz::room room;
    ipcdoor::door door = room.door();
    ipcdoor::owned_fd dir;
    ipcdoor::owned_fd listening{sys::socket_new(false)};
    ipcdoor::owned_fd about;
    fuzz::honest_slot slot{shape, server_seat};
    fuzz::wrong_files wrong{shape};
};

class play {
public:
    play(fuzz::input& in, stage& on) : in_(in), on_(on) { on.slot.reset(); }

    void run() {
        const bool file_is_honest = publish();
        const std::uint8_t how = in_.byte();
        silent_ = how % 16 == 0;
        polls_before_answer_ = how >> 4 & 1;
        fuzz::before_poll = [this] { act(); };
        std::optional<endpoint> end;
        // Long enough that only a hang would come to it.
        const int error = fuzz::error_of([&] {
            end = on_.door.connect("fuzz", silent_ ? deadline::at_ns(0) : deadline(3600s));
        });
        fuzz::before_poll = nullptr;
        // A server whose file is no good is turned away before anything is sent.
        ipcdoor::owned_fd late(sys::socket_accept(on_.listening.get()));
        const bool answered = acted_ && !silent_;
        FUZZ_CHECK_ERROR(error, EPROTO, ECONNREFUSED, ETIMEDOUT);
        if (!file_is_honest) FUZZ_CHECK(error == EPROTO || shape_changed_);
        if (file_is_honest && !shape_changed_) FUZZ_CHECK(acted_);
        // One that leaves after an honest answer may be too early or not.
        if (error == 0) FUZZ_CHECK(answered && honest_ && end);
        if (answered && honest_ && !left_ && file_is_honest) FUZZ_CHECK(error == 0);
        if (silent_ && error != EPROTO) FUZZ_CHECK(error == ETIMEDOUT);
        if (!end) return;
        FUZZ_CHECK(end->slot() == 1 && end->memory(0).size() == fuzz::page);
        fuzz::touch(end->memory(0));
        const int rung = fuzz::error_of([&] { end->ring(0, 1); });
        FUZZ_CHECK_ERROR(rung, EPIPE, EAGAIN, EOPNOTSUPP);
    }

private:
    // Of what the listener's file says of its size: no more than this is tried, for
    // the client makes such a slot.
    static constexpr std::uint64_t largest = 8 * fuzz::page;

    // False: the client must see that something is wrong.
    bool publish() {
        soft::listener_file about = honest_file;
        switch (in_.byte() % 16) {
            case 0: about.magic = in_.number<std::uint64_t>(); break;
            case 1: about.version = in_.byte(); break;
            case 2: about.slot_bytes = in_.word(about.slot_bytes, fuzz::page); break;
            case 3: about.data_bytes = in_.word(about.data_bytes, fuzz::page); break;
            case 4: about.slot_bytes = fuzz::page * in_.number<std::uint32_t>(); break;
            case 5: about.data_bytes = fuzz::page * in_.number<std::uint32_t>(); break;
            default: break;
        }
        const std::size_t bytes = in_.byte() % 16 == 0 ? in_.byte() % sizeof(about) : sizeof(about);
        try {
            const soft::shape said{2, about.slot_bytes, about.data_bytes, about.data_bytes};
            said.check(EPROTO);
            if (about.slot_bytes > largest) about.slot_bytes = largest;
            if (about.data_bytes > largest) about.data_bytes = largest;
            shape_changed_ = about.slot_bytes != fuzz::page || about.data_bytes != 0;
        } catch (const backend::failure&) {
            // Refused at once, whatever its size.
        }
        FUZZ_CHECK(::ftruncate(on_.about.get(), 0) == 0);
        FUZZ_CHECK(sys::write_at(on_.about.get(), &about, bytes, 0) == static_cast<int>(bytes));
        return bytes == sizeof(about) && std::memcmp(&about, &honest_file, sizeof(about)) == 0;
    }

    // The server's part, while the client is about to poll.
    void act() {
        if (acted_ || polls_before_answer_-- > 0) return;
        acted_ = true;
        server_ = ipcdoor::owned_fd(sys::socket_accept(on_.listening.get()));
        FUZZ_CHECK(server_.get() >= 0);
        if (silent_) return;
        const int moves = in_.byte() % 4;
        for (int i = 0; i < moves; ++i) fuzz::spoil_header(in_, on_.slot.pages.own_head());
        const soft::control& head = on_.slot.pages.own_head();
        honest_ = head.magic == soft::control_magic && head.version == soft::layout_version &&
                  head.slots == 2 && head.slot == 0 && head.generation == 1;
        int files[4];
        std::size_t count = 0;
        const std::size_t wanted = in_.byte() % 8 == 0 ? in_.byte() % 5 : 1;
        for (; count < wanted; ++count) {
            const bool lies = in_.byte() % 4 == 0;
            files[count] = lies ? on_.wrong.choose(in_) : on_.slot.file.get();
            honest_ = honest_ && !lies;
        }
        bool says_truth = true;
        const soft::introduction hello = fuzz::introduce(in_, honest, says_truth);
        std::byte message[128] = {};
        std::memcpy(message, &hello, sizeof(hello));
        const std::size_t bytes =
            in_.byte() % 8 == 0 ? in_.byte() % sizeof(message) : sizeof(hello);
        honest_ = honest_ && says_truth && count == 1 && bytes == sizeof(hello);
        const bool leaves_first = in_.byte() % 16 == 0;
        if (!leaves_first) sys::socket_send(server_.get(), message, bytes, {files, count});
        honest_ = honest_ && !leaves_first;
        // With what it sent unread, or after it; a silent one would be waited for.
        if (leaves_first || bytes == 0 || in_.chance()) {
            left_ = true;
            server_.reset();
        }
    }

    fuzz::input& in_;
    stage& on_;
    ipcdoor::owned_fd server_;
    bool silent_ = false;
    bool acted_ = false;
    bool honest_ = false;
    bool left_ = false;
    bool shape_changed_ = false;
    int polls_before_answer_ = 0;
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
