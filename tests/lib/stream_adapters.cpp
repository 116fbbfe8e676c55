// SPDX-License-Identifier: MIT
// What connects byte streams with the rest of the world: iostreams, file descriptors,
// stdio.
#include <fcntl.h>
#include <sys/socket.h>

#include <cerrno>
#include <chrono>
#include <cstdio>
#include <sstream>

#include <ipcdoor/descriptor.hpp>
#include <ipcdoor/iostream.hpp>

#include "lib/stream_support.hpp"

using namespace ipcdoor;
using namespace ipcdoor::test;
using namespace std::chrono_literals;

namespace {

std::string read_fd(int fd) {
    std::string all;
    char some[4096];
    ssize_t bytes;
    while ((bytes = ::read(fd, some, sizeof some)) > 0)
        all.append(some, static_cast<std::size_t>(bytes));
    return all;
}

}  // namespace

// ---- iostreams --------------------------------------------------------------

TEST_CASE("an iostream writes and reads a pipe", "[stream][adapter]") {
    auto [writer, reader] = pipe_pair(50);
    const std::uint64_t lines = scaled(2000);
    blocking_thread writing([&, &to = writer] {
        {
            opipestream out(to);
            for (std::uint64_t i = 0; i < lines; ++i)
                out << "line " << i << ' ' << pattern(i, 0) << i * 0.5 << '\n';
        }
        to.close();
    });
    ipipestream in(reader);
    std::string line;
    std::uint64_t wrong = 0;
    std::uint64_t count = 0;
    for (; std::getline(in, line); ++count) {
        std::ostringstream expected;
        expected << "line " << count << ' ' << count * 0.5;
        if (line != expected.str()) ++wrong;
    }
    CHECK(count == lines);
    CHECK(wrong == 0);
    CHECK(in.eof());
    CHECK_FALSE(in.bad());
}

TEST_CASE("what an iostream was given is there after flush, and not before", "[stream][adapter]") {
    auto [writer, reader] = pipe_pair(50);
    opipestream out(writer);
    out << "secret";
    CHECK(reader.readable() == 0);
    out.flush();
    CHECK(read_once(reader) == "secret");
    // Between flushes others may write.
    writer.write("between", soon);
    out << "!" << std::flush;
    CHECK(read_once(reader) == "between!");
}

TEST_CASE("an iostream gives back what it did not read", "[stream][adapter]") {
    auto [writer, reader] = pipe_pair(50);
    writer.write("12 rest", soon);
    {
        ipipestream in(reader);
        int number = 0;
        in >> number;
        CHECK(number == 12);
        CHECK(in.rdbuf()->in_avail() == 5);
        in.putback('2');
        CHECK(in.get() == '2');
    }
    CHECK(read_once(reader) == " rest");
}

TEST_CASE("an iostream says how much can be read without waiting", "[stream][adapter]") {
    auto [writer, reader] = pipe_pair(50);
    ipipestream in(reader);
    opipestream out(writer);
    CHECK(in.rdbuf()->in_avail() == 0);
    CHECK(out.rdbuf()->in_avail() == -1);
    out << "12345" << std::flush;
    CHECK(in.rdbuf()->in_avail() == 5);
    CHECK(in.get() == '1');
    CHECK(in.rdbuf()->in_avail() == 4);
    char some[16];
    CHECK(in.readsome(some, sizeof some) == 4);
    CHECK(in.rdbuf()->in_avail() == 0);
    out << "67" << std::flush;
    CHECK(in.readsome(some, sizeof some) == 2);
}

TEST_CASE("an iostream that fails at its end says nothing", "[stream][adapter]") {
    auto [writer, reader] = pipe_pair(50);
    {
        opipestream out(writer);
        out << "x";
        reader.close();
    }
    CHECK(error_of([&, &to = writer] { to.write("x", soon); }) == EPIPE);
}

TEST_CASE("an iostream that fails is bad, and says why where asked", "[stream][adapter]") {
    auto [writer, reader] = pipe_pair(50);
    ipipestream in(reader);
    in.set_deadline(20ms);
    CHECK(in.get() == std::istream::traits_type::eof());
    CHECK(in.bad());
    in.clear();
    in.set_deadline(soon);
    writer.write("half", soon);
    writer.abort();
    std::string word;
    in >> word;  // up to where it breaks off
    CHECK(in.bad());
    in.clear();
    in.exceptions(std::ios::badbit);
    CHECK(error_of([&] { (void)in.get(); }) == EPIPE);

    auto [other_writer, other_reader] = pipe_pair(50);
    opipestream out(other_writer);
    out << "x" << std::flush;
    CHECK(out.good());
    other_reader.close();
    out << "y" << std::flush;
    CHECK(out.bad());
}

TEST_CASE("what an iostream holds when an exception passes is not sent", "[stream][adapter]") {
    auto [writer, reader] = pipe_pair(50);
    try {
        opipestream out(writer);
        out << "half of a line";
        throw std::runtime_error("the program fails");
    } catch (const std::runtime_error&) {
    }
    CHECK(reader.readable() == 0);
    writer.write("x", soon);  // the turn is free
    CHECK(read_once(reader) == "x");
}

TEST_CASE("an iostream over a socket asks and is answered", "[stream][adapter]") {
    auto [one, other] = socket_pair(50);
    blocking_thread serving([&, &end = other] {
        iopipestream stream(end);
        int a = 0;
        int b = 0;
        while (stream >> a >> b) stream << a + b << '\n';
    });
    {
        iopipestream stream(one);
        for (int i = 0; i < 100; ++i) {
            stream << i << ' ' << i * 2 << '\n';
            int sum = 0;
            stream >> sum;  // hands over the question
            REQUIRE(sum == i * 3);
        }
    }
    one.shutdown_write();
    serving.join();
}

// ---- descriptors ------------------------------------------------------------

TEST_CASE("a descriptor is copied into a pipe and a pipe into a descriptor", "[stream][adapter]") {
    // More than a kernel's pipe has room for.
    const std::string text = pattern(7, 200'000 + scaled(300'000));
    for (const int flags : {0, O_NONBLOCK}) {
        CAPTURE(flags);
        auto [writer, reader] = pipe_pair(5000);
        auto [from_read, from_write] = kernel_pipe(flags);
        auto [to_read, to_write] = kernel_pipe(flags);
        std::uint64_t in = 0;
        std::uint64_t out = 0;
        std::string got;
        {
            blocking_thread feeding([&, &fd = from_write] {
                std::size_t at = 0;
                while (at < text.size()) {
                    const ssize_t bytes = ::write(fd.get(), text.data() + at,
                                                  std::min<std::size_t>(3000, text.size() - at));
                    if (bytes > 0) at += static_cast<std::size_t>(bytes);
                }
                fd.reset();
            });
            blocking_thread copying_in([&, &fd = from_read, &to = writer] {
                in = copy_from_fd(fd.get(), to, soon);
                to.close();
            });
            blocking_thread copying_out([&, &fd = to_write, &from = reader] {
                out = copy_to_fd(from, fd.get());
                fd.reset();
            });
            if (flags != 0) ::fcntl(to_read.get(), F_SETFL, 0);
            got = read_fd(to_read.get());
        }
        CHECK(in == text.size());
        CHECK(out == text.size());
        CHECK(got == text);
    }
}

TEST_CASE("a descriptor that blocks ends at the deadline, and nothing is lost",
          "[stream][adapter]") {
    for (const int flags : {0, O_NONBLOCK}) {
        CAPTURE(flags);
        auto [writer, reader] = pipe_pair(200'000);
        auto [read_end, write_end] = kernel_pipe(flags);
        CHECK(error_of([&, &to = writer, &fd = read_end] { copy_from_fd(fd.get(), to, 20ms); }) ==
              ETIMEDOUT);
        writer.write("x", soon);  // the turn is free
        CHECK(read_once(reader) == "x");

        const std::string text = pattern(8, 200'000);
        writer.write(text, soon);
        writer.close();
        // A blocking write(2) of more than fits would sleep: to that the deadline does
        // not reach.
        if (flags == 0) continue;
        CHECK(error_of([&, &from = reader, &fd = write_end] {
                  copy_to_fd(from, fd.get(), 20ms);
              }) == ETIMEDOUT);
        std::string got(1 << 20, '\0');
        const ssize_t bytes = ::read(read_end.get(), got.data(), got.size());
        REQUIRE(bytes > 0);
        got.resize(static_cast<std::size_t>(bytes));
        CHECK(got + read_all(reader) == text);
    }
}

TEST_CASE("a descriptor that fails is named, and gives the turn back", "[stream][adapter]") {
    auto [writer, reader] = pipe_pair();
    CHECK(error_of([&, &to = writer] { copy_from_fd(-1, to); }) == EBADF);
    writer.write("x", soon);
    CHECK(error_of([&, &from = reader] { copy_to_fd(from, -1); }) == EBADF);
    try {
        copy_to_fd(reader, 9999);
        FAIL("there is no such descriptor");
    } catch (const error& wrong) {
        CHECK(std::string(wrong.what()).find("descriptor 9999") != std::string::npos);
    }
    CHECK(read_once(reader) == "x");
}

TEST_CASE("a stream that was cut short is copied and then an error", "[stream][adapter]") {
    auto [writer, reader] = pipe_pair();
    auto [read_end, write_end] = kernel_pipe();
    writer.write("half", soon);
    writer.abort();
    CHECK(error_of([&, &from = reader, &fd = write_end] { copy_to_fd(from, fd.get()); }) == EPIPE);
    write_end.reset();
    CHECK(read_fd(read_end.get()) == "half");
}

// ---- stdio ------------------------------------------------------------------

TEST_CASE("stdio writes and reads a pipe", "[stream][adapter]") {
    auto [writer, reader] = pipe_pair(100);
    const int lines = static_cast<int>(scaled(2000));
    int closed = -1;
    blocking_thread writing([&, &to = writer] {
        std::FILE* const out = to_file(std::move(to));
        for (int i = 0; i < lines; ++i) std::fprintf(out, "%d %x\n", i, i);
        closed = std::fclose(out);
    });
    std::FILE* const in = to_file(std::move(reader));
    int wrong = 0;
    int decimal = 0;
    int hexadecimal = 0;
    int count = 0;
    for (; std::fscanf(in, "%d %x", &decimal, reinterpret_cast<unsigned*>(&hexadecimal)) == 2;
         ++count) {
        if (decimal != count || hexadecimal != count) ++wrong;
    }
    writing.join();
    CHECK(closed == 0);
    CHECK(count == lines);
    CHECK(wrong == 0);
    CHECK(std::feof(in) != 0);
    CHECK(std::ferror(in) == 0);
    std::fclose(in);
}

TEST_CASE("stdio tells a stream that was cut short from one that ended", "[stream][adapter]") {
    auto [writer, reader] = pipe_pair(100);
    writer.write("half", soon);
    writer.abort();
    std::FILE* const in = to_file(std::move(reader));
    char text[10] = {};
    CHECK(std::fread(text, 1, 4, in) == 4);
    errno = 0;
    CHECK(std::fgetc(in) == EOF);
    CHECK(errno == EPIPE);
    CHECK(std::ferror(in) != 0);
    std::fclose(in);

    auto [second_writer, second_reader] = pipe_pair(100);
    std::FILE* const out = to_file(std::move(second_writer));
    second_reader.close();
    CHECK(std::fputs("x", out) >= 0);
    errno = 0;
    CHECK(std::fflush(out) == EOF);
    CHECK(errno == EPIPE);
    std::fclose(out);
}

TEST_CASE("stdio over a socket asks and is answered", "[stream][adapter]") {
    auto [one, other] = socket_pair(100);
    bool served_well = false;
    blocking_thread serving([&, &end = other] {
        const socket_files files = to_files(std::move(end));
        int number = 0;
        while (std::fscanf(files.in, "%d", &number) == 1) {
            std::fprintf(files.out, "%d\n", number * 2);
            std::fflush(files.out);
        }
        served_well = std::ferror(files.in) == 0;
        std::fclose(files.in);
        served_well = std::fclose(files.out) == 0 && served_well;
    });
    const socket_files files = to_files(std::move(one));
    for (int i = 0; i < 20; ++i) {
        std::fprintf(files.out, "%d\n", i);
        std::fflush(files.out);
        int answer = -1;
        REQUIRE(std::fscanf(files.in, "%d", &answer) == 1);
        CHECK(answer == i * 2);
    }
    // The half that asks is done; the other one is read to its end.
    CHECK(std::fclose(files.out) == 0);
    CHECK(std::fgetc(files.in) == '\n');
    CHECK(std::fgetc(files.in) == EOF);
    CHECK(std::ferror(files.in) == 0);
    std::fclose(files.in);
    serving.join();
    CHECK(served_well);
}
