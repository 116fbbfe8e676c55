// SPDX-License-Identifier: MIT
//
// A publisher that says whatever a test wants it to.
#ifndef IPCDOOR_TESTS_LIB_FALSE_PUBLISHER_HPP
#define IPCDOOR_TESTS_LIB_FALSE_PUBLISHER_HPP

#include <chrono>
#include <cstdint>
#include <functional>
#include <string>
#include <thread>

#include <ipcdoor/publish.hpp>
#include <ipcdoor/subscribe.hpp>

#include "lib/lib_support.hpp"

namespace ipcdoor::test {

// A publisher that writes what it likes into its slot, and its only subscriber.
struct false_publisher {
    false_publisher() : name(unique_name()), at(test_door()) {
        house = at.listen(name, {.slot_bytes = publish_slot_bytes(16), .source = source()});
    }
    // `lie` changes the header before it is shown.
    void serve(const std::function<void(publisher_slot&)>& lie) {
        serving = std::thread([this, lie] {
            end = house.accept(soon);
            mine = reinterpret_cast<publisher_slot*>(end.memory().data());
            const auto* theirs =
                reinterpret_cast<const subscriber_slot*>(end.memory(1 - end.slot()).data());
            while (theirs->magic.load() == 0)
                std::this_thread::sleep_for(std::chrono::milliseconds(1));
            std::uint64_t token = 0;
            const int fd = pool.fd();
            while (!giving.give(0, theirs->descriptor_socket.load(),
                                {end.peer_info(1 - end.slot()).pid}, {&fd, 1}, token)) {
            }
            mine->chunk_bytes.store(4096);
            mine->pool_bytes.store(pool.bytes().size());
            mine->chunks.store(4);
            mine->queue_capacity.store(16);
            mine->max_held.store(4);
            mine->pool_token.store(token);
            mine->version_min.store(1);
            mine->version_max.store(1);
            lie(*mine);
            mine->magic.store(publish_magic);
            end.ring(1 - end.slot(), ipcdoor::detail::hello_vector);
        });
    }
    // Puts an entry, honest but for what it says.
    void put(std::uint32_t chunk, std::uint64_t bytes) {
        const std::uint64_t tail = mine->tail.load();
        publish_entry& entry = mine->entries[tail % 16];
        entry.sequence.store(tail + 1);
        entry.bytes.store(bytes);
        entry.chunk.store(chunk);
        mine->tail.store(tail + 1);
        end.ring(1 - end.slot(), ipcdoor::detail::data_vector);
    }
    ~false_publisher() {
        if (serving.joinable()) serving.join();
    }

    std::string name;
    door at;
    listener house;
    memory pool{4 * 4096};
    ipcdoor::detail::descriptor_sender giving;
    endpoint end;
    publisher_slot* mine = nullptr;
    std::thread serving;
};

}  // namespace ipcdoor::test

#endif  // IPCDOOR_TESTS_LIB_FALSE_PUBLISHER_HPP
