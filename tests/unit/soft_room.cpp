// SPDX-License-Identifier: MIT
#include "unit/soft_room.hpp"

#include <thread>

namespace ipcdoor::test {

soft_pair::soft_pair(const soft_room& room, const listen_options& options) : door(room.door()) {
    listener = door.listen("pair", options);
    std::thread connecting([&] { client = door.connect("pair", 60s); });
    server = listener.accept(60s);
    connecting.join();
    (void)server.wait(lifecycle_vector, 0s);  // that the client joined
}

}  // namespace ipcdoor::test
