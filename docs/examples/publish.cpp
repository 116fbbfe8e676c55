// Samples for many readers, without a copy.  ./publish paper &  then some  ./publish 3
#include <chrono>
#include <iostream>
#include <ipcdoor/ipcdoor.hpp>
#include <string>
#include <thread>

struct page {
    std::uint64_t number;
    std::uint64_t square;
};

int main(int argc, char** argv) try {
    ipcdoor::door door;
    const std::string what = argc > 1 ? argv[1] : "1";
    if (what == "paper") {
        ipcdoor::publisher paper(door, "paper");
        for (std::uint64_t number = 1;; ++number) {
            ipcdoor::loan next = paper.lend();
            next.emplace<page>(number, number * number);
            paper.publish(std::move(next));
            std::this_thread::sleep_for(std::chrono::milliseconds(10));
        }
    }
    ipcdoor::subscriber reader(door, "paper", {}, std::chrono::seconds(5));
    std::uint64_t last = 0;
    for (int left = std::stoi(what); left > 0; --left) {
        const ipcdoor::sample next = reader.take(std::chrono::seconds(5));
        const page got = next.as<page>();
        const bool right = got.number > last && got.square == got.number * got.number;
        std::cout << (right ? "a new page\n" : "wrong\n");
        last = got.number;
    }
} catch (const std::exception& error) {
    std::cerr << error.what() << '\n';
    return 1;
}
