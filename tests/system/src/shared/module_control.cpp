// SPDX-License-Identifier: MIT
#include "system/src/shared/module_control.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <system_error>

namespace ipcdoor::test {

namespace {

constexpr const char* driver_directory = "/sys/bus/pci/drivers/ipcdoor-edu";
constexpr const char* node = "/dev/ipcdoor0";
constexpr std::chrono::seconds settle_time{20};

int result_of(long result) { return result < 0 ? -errno : static_cast<int>(result); }

// Calls `change` until `reached` says so.
template <typename Reached, typename Change>
void ensure(const char* what, Reached reached, Change change) {
    const auto deadline = std::chrono::steady_clock::now() + settle_time;
    int last = 0;
    while (!reached()) {
        last = change();
        if (reached()) return;
        if (std::chrono::steady_clock::now() >= deadline)
            throw std::runtime_error(std::string(what) + ": " + std::strerror(-last));
        ::usleep(1000);
    }
}

std::string first_line(const std::filesystem::path& path) {
    std::ifstream file(path);
    std::string line;
    std::getline(file, line);
    return line;
}

}  // namespace

unique_fd open_module_file() {
    unique_fd file(::open(guest_module_path, O_RDONLY | O_CLOEXEC));
    if (!file) throw std::system_error(errno, std::generic_category(), guest_module_path);
    return file;
}

int load_module(const unique_fd& file) {
    return result_of(::syscall(SYS_finit_module, file.get(), "", 0));
}

int unload_module() { return result_of(::syscall(SYS_delete_module, "ipcdoor", O_NONBLOCK)); }

bool module_loaded() { return ::access("/sys/module/ipcdoor/refcnt", F_OK) == 0; }

void ensure_loaded(const unique_fd& file) {
    ensure("the module cannot be loaded", module_loaded, [&] { return load_module(file); });
}

void ensure_unloaded() {
    ensure(
        "the module cannot be unloaded", [] { return !module_loaded(); }, unload_module);
}

long module_references() {
    long count = -1;
    std::ifstream("/sys/module/ipcdoor/refcnt") >> count;
    return count;
}

unique_fd open_door_or_make_node() {
    unique_fd door(::open(node, O_RDWR | O_CLOEXEC));
    if (door) return door;
    unsigned major = 0;
    unsigned minor = 0;
    const std::string numbers = first_line("/sys/class/ipcdoor/ipcdoor0/dev");
    if (std::sscanf(numbers.c_str(), "%u:%u", &major, &minor) != 2)
        throw std::runtime_error("no /dev/ipcdoor0, and sysfs does not know its number");
    ::unlink(node);
    if (::mknod(node, S_IFCHR | 0660, makedev(major, minor)) != 0)
        throw std::system_error(errno, std::generic_category(), "mknod /dev/ipcdoor0");
    door.reset(::open(node, O_RDWR | O_CLOEXEC));
    if (!door) throw std::system_error(errno, std::generic_category(), node);
    return door;
}

std::string edu_address() {
    std::error_code absent;
    for (const auto& entry : std::filesystem::directory_iterator("/sys/bus/pci/devices", absent)) {
        if (first_line(entry.path() / "vendor") == "0x1234" &&
            first_line(entry.path() / "device") == "0x11e8")
            return entry.path().filename();
    }
    return "";
}

bool edu_bound() {
    const std::string link = std::string(driver_directory) + "/" + edu_address();
    return ::access(link.c_str(), F_OK) == 0;
}

edu_attribute::edu_attribute(const char* name) : address_(edu_address()) {
    const std::string path = std::string(driver_directory) + "/" + name;
    file_.reset(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
    if (!file_) throw std::system_error(errno, std::generic_category(), path);
}

int edu_attribute::write() const {
    const int result = result_of(::pwrite(file_.get(), address_.c_str(), address_.size(), 0));
    return result < 0 ? result : 0;
}

void keep_edu_enabled() {
    if (edu_address().empty()) return;
    const std::string path = "/sys/bus/pci/devices/" + edu_address() + "/enable";
    const unique_fd file(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
    if (!file || ::write(file.get(), "1", 1) != 1)
        throw std::system_error(errno, std::generic_category(), path);
}

void ensure_edu_bound() {
    ensure("edu cannot be bound", edu_bound, [] { return edu_attribute("bind").write(); });
}

void ensure_edu_unbound() {
    ensure(
        "edu cannot be unbound", [] { return !edu_bound(); },
        [] { return edu_attribute("unbind").write(); });
}

}  // namespace ipcdoor::test
