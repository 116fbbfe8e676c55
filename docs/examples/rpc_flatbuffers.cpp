// FlatBuffers as arguments and results:  ./rpc_flatbuffers serve &  then
// ./rpc_flatbuffers tea 2 3.5
#include <cerrno>
#include <cstdint>
#include <iostream>
#include <ipcdoor/ipcdoor.hpp>
#include <span>
#include <string>

#include "rpc_flatbuffers_generated.h"  // flatc --cpp rpc_flatbuffers.fbs

// Any text that both sides agree on.
const char* const signature = "shop.Order->shop.Receipt";

// The bytes as what they have to be, where they lie. Whoever sent them may have lied.
template <class Table>
const Table& verified(std::span<const std::byte> bytes) {
    const auto* at = reinterpret_cast<const std::uint8_t*>(bytes.data());
    flatbuffers::Verifier verifier(at, bytes.size());
    if (!verifier.VerifyBuffer<Table>(nullptr))
        throw ipcdoor::error(EBADMSG, "this is not the FlatBuffer that it should be");
    return *flatbuffers::GetRoot<Table>(at);
}

flatbuffers::DetachedBuffer sell(std::span<const std::byte> arguments) {
    const auto& order = verified<shop::Order>(arguments);
    double total = 0;
    std::string text;
    for (const shop::Line* line : *order.lines()) {
        total += line->count() * line->price();
        text += std::to_string(line->count()) + " x " + line->what()->str();
    }
    flatbuffers::FlatBufferBuilder receipt;
    receipt.Finish(shop::CreateReceiptDirect(receipt, total, text.c_str()));
    return receipt.Release();
}

int main(int argc, char** argv) try {
    ipcdoor::door door;
    if (argc == 2 && argv[1] == std::string("serve")) {
        ipcdoor::rpc::server server(door, "shop");
        server.bind_raw("sell", signature,
                        [](ipcdoor::rpc::context&, auto arguments) { return sell(arguments); });
        server.serve();
    } else if (argc == 4) {
        ipcdoor::rpc::client shop(door, "shop", std::chrono::seconds(5));
        flatbuffers::FlatBufferBuilder order;
        const auto count = static_cast<std::uint32_t>(std::stoul(argv[2]));
        const auto line = shop::CreateLineDirect(order, argv[1], count, std::stod(argv[3]));
        order.Finish(shop::CreateOrder(order, order.CreateVector(&line, 1)));
        const auto result =
            shop.call_raw(std::chrono::seconds(5), "sell", signature,
                          std::as_bytes(std::span(order.GetBufferPointer(), order.GetSize())));
        const auto& receipt = verified<shop::Receipt>(result.bytes());
        std::cout << receipt.text()->str() << ": " << receipt.total() << '\n';
    } else {
        std::cerr << "usage: rpc_flatbuffers serve | rpc_flatbuffers WHAT COUNT PRICE\n";
        return 2;
    }
} catch (const std::exception& error) {
    std::cerr << error.what() << '\n';
    return 1;
}
