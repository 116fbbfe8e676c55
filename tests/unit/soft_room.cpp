// SPDX-License-Identifier: MIT
#include "unit/soft_room.hpp"

#include <cstring>
#include <thread>

namespace ipcdoor::test {

bool said(const char* words) { return std::strstr(ipcdoor_error(), words) != nullptr; }

soft_pair::soft_pair(const soft_room& room, const listen_options& options) : door(room.door()) {
    listener = door.listen("pair", options);
    std::thread connecting([&] { client = door.connect("pair", 60s); });
    server = listener.accept(60s);
    connecting.join();
    (void)server.wait(lifecycle_vector, 0s);  // that the client joined
}

}  // namespace ipcdoor::test
