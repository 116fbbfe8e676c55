// SPDX-License-Identifier: MIT
// A call whose fault points are made to fail one after the other. For each point
// there is a new subject in a new process: before(), attempt() with the fault,
// after(); then the same once more without a fault, which must work.
#ifndef IPCDOOR_TESTS_SYSTEM_FAULTS_SUBJECT_HPP
#define IPCDOOR_TESTS_SYSTEM_FAULTS_SUBJECT_HPP

#include <memory>
#include <string>
#include <vector>

#include "support/process.hpp"

namespace ipcdoor::test {

class subject {
public:
    subject() = default;
    subject(const subject&) = delete;
    subject& operator=(const subject&) = delete;
    virtual ~subject() = default;

    // What the attempt needs, made anew each time.
    virtual void before() {}
    // The call alone, without an allocation of its own; the result or -errno.
    virtual int attempt() = 0;
    // Checks what the attempt did and takes everything back, also after a failure.
    // Throws std::runtime_error where something is not as it should be.
    virtual void after(int result) = 0;
};

// Who may make the call.
enum class caller {
    user,     // an ordinary user with a door that root opened
    root,     // with a door
    no_door,  // root, and nobody holds the module
};

// Whether the call has fault points at all.
enum class faults {
    some,
    none_needed,  // it may do without: one that allocates and copies nothing that
                  // the kernel could make fail
};

struct fault_case {
    std::string name;
    // errno values that a fault may end in; success is allowed as well, because the
    // kernel often finds another way.
    std::vector<int> allowed;
    std::unique_ptr<subject> (*make)(const unique_fd& door);
    caller who = caller::user;
    faults expected = faults::some;
};

// Takes the descriptors up to 63, so that the next one needs a larger table, once in
// each process. The last of them only for the attempt: looking at what the process
// holds takes one, too.
class full_table {
public:
    explicit full_table(int fd);
    void take_last();
    void give_back_last() { last_.reset(); }

private:
    std::vector<unique_fd> taken_;
    unique_fd last_;
};

void add_door_cases(std::vector<fault_case>& cases);
void add_endpoint_cases(std::vector<fault_case>& cases);
void add_file_cases(std::vector<fault_case>& cases);
void add_memory_cases(std::vector<fault_case>& cases);
void add_module_cases(std::vector<fault_case>& cases);

// Throws std::runtime_error.
void require(bool condition, const char* what);

template <typename Subject>
std::unique_ptr<subject> make_subject(const unique_fd& door) {
    return std::make_unique<Subject>(door);
}

}  // namespace ipcdoor::test

#endif  // IPCDOOR_TESTS_SYSTEM_FAULTS_SUBJECT_HPP
