// SPDX-License-Identifier: MIT
#include "fuzz/kernel/kernel_log.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <stdexcept>

namespace kfuzz {

namespace {

// The kernel takes records of up to 1,024 bytes, its prefix included.
constexpr std::size_t record_bytes = 900;

// The console shows what is below it.
int console_level() {
    std::ifstream file("/proc/sys/kernel/printk");
    int level = 0;
    file >> level;
    return level;
}

}  // namespace

kernel_log::kernel_log()
    : fd_(::open("/dev/kmsg", O_WRONLY | O_CLOEXEC)), loudness_(console_level()) {
    if (fd_ < 0) throw std::runtime_error(std::string("/dev/kmsg: ") + std::strerror(errno));
}

kernel_log::~kernel_log() { ::close(fd_); }

void kernel_log::write_line(const std::string& line) const {
    const std::string record = "<7>kfuzz: " + line;
    // where the kernel drops it there is nobody to tell
    [[maybe_unused]] const auto written = ::write(fd_, record.data(), record.size());
}

void kernel_log::record(const program& what) const {
    std::string line = "program";
    for (const operation& op : what) {
        const std::string text = to_text({op});
        if (line.size() + text.size() > record_bytes) {
            write_line(line);
            line.clear();
        }
        line += (line == "program" ? " " : "; ") + text;
    }
    write_line(line);
}

bool kernel_log::complained() const { return console_level() > loudness_; }

void kernel_log::dump() {
    std::ofstream("/proc/sysrq-trigger") << 'c' << std::flush;
    for (;;) ::pause();
}

}  // namespace kfuzz
