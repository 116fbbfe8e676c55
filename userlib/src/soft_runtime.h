// SPDX-License-Identifier: MIT
/*
 * Where the software back end keeps its names: a runtime directory with one
 * directory for each user in it, named by the uid and writable by that user
 * alone, so that nobody can take another's names.
 *
 *	/dev/shm/ipcdoor/		sticky and writable for all, as /tmp is
 *	    1000/			0711, of user 1000
 *		.lock			held while names are made or removed
 *		LABEL.door, LABEL.sock	a listener
 *		LABEL.seg/		a named segment
 *
 * Everything is opened relative to a checked directory's descriptor and without
 * following links, so a path cannot be exchanged after it was checked.
 */
#ifndef IPCDOOR_SRC_SOFT_RUNTIME_H
#define IPCDOOR_SRC_SOFT_RUNTIME_H

#include <optional>
#include <string>

#include "sys.h"

namespace ipcdoor::backend::soft {

struct name {
    std::optional<uid_t> user;
    std::string label;

    static name parse(const char* text);
    std::string socket_file() const { return label + ".sock"; }
    std::string listener_file() const { return label + ".door"; }
    std::string segment_dir() const { return label + ".seg"; }
};

// A user's directory.
struct user_dir {
    owned_fd fd;
    uid_t uid = 0;
};

// An flock() with an end: whoever may take it may also hold it for ever.
// The file must not be removed while locked by others; see segment removal.
class file_lock {
public:
    explicit file_lock(owned_fd file);  // throws failure(EBUSY)
    ~file_lock();
    file_lock(file_lock&&) noexcept = default;
    file_lock& operator=(const file_lock&) = delete;

    int fd() const { return file_.get(); }

private:
    owned_fd file_;
};

class runtime {
public:
    // `path` empty: $IPCDOOR_RUNTIME_DIR or the default directory.
    explicit runtime(const char* path);

    // The caller's own directory, made where it is missing, for a new name.
    user_dir own(const name& name) const;

    // The directory that has `file`, by the rules of names; ENOENT if none has,
    // EPROTOTYPE where there is `other` in its place.
    user_dir find(const name& name, const std::string& file, const std::string& other) const;

    owned_fd lock_file(const user_dir& dir) const;

private:
    std::optional<user_dir> open_user(uid_t uid) const;

    std::string path_;
    owned_fd base_;
};

}  // namespace ipcdoor::backend::soft

#endif  // IPCDOOR_SRC_SOFT_RUNTIME_H
