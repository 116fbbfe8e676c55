// SPDX-License-Identifier: MIT
#include "fuzz/library/soft_props.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstring>
#include <stdexcept>

namespace ipcdoor::fuzz {

namespace soft = backend::soft;
namespace sys = backend::sys;

honest_slot::honest_slot(const soft::shape& sizes, const soft::seat& where)
    : shape(sizes), seat(where) {
    pages = soft::make_sealed_slot(shape, seat, file);
    const auto* const bytes = static_cast<const unsigned char*>(pages.pages.address());
    fresh_.assign(bytes, bytes + shape.slot_file_bytes());
}

void honest_slot::reset() const {
    std::memcpy(pages.pages.address(), fresh_.data(), fresh_.size());
}

ipcdoor::owned_fd memory_file(std::uint64_t bytes, bool with_pages, int seals) {
    ipcdoor::owned_fd fd(sys::memory_file("hostile"));
    if (!fd || sys::truncate_file(fd.get(), bytes) < 0 ||
        (with_pages && bytes > 0 && sys::allocate_file(fd.get(), 0, bytes) < 0) ||
        sys::add_seals(fd.get(), seals) < 0)
        throw std::runtime_error("no memory file");
    return fd;
}

wrong_files::wrong_files(const soft::shape& shape) {
    constexpr int right = F_SEAL_FUTURE_WRITE | F_SEAL_SHRINK | F_SEAL_GROW;
    const std::uint64_t slot = shape.slot_file_bytes();
    for (const int seals : {0, right & ~F_SEAL_SHRINK, right & ~F_SEAL_GROW,
                            right & ~F_SEAL_FUTURE_WRITE, right, right | F_SEAL_WRITE})
        add_memory(slot, true, seals);
    add_memory(slot, false, right);
    add_memory(slot - page, true, right);
    add_memory(slot + page, true, right);
    add_memory(0, true, right);
    for (const int seals :
         {0, F_SEAL_SHRINK, F_SEAL_GROW, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE,
          F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE})
        add_memory(page, true, seals);
    add_memory(page, false, F_SEAL_SHRINK | F_SEAL_GROW);
    add(::open("/dev/zero", O_RDWR | O_CLOEXEC));
    add(::open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    add(sys::event_counter());
    add(sys::socket_new(true));
}

void wrong_files::add_memory(std::uint64_t bytes, bool with_pages, int seals) {
    files_.push_back(memory_file(bytes, with_pages, seals));
}

soft::introduction introduce(input& in, const soft::introduction& honest, bool& is_honest) {
    soft::introduction hello = honest;
    switch (in.byte() % 16) {
        case 0: hello.magic = in.number<std::uint64_t>(); break;
        case 1: hello.version = in.byte(); break;
        case 2: hello.slot = static_cast<std::uint32_t>(in.word(honest.slot, 1)); break;
        case 3: hello.generation = static_cast<std::uint32_t>(in.word(honest.generation, 2)); break;
        case 4: hello.slot_bytes = in.word(honest.slot_bytes, page); break;
        case 5: hello.data_bytes = in.word(honest.data_bytes, page); break;
        case 6: {
            const auto some = in.bytes(in.byte() % (sizeof(hello) + 1));
            if (!some.empty()) std::memcpy(&hello, some.data(), some.size());
            break;
        }
        default: break;
    }
    // Whatever it says of its rights is its own affair.
    is_honest = hello.magic == honest.magic && hello.version == honest.version &&
                hello.slot == honest.slot && hello.generation == honest.generation &&
                hello.slot_bytes == honest.slot_bytes && hello.data_bytes == honest.data_bytes;
    return hello;
}

void spoil_control(input& in, soft::control& head, std::uint32_t slots) {
    const std::uint8_t how = in.byte();
    soft::outbox& box = head.out[(how >> 4) % slots];
    const std::uint32_t vector = in.byte() % IPCDOOR_VECTORS;
    switch (how & 15) {
        case 0: head.armed = in.word(head.armed, 64); break;
        case 1: head.closed = in.byte() % 2; break;
        case 2:
            head.signal_mask = in.chance() ? ~std::uint64_t{0} : std::uint64_t{1} << vector;
            break;
        case 3: head.signal_number = static_cast<std::uint32_t>(in.word(34, 64)); break;
        case 4: head.signal_thread = static_cast<std::uint32_t>(in.word(1, 64)); break;
        case 5: box.generation = static_cast<std::uint32_t>(in.word(1, 2)); break;
        case 6: box.generation = 1; break;
        case 7: box.total = in.word(box.total, 64); break;
        case 8: box.count[vector] = in.word(box.count[vector], 64); break;
        case 9: box.value[vector] = in.number<std::uint32_t>(); break;
        default:  // honest
            box.value[vector] = in.byte();
            box.count[vector].fetch_add(1);
            box.total.fetch_add(1);
    }
}

void spoil_header(input& in, soft::control& head) {
    const std::uint8_t how = in.byte();
    switch (how % 8) {
        case 0: head.magic = in.word(soft::control_magic, 1); break;
        case 1: head.version = in.byte(); break;
        case 2: head.slots = static_cast<std::uint32_t>(in.word(head.slots, 1)); break;
        case 3: head.slot = static_cast<std::uint32_t>(in.word(head.slot, 1)); break;
        case 4: head.generation = static_cast<std::uint32_t>(in.word(head.generation, 2)); break;
        case 5: head.rights = in.number<std::uint32_t>(); break;
        default: break;
    }
}

int lowest_free_descriptor() {
    const int fd = ::fcntl(0, F_DUPFD_CLOEXEC, 0);
    if (fd >= 0) ::close(fd);
    return fd;
}

}  // namespace ipcdoor::fuzz
