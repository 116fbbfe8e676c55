// SPDX-License-Identifier: MIT
#include "unit/soft_room.hpp"

#include <unistd.h>

#include <cstdio>
#include <thread>

namespace ipcdoor::test {

soft_pair::soft_pair(const soft_room& room, const listen_options& options) : door(room.door()) {
    listener = door.listen("pair", options);
    std::thread connecting([&] { client = door.connect("pair", 60s); });
    server = listener.accept(60s);
    connecting.join();
    (void)server.wait(lifecycle_vector, 0s);  // that the client joined
}

bool skipped_without_root() {
    if (::geteuid() == 0) return false;
    std::printf("skipped: only root can become other users\n");
    return true;
}

}  // namespace ipcdoor::test
