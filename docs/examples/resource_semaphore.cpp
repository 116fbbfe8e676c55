// Places that come back when their holder dies:  ./resource_semaphore hold 60 &  then
// ./resource_semaphore hold 0; with two such sleepers a third one waits, until one is killed.
#include <chrono>
#include <iostream>
#include <ipcdoor/ipcdoor.hpp>
#include <string>
#include <thread>

int main(int argc, char** argv) try {
    if (argc != 3 || std::string(argv[1]) != "hold") {
        std::cerr << "usage: resource_semaphore hold SECONDS\n";
        return 2;
    }
    ipcdoor::door door;
    ipcdoor::resource_semaphore places(door, "places", {.units = 2});
    places.acquire(std::chrono::seconds(30));
    std::cout << "got one, " << places.value() << " free" << std::endl;
    std::this_thread::sleep_for(std::chrono::seconds(std::stoi(argv[2])));
    places.release();
} catch (const std::exception& error) {
    std::cerr << error.what() << '\n';
    return 1;
}
