// Lines from one process to another:  ./pipe in &  then  ls | ./pipe out
#include <iostream>
#include <ipcdoor/ipcdoor.hpp>
#include <string>

int main(int argc, char** argv) try {
    ipcdoor::door door;
    const std::string side = argc > 1 ? argv[1] : "";
    std::string line;
    if (side == "out") {
        ipcdoor::pipe_writer pipe = ipcdoor::open_pipe_writer(door, "lines");
        while (std::getline(std::cin, line)) pipe.write(line + '\n');
    } else if (side == "in") {  // whichever comes first waits for the other
        ipcdoor::pipe_reader pipe = ipcdoor::open_pipe_reader(door, "lines");
        ipcdoor::ipipestream lines(pipe);
        lines.exceptions(std::ios::badbit);  // a writer that was killed is no end
        while (std::getline(lines, line)) std::cout << "> " << line << '\n';
    } else {
        std::cerr << "usage: pipe in|out\n";
        return 2;
    }
} catch (const std::exception& error) {
    std::cerr << error.what() << '\n';
    return 1;
}
