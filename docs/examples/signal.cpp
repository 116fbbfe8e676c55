// Signals with a value:  ./signal wait 2 &  then  ./signal send 42 43
#include <unistd.h>

#include <iostream>
#include <ipcdoor/ipcdoor.hpp>
#include <string>

int main(int argc, char** argv) try {
    ipcdoor::door door;
    const std::string side = argc > 2 ? argv[1] : "";
    if (side == "wait") {
        ipcdoor::signal_box_options options;
        options.admits = [](const ipcdoor::peer_credentials& who) { return who.uid == getuid(); };
        ipcdoor::signal_box box(door, "numbers", options);
        for (int left = std::stoi(argv[2]); left > 0; --left) {
            const ipcdoor::received_signal got = box.receive();
            std::cout << "code " << got.what.code << ", value " << got.what.value << ", uid "
                      << got.sender.uid << ", pid " << got.sender.pid << '\n';
        }
    } else if (side == "send") {
        ipcdoor::signal_sender to(door, "numbers");
        for (int i = 2; i < argc; ++i) to.send({.code = 1, .value = std::stoull(argv[i])});
    } else {
        std::cerr << "usage: signal wait COUNT | send VALUE...\n";
        return 2;
    }
} catch (const std::exception& error) {
    std::cerr << error.what() << '\n';
    return 1;
}
