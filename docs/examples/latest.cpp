// A latest value.  ./latest write &  then  ./latest 3, which reads three of them
#include <chrono>
#include <iostream>
#include <ipcdoor/ipcdoor.hpp>
#include <string>
#include <thread>

struct position {
    double x;
    double square;
};

int main(int argc, char** argv) try {
    ipcdoor::door door;
    const std::string what = argc > 1 ? argv[1] : "1";
    if (what == "write") {
        ipcdoor::latest_writer<position> out(door, "position");
        for (double x = 1;; ++x) {
            out.write({x, x * x});
            std::this_thread::sleep_for(std::chrono::milliseconds(10));
        }
    }
    ipcdoor::latest_reader<position> in(door, "position");
    std::uint64_t seen = 0;
    for (int left = std::stoi(what); left > 0; --left) {
        const auto next = in.wait_newer(seen, std::chrono::seconds(5));
        if (!next) throw std::runtime_error("nothing was written for five seconds");
        const bool whole = next->value.square == next->value.x * next->value.x;
        std::cout << (next->sequence > seen && whole ? "a newer one\n" : "wrong\n");
        seen = next->sequence;
    }
} catch (const std::exception& error) {
    std::cerr << error.what() << '\n';
    return 1;
}
