// A list that processes share.  ./heap keep &  then  ./heap one two, and ./heap shows it
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <iostream>
#include <ipcdoor/ipcdoor.hpp>

struct note {
    std::uint64_t next;  // an offset, as the list's head
    char text[48];
};

int main(int argc, char** argv) try {
    ipcdoor::door door;
    const bool keeps = argc == 2 && std::strcmp(argv[1], "keep") == 0;
    // The memory lives as long as anybody is attached.
    ipcdoor::endpoint end =
        keeps ? door.create("notes", {.data_bytes = 1 << 16, .max_data_bytes = 1 << 24, .slots = 8})
              : door.attach("notes");
    ipcdoor::heap heap(end);
    auto* const head = heap.find_or_construct<std::atomic<std::uint64_t>>("head", 0U);
    if (keeps) return ::pause();  // until a signal ends it
    for (int i = 1; i < argc; ++i) {
        // Should this process die before the others can find it, it is freed.
        auto* const added = static_cast<note*>(heap.allocate_owned(sizeof(note)));
        std::strncpy(added->text, argv[i], sizeof added->text - 1);
        added->text[sizeof added->text - 1] = '\0';
        added->next = head->load();
        heap.share(added);
        while (!head->compare_exchange_weak(added->next, heap.offset_of(added))) {
        }
    }
    for (std::uint64_t at = head->load(); at != 0;) {
        const auto* const each = static_cast<const note*>(heap.at(at, sizeof(note)));
        std::cout << each->text << '\n';
        at = each->next;
    }
} catch (const std::exception& error) {
    std::cerr << error.what() << '\n';
    return 1;
}
