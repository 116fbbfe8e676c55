// SPDX-License-Identifier: MIT
#include "system/src/faults/injector.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstdlib>
#include <fstream>
#include <stdexcept>
#include <system_error>

namespace ipcdoor::test {

namespace {

constexpr const char* fail_nth_path = "/proc/thread-self/fail-nth";
constexpr const char* debugfs = "/sys/kernel/debug/";

void set(const std::string& path, const std::string& value) {
    if (!(std::ofstream(debugfs + path) << value << std::flush))
        throw std::runtime_error(debugfs + path + ": cannot be set to " + value);
}

// Linux (6.1) does not look whether it got the files of an interrupt in /proc, and warns
// when it removes one that is not there. So these, and nothing else, always have memory;
// which caches may fail is said at boot.
void spare_proc() {
    int may_fail = 0;
    std::ifstream("/sys/kernel/slab/kmalloc-64/failslab") >> may_fail;
    if (may_fail != 1)
        throw std::runtime_error("no cache may fail: boot with slub_debug=A;-,proc_dir_entry");
    set("failslab/cache-filter", "Y");
}

}  // namespace

std::string injection_lacks() {
    if (::access(fail_nth_path, F_OK) != 0)
        return std::string("no ") + fail_nth_path + " (CONFIG_FAULT_INJECTION)";
    const struct {
        const char* directory;
        const char* symbol;
    } needed[] = {{"failslab", "CONFIG_FAILSLAB"},
                  {"fail_page_alloc", "CONFIG_FAIL_PAGE_ALLOC"},
                  {"fail_usercopy", "CONFIG_FAULT_INJECTION_USERCOPY"}};
    for (const auto& each : needed)
        if (::access((std::string(debugfs) + each.directory).c_str(), F_OK) != 0)
            return std::string("no ") + debugfs + each.directory + " (" + each.symbol + ")";
    return "";
}

void configure_injection() {
    for (const char* each : {"failslab", "fail_page_alloc", "fail_usercopy"})
        set(std::string(each) + "/verbose", "0");
    set("failslab/ignore-gfp-wait", "N");
    set("fail_page_alloc/ignore-gfp-wait", "N");
    set("fail_page_alloc/ignore-gfp-highmem", "N");
    set("fail_page_alloc/min-order", "0");
    spare_proc();
}

injector::injector() : file_(::open(fail_nth_path, O_RDWR | O_CLOEXEC)) {
    if (!file_) throw std::system_error(errno, std::generic_category(), fail_nth_path);
}

void injector::arm(unsigned nth) const {
    char text[16];
    const auto end = std::to_chars(text, text + sizeof text, nth).ptr;
    if (::pwrite(file_.get(), text, static_cast<std::size_t>(end - text), 0) != end - text)
        throw std::system_error(errno, std::generic_category(), "fail-nth");
}

bool injector::disarm() const {
    // Both calls copy from and to user space: the fault may hit them, and then it
    // was still to come.
    char text[16] = {};
    const bool read = ::pread(file_.get(), text, sizeof text - 1, 0) > 0;
    while (::pwrite(file_.get(), "0", 1, 0) != 1)
        if (errno != EFAULT && errno != ENOMEM)
            throw std::system_error(errno, std::generic_category(), "fail-nth");
    return read && std::atoi(text) == 0;
}

}  // namespace ipcdoor::test
