// Adds numbers in another process:  ./rpc serve &  then  ./rpc 2 3
#include <iostream>
#include <ipcdoor/ipcdoor.hpp>
#include <string>

int main(int argc, char** argv) try {
    ipcdoor::door door;
    if (argc == 2 && argv[1] == std::string("serve")) {
        ipcdoor::rpc::server server(door, "calc");
        server.bind("add", [](int a, int b) { return a + b; });
        server.serve();
    } else if (argc == 3) {
        ipcdoor::rpc::client calc(door, "calc", std::chrono::seconds(5));
        std::cout << calc.call<int>("add", std::stoi(argv[1]), std::stoi(argv[2])) << '\n';
    } else {
        std::cerr << "usage: rpc serve | rpc A B\n";
        return 2;
    }
} catch (const std::exception& error) {
    std::cerr << error.what() << '\n';
    return 1;
}
