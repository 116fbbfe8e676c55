// SPDX-License-Identifier: MIT
#include "soft_runtime.h"

#include <fcntl.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "failure.h"

namespace ipcdoor::backend::soft {

namespace {

constexpr const char* default_path = "/dev/shm/ipcdoor";
constexpr std::uint64_t lock_timeout_ns = 5'000'000'000;
constexpr unsigned most_drafts = 100;

// A directory of this mode in spite of the umask; it appears complete.
int make_dir_with_mode(int dir, const char* path, mode_t mode) {
    struct stat about {};
    if (sys::status_at(dir, path, about) == 0) return 0;
    // A process of this number may be making one in another PID namespace, or have died over it.
    const std::string own =
        path + ("." + std::to_string(sys::process_id())) + "." + std::to_string(sys::thread_id());
    std::string draft;
    int rc = -EEXIST;
    for (unsigned attempt = 0; rc == -EEXIST && attempt < most_drafts; ++attempt) {
        draft = own + "." + std::to_string(attempt);
        rc = sys::make_dir_at(dir, draft.c_str(), 0700);
    }
    if (rc < 0) return rc;
    const owned_fd fd(sys::open_at(dir, draft.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
    rc = fd ? sys::change_mode(fd.get(), mode) : fd.get();
    if (rc == 0) rc = sys::rename_new_at(dir, draft.c_str(), path);
    if (rc < 0) sys::remove_dir_at(dir, draft.c_str());
    return rc == -EEXIST ? 0 : rc;
}

// The default directory is for everybody, so whoever comes first makes it.
void make_default_base() {
    const int rc = make_dir_with_mode(AT_FDCWD, default_path, 01777);
    if (rc < 0)
        throw failure(-rc, "cannot make %s: %s; set IPCDOOR_RUNTIME_DIR to a directory of yours",
                      default_path, std::strerror(-rc));
}

// Others could put their own directories in the place of users' ones.
void check_base(int fd, const std::string& path) {
    struct stat about {};
    const int rc = sys::status(fd, about);
    if (rc < 0) throw failure(-rc, "fstat of %s: %s", path.c_str(), std::strerror(-rc));
    const bool trusted = about.st_uid == 0 || about.st_uid == sys::effective_uid();
    const bool sticky = (about.st_mode & S_ISVTX) != 0;
    const bool open_to_others = (about.st_mode & (S_IWGRP | S_IWOTH)) != 0;
    if ((open_to_others || !trusted) && !sticky)
        throw failure(EACCES,
                      "%s belongs to uid %u with mode %o: others could replace what is in it; "
                      "make it yours with mode 0700, or sticky with mode 1777",
                      path.c_str(), about.st_uid, about.st_mode & 07777);
}

}  // namespace

name name::parse(const char* text) {
    name parsed;
    const char* slash = std::strchr(text, '/');
    if (slash != nullptr) parsed.user = static_cast<uid_t>(std::strtoul(text, nullptr, 10));
    parsed.label = slash != nullptr ? slash + 1 : text;
    return parsed;
}

file_lock::file_lock(owned_fd file) : file_(std::move(file)) {
    const std::uint64_t deadline = sys::now_ns() + lock_timeout_ns;
    int rc;
    while ((rc = sys::lock_file(file_.get())) < 0) {
        if (rc != -EAGAIN && rc != -EINTR) throw failure(-rc, "flock: %s", std::strerror(-rc));
        if (sys::now_ns() >= deadline)
            throw failure(EBUSY,
                          "another process holds the lock on these names for seconds: "
                          "lsof on the runtime directory's .lock tells which");
        sys::sleep_ns(1'000'000);
    }
}

file_lock::~file_lock() {
    // Said aloud, for a fork()ed child may hold the same description.
    if (file_) sys::unlock_file(file_.get());
}

runtime::runtime(const char* path) : path_(path) {
    if (path_.empty()) {
        const char* chosen = sys::environment("IPCDOOR_RUNTIME_DIR");
        if (chosen != nullptr && *chosen != '\0') {
            path_ = chosen;
        } else {
            path_ = default_path;
            make_default_base();
        }
    }
    // Only the default must not be a link: it lies where anybody could make one.
    const int flags = O_RDONLY | O_DIRECTORY | (path_ == default_path ? O_NOFOLLOW : 0);
    base_ = owned_fd(sys::open_at(AT_FDCWD, path_.c_str(), flags));
    if (!base_)
        throw failure(-base_.get(), "the runtime directory %s: %s%s", path_.c_str(),
                      std::strerror(-base_.get()), base_.get() == -ENOENT ? "; make it first" : "");
    check_base(base_.get(), path_);
}

std::optional<user_dir> runtime::open_user(uid_t uid) const {
    const std::string entry = std::to_string(uid);
    user_dir dir{
        owned_fd(sys::open_at(base_.get(), entry.c_str(), O_PATH | O_DIRECTORY | O_NOFOLLOW)), uid};
    if (dir.fd.get() == -ENOENT) return std::nullopt;
    if (!dir.fd)
        throw failure(-dir.fd.get(), "%s/%s: %s", path_.c_str(), entry.c_str(),
                      std::strerror(-dir.fd.get()));
    struct stat about {};
    const int rc = sys::status(dir.fd.get(), about);
    if (rc < 0 || about.st_uid != uid || (about.st_mode & (S_IWGRP | S_IWOTH)) != 0)
        throw failure(EACCES,
                      "%s/%s must belong to uid %u and be writable by nobody else, but belongs to "
                      "uid %u with mode %o: remove it",
                      path_.c_str(), entry.c_str(), uid, about.st_uid, about.st_mode & 07777);
    return dir;
}

user_dir runtime::own(const name& name) const {
    const uid_t uid = sys::effective_uid();
    if (name.user && *name.user != uid)
        throw failure(EPERM, "names of uid %u are that user's to make; yours are %u/%s", *name.user,
                      uid, name.label.c_str());
    if (std::optional<user_dir> dir = open_user(uid)) return std::move(*dir);

    const std::string entry = std::to_string(uid);
    const int rc = make_dir_with_mode(base_.get(), entry.c_str(), 0711);
    if (rc < 0)
        throw failure(
            sys::storage_error(rc), "cannot make %s/%s: %s%s", path_.c_str(), entry.c_str(),
            std::strerror(-rc),
            rc == -EACCES ? "; the runtime directory must be yours, or of mode 1777" : "");
    std::optional<user_dir> dir = open_user(uid);
    if (!dir) throw failure(ENOENT, "%s/%s vanished", path_.c_str(), entry.c_str());
    return std::move(*dir);
}

user_dir runtime::find(const name& name, const std::string& file, const std::string& other) const {
    const uid_t own = sys::effective_uid();
    const uid_t candidates[] = {name.user.value_or(own), 0};
    const std::size_t count = name.user || own == 0 ? 1 : 2;
    for (std::size_t i = 0; i < count; ++i) {
        std::optional<user_dir> dir = open_user(candidates[i]);
        struct stat about {};
        if (!dir) continue;
        if (sys::status_at(dir->fd.get(), file.c_str(), about) == 0) return std::move(*dir);
        if (sys::status_at(dir->fd.get(), other.c_str(), about) == 0)
            throw failure(EPROTOTYPE,
                          "%s is of the other kind: listeners are for connecting, "
                          "segments for attaching",
                          name.label.c_str());
    }
    throw failure(ENOENT, "no such name: %s", name.label.c_str());
}

owned_fd runtime::lock_file(const user_dir& dir) const {
    owned_fd fd(sys::open_at(dir.fd.get(), ".lock", O_RDWR | O_CREAT | O_NOFOLLOW, 0600));
    if (!fd)
        throw failure(-fd.get(), "the lock of the names of uid %u: %s", dir.uid,
                      std::strerror(-fd.get()));
    return fd;
}

}  // namespace ipcdoor::backend::soft
