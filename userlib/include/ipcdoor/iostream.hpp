// SPDX-License-Identifier: MIT
//
// The standard library's streams over a pipe's end or a stream socket, which they
// borrow:
//
//     ipcdoor::opipestream out(writer);
//     out << "answer " << 42 << std::endl;
//
// There is no buffer of their own: characters are put into shared memory and taken
// from there. So from the first character that was put until flush(), and from the
// first that was read until the last that was there, the direction is this thread's.
//
// The end of the stream is eof. An error sets badbit, and with exceptions(badbit) the
// ipcdoor::error comes through: a stream that was cut short is bad, not at its end.
#ifndef IPCDOOR_IOSTREAM_HPP
#define IPCDOOR_IOSTREAM_HPP

#include <cstddef>
#include <exception>
#include <istream>
#include <limits>
#include <ostream>
#include <span>
#include <streambuf>

#include <ipcdoor/deadline.hpp>
#include <ipcdoor/detail/stream_core.hpp>
#include <ipcdoor/detail/stream_end.hpp>

namespace ipcdoor {

class pipe_streambuf : public std::streambuf {
public:
    // `end`: a pipe_reader, pipe_writer or stream_socket, which outlives this.
    template <class End>
    explicit pipe_streambuf(End& end)
        : in_(reads<End> ? &end.core().in() : nullptr),
          out_(writes<End> ? &end.core().out() : nullptr) {}
    pipe_streambuf(const pipe_streambuf&) = delete;
    pipe_streambuf& operator=(const pipe_streambuf&) = delete;

    // Hands over what was put. In an exception's course it is dropped, because it may
    // be half of something.
    ~pipe_streambuf() override {
        try {
            if (std::uncaught_exceptions() > unwinding_) setp(nullptr, nullptr);
            pipe_streambuf::sync();
        } catch (const std::exception&) {
            // flush() before, to be told.
        }
    }

    // Of every wait from now on.
    void set_deadline(deadline until) noexcept { until_ = until; }

protected:
    int_type underflow() override {
        if (in_ == nullptr) return traits_type::eof();
        // Who waits for an answer wants the question to be there.
        hand_over();
        take_back();
        const std::span<const std::byte> bytes = in_->peek(until_.ns());
        if (bytes.empty()) return traits_type::eof();
        // Never written through: putting back another character is refused.
        char* const first = const_cast<char*>(reinterpret_cast<const char*>(bytes.data()));
        setg(first, first, first + bytes.size());
        return traits_type::to_int_type(*first);
    }

    std::streamsize showmanyc() override {
        if (in_ == nullptr) return -1;
        return static_cast<std::streamsize>(in_->readable() -
                                            static_cast<std::size_t>(egptr() - eback()));
    }

    int_type overflow(int_type character) override {
        if (out_ == nullptr) return traits_type::eof();
        hand_over();
        if (traits_type::eq_int_type(character, traits_type::eof()))
            return traits_type::not_eof(character);
        const std::span<std::byte> room =
            out_->reserve(std::numeric_limits<std::size_t>::max(), until_.ns());
        auto* const first = reinterpret_cast<char*>(room.data());
        setp(first, first + room.size());
        return sputc(traits_type::to_char_type(character));
    }

    int sync() override {
        hand_over();
        take_back();
        return 0;
    }

private:
    template <class End>
    static constexpr bool reads = requires(End& end) {
        end.consume(0);
    };
    template <class End>
    static constexpr bool writes = requires(End& end) {
        end.commit(0);
    };

    void hand_over() {
        if (out_ == nullptr) return;
        const auto bytes = static_cast<std::size_t>(pptr() - pbase());
        setp(nullptr, nullptr);
        out_->commit(bytes);
    }

    void take_back() {
        if (in_ == nullptr) return;
        const auto bytes = static_cast<std::size_t>(gptr() - eback());
        setg(nullptr, nullptr, nullptr);
        in_->consume(bytes);
    }

    detail::stream_in* const in_;
    detail::stream_out* const out_;
    const int unwinding_ = std::uncaught_exceptions();
    deadline until_;
};

namespace detail {
// Made before the stream that is given its address.
struct streambuf_holder {
    template <class End>
    explicit streambuf_holder(End& end) : buffer(end) {}
    pipe_streambuf buffer;
};
}  // namespace detail

// Over a pipe_reader or stream_socket.
class ipipestream : private detail::streambuf_holder, public std::istream {
public:
    template <class End>
    explicit ipipestream(End& from) : streambuf_holder(from), std::istream(&buffer) {}
    void set_deadline(deadline until) noexcept { buffer.set_deadline(until); }
};

// Over a pipe_writer or stream_socket.
class opipestream : private detail::streambuf_holder, public std::ostream {
public:
    template <class End>
    explicit opipestream(End& from) : streambuf_holder(from), std::ostream(&buffer) {}
    void set_deadline(deadline until) noexcept { buffer.set_deadline(until); }
};

// Over a stream_socket. Reading that has to wait flushes first.
class iopipestream : private detail::streambuf_holder, public std::iostream {
public:
    template <class End>
    explicit iopipestream(End& from) : streambuf_holder(from), std::iostream(&buffer) {}
    void set_deadline(deadline until) noexcept { buffer.set_deadline(until); }
};

}  // namespace ipcdoor

#endif  // IPCDOOR_IOSTREAM_HPP
