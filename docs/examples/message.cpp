// Messages and calls. Answers what clients ask:  ./message &  then  ./message hello
#include <iostream>
#include <ipcdoor/ipcdoor.hpp>

int main(int argc, char** argv) try {
    ipcdoor::door door;
    if (argc > 1) {
        ipcdoor::channel server(door.connect("echo", std::chrono::seconds(5)));
        std::cout << server.call(argv[1], std::chrono::seconds(5)).text() << '\n';
        return 0;
    }
    // Any number of clients, each with rings of its own; in one place.
    ipcdoor::mailbox box(door, "echo");
    for (;;) {
        const ipcdoor::delivery got = box.receive();
        try {
            const std::string answer = "you said: " + std::string(got.content.text());
            if (got.content.is_request()) box.reply(got, answer, std::chrono::seconds(1));
        } catch (const ipcdoor::error& error) {
            std::cerr << error.what() << '\n';  // that client's trouble alone
        }
    }
} catch (const std::exception& error) {
    std::cerr << error.what() << '\n';
    return 1;
}
