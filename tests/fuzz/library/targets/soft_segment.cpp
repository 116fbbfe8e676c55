// SPDX-License-Identifier: MIT
// Fuzz target: named segments of the software back end among hostile neighbours.
// Newcomers lie to a living member in their introductions and files, and whoever
// attaches finds a directory whose files say anything. A member goes on, and
// attaching ends in a place or a documented error.
#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <list>
#include <optional>
#include <string>

#include <ipcdoor/door.hpp>

#include "../userlib/src/soft_segment_dir.h"
#include "fuzz/library/check.hpp"
#include "fuzz/library/input.hpp"
#include "fuzz/library/room.hpp"
#include "fuzz/library/soft_props.hpp"

namespace {

using namespace ipcdoor;
namespace soft = backend::soft;
namespace sys = backend::sys;

constexpr std::uint32_t slots = 4;
constexpr soft::shape shape{slots, fuzz::page, 0, 0};

struct stage {
    stage() {
        dir =
            ipcdoor::owned_fd(sys::open_at(AT_FDCWD, room.names().c_str(), O_RDONLY | O_DIRECTORY));
        for (std::uint32_t slot = 0; slot < slots; ++slot) {
            const std::string name = "pages." + std::to_string(slot);
            files[slot] =
                ipcdoor::owned_fd(sys::open_at(dir.get(), name.c_str(), O_RDWR | O_CREAT, 0600));
            pages[slot] = soft::make_slot(files[slot].get(), shape, {slot, 1, fuzz::all_rights});
        }
    }
    // Pages that a hostile member of this slot has made, honest again.
    soft::control& fresh(std::uint32_t slot) {
        soft::control& head = pages[slot].own_head();
        head.magic = soft::control_magic;
        head.version = soft::layout_version;
        head.slots = slots;
        head.slot = slot;
        head.generation = 1;
        head.rights = fuzz::all_rights;
        head.closed = 0;
        return head;
    }
    fuzz::room room;
    ipcdoor::door door = room.door();
    ipcdoor::owned_fd dir;
    ipcdoor::owned_fd files[slots];
    soft::slot_pages pages[slots];
    fuzz::wrong_files wrong{shape};
};

class play {
public:
    play(fuzz::input& in, stage& on) : in_(in), on_(on) {
        for (std::uint32_t slot = 0; slot < slots; ++slot) on.fresh(slot);
    }

    // A member, and newcomers that connect to it.
    void visit() {
        endpoint end = on_.door.create("fuzz", {.slots = slots});
        const ipcdoor::owned_fd segment(
            sys::open_at(on_.dir.get(), "fuzz.seg", O_RDONLY | O_DIRECTORY));
        std::list<ipcdoor::owned_fd> sockets;
        while (!in_.empty()) {
            const std::uint8_t op = in_.byte();
            switch (op % 8) {
                case 0:
                case 1:
                case 2: sockets.push_back(newcomer(segment.get())); break;
                case 3:
                    if (!sockets.empty()) sockets.pop_front();
                    break;
                case 4:
                    fuzz::spoil_control(in_, on_.pages[1 + op / 8 % 3].own_head(), slots);
                    break;
                case 5: {
                    const int error = fuzz::error_of([&] { end.ring(op / 8 % slots, 5); });
                    FUZZ_CHECK_ERROR(error, ENOTCONN, EPIPE, EAGAIN, EOPNOTSUPP);
                    break;
                }
                case 6: {
                    const std::uint32_t slot = op / 8 % slots;
                    const auto state = end.slot_state(slot).state;
                    const int error = fuzz::error_of([&] { fuzz::touch(end.memory(slot)); });
                    FUZZ_CHECK(error == (state == IPCDOOR_SLOT_EMPTY ? ENOTCONN : 0));
                    break;
                }
                default: static_cast<void>(end.wait(all_vectors, deadline::at_ns(0)));
            }
        }
        // The member's own ring, which nobody can spoil.
        end.ring(0, 7);
        const auto event = end.wait(vectors(7), deadline::at_ns(0));
        FUZZ_CHECK(event && event->fired == vectors(7));
    }

    // An attach to a segment whose directory is hostile.
    void attach() {
        soft::remove_segment_dir(on_.dir.get(), "evil.seg");
        FUZZ_CHECK(sys::make_dir_at(on_.dir.get(), "evil.seg", 0700) == 0);
        const ipcdoor::owned_fd segment(
            sys::open_at(on_.dir.get(), "evil.seg", O_RDONLY | O_DIRECTORY));
        soft::segment_file about{soft::segment_magic, soft::layout_version, slots, fuzz::page, 0};
        switch (in_.byte() % 8) {
            case 0: about.magic = in_.number<std::uint64_t>(); break;
            case 1: about.version = in_.byte(); break;
            case 2: about.slots = static_cast<std::uint32_t>(in_.word(slots, 64)); break;
            case 3: about.slot_bytes = in_.word(fuzz::page, fuzz::page); break;
            case 4: about.max_data_bytes = in_.word(0, fuzz::page); break;
            default: break;
        }
        put(segment.get(), "about", &about, in_.byte() % 8 == 0 ? 16 : sizeof(about));
        const auto generations = in_.bytes(in_.byte() % 20);
        if (in_.byte() % 8 != 0) put(segment.get(), "lock", generations.data(), generations.size());
        if (in_.byte() % 8 != 0) put(segment.get(), "data", "", 0);
        std::list<ipcdoor::owned_fd> members;
        for (int count = in_.byte() % 4; count > 0; --count) {
            const std::uint32_t slot = in_.below(slots);
            std::string name = "slot." + std::to_string(slot);
            const char* const generation[] = {".1", ".3", ".4294967295", ".4294967297", ".01", ""};
            name += in_.byte() % 2 == 0 ? ".1" : in_.one_of(generation);
            const int moves = in_.byte() % 3;
            for (int i = 0; i < moves; ++i) fuzz::spoil_header(in_, on_.pages[slot].own_head());
            const std::size_t bytes =
                in_.byte() % 8 == 0 ? fuzz::page * in_.below(4) : shape.slot_file_bytes();
            put(segment.get(), name.c_str(), on_.pages[slot].pages.address(), bytes);
            ipcdoor::owned_fd listening(sys::socket_new(false));
            if (sys::socket_bind(listening.get(), segment.get(), (name + ".sock").c_str()) != 0)
                continue;
            // One that does not listen is dead.
            if (in_.byte() % 4 != 0) sys::socket_listen(listening.get(), 4);
            members.push_back(std::move(listening));
        }
        attach_options options;
        options.read_only = in_.chance();
        if (in_.byte() % 4 == 0) options.slot = in_.byte();
        std::optional<endpoint> end;
        const int error = fuzz::error_of([&] { end = on_.door.attach("evil", options); });
        FUZZ_CHECK_ERROR(error, ENOENT, EPROTO, EINVAL, EBUSY, ENOSPC, EAGAIN, EACCES, EEXIST);
        if (!end) return;
        FUZZ_CHECK(end->slot() < slots || about.slots > slots);
        const int rung = fuzz::error_of([&] { end->ring(end->slot(), 1); });
        FUZZ_CHECK(rung == 0);
        for (std::uint32_t slot = 0; slot < slots && slot < about.slots; ++slot) {
            const int seen = fuzz::error_of([&] { fuzz::touch(end->memory(slot)); });
            FUZZ_CHECK_ERROR(seen, ENOTCONN);
        }
    }

private:
    static void put(int dir, const char* name, const void* bytes, std::size_t count) {
        const ipcdoor::owned_fd file(sys::open_at(dir, name, O_RDWR | O_CREAT, 0600));
        if (file && count > 0)
            FUZZ_CHECK(sys::write_at(file.get(), bytes, count, 0) == static_cast<int>(count));
    }

    ipcdoor::owned_fd newcomer(int segment) {
        ipcdoor::owned_fd socket(sys::socket_new(true));
        // A member that has not looked for long has a full backlog.
        if (sys::socket_connect(socket.get(), segment, "slot.0.1.sock", 0) != 0) return socket;
        const std::uint8_t how = in_.byte();
        const std::uint32_t slot = how % slots;
        soft::control& head = on_.pages[slot].own_head();
        const int moves = how >> 2 & 3;
        for (int i = 0; i < moves; ++i) fuzz::spoil_header(in_, head);
        bool ignored = false;
        const soft::introduction hello = fuzz::introduce(
            in_,
            {soft::message_magic, soft::layout_version, slot, 1, fuzz::all_rights, fuzz::page, 0},
            ignored);
        int files[4];
        std::size_t count = 0;
        const std::size_t wanted = (how & 0x70) == 0 ? in_.byte() % 5 : 1;
        for (; count < wanted; ++count)
            files[count] = in_.byte() % 4 == 0 ? on_.wrong.choose(in_) : on_.files[slot].get();
        if (how < 240) sys::socket_send(socket.get(), &hello, sizeof(hello), {files, count});
        return socket;
    }

    fuzz::input& in_;
    stage& on_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    static stage here;
    fuzz::keeps_descriptors([&] {
        fuzz::input in(data, size);
        play story(in, here);
        if (in.chance())
            story.visit();
        else
            story.attach();
    });
    return 0;
}
