// Answers one request by name:  ./hello &  then  ./hello world
#include <iostream>
#include <ipcdoor/ipcdoor.hpp>

int main(int argc, char** argv) try {
    ipcdoor::door door;  // the kernel module's, or soft: where it is not loaded
    if (argc > 1) {
        ipcdoor::channel server(door.connect("hello", std::chrono::seconds(5)));
        std::cout << server.call(argv[1], std::chrono::seconds(5)).text() << '\n';
    } else {
        ipcdoor::listener names = door.listen("hello");
        ipcdoor::channel client(names.accept());
        ipcdoor::message request = client.receive();
        client.reply(request, "hello, " + std::string(request.text()));
    }
} catch (const ipcdoor::error& error) {
    std::cerr << error.what() << '\n';
    return 1;
}
