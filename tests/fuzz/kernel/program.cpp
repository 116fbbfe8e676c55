// SPDX-License-Identifier: MIT
#include "fuzz/kernel/program.hpp"

#include <linux/ipcdoor.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <sstream>
#include <stdexcept>

namespace kfuzz {

namespace {

using enum field_type;

constexpr std::uint64_t anybody = ~std::uint32_t{0};

// Every ioctl ends with these.
std::vector<field> call(std::vector<field> fields) {
    fields.push_back({"size", size});
    fields.push_back({"at", pointer});
    fields.push_back({"fail", fail});
    return fields;
}

std::vector<op_spec> make_specs() {
    std::vector<op_spec> specs(op_kinds);
    const auto define = [&](op_kind kind, const char* name, unsigned weight,
                            std::vector<field> fields) {
        if (fields.size() > max_fields)
            throw std::logic_error(std::string(name) + ": too many fields");
        specs[static_cast<std::size_t>(kind)] = {name, weight, std::move(fields)};
    };
    using kind = op_kind;

    define(kind::open, "open", 3, {{"to", to_fd}, {"nonblock", choice, 0, 1}});
    define(kind::get_info, "get_info", 3, call({{"fd", door}, {"flags", flags}}));
    define(kind::create, "create", 12,
           call({{"fd", door},
                 {"to", to_fd},
                 {"data", data_bytes, 4096},
                 {"max_data", data_bytes},
                 {"slot_bytes", data_bytes},
                 {"slots", slots, 2},
                 {"source", source},
                 {"flags", flags, 0, IPCDOOR_CREATE_STAMPS | IPCDOOR_CREATE_NONBLOCK},
                 {"mode", mode, 0600},
                 {"uid", user, anybody},
                 {"gid", user, anybody},
                 {"name", name},
                 {"times", choice, 0, 7}}));
    define(kind::attach, "attach", 14,
           call({{"fd", door},
                 {"to", to_fd},
                 {"name", name},
                 {"from", endpoint, none},
                 {"flags", flags, 0, IPCDOOR_ATTACH_NONBLOCK},
                 {"rights", rights, IPCDOOR_RIGHT_READ | IPCDOOR_RIGHT_WRITE},
                 {"slot", slot, IPCDOOR_ANY_SLOT},
                 {"times", choice, 0, 7}}));
    define(kind::listen, "listen", 8,
           call({{"fd", door},
                 {"to", to_fd},
                 {"name", name, 1},
                 {"slot_bytes", data_bytes},
                 {"data", data_bytes, 4096},
                 {"source", source},
                 {"flags", flags, 0, IPCDOOR_LISTEN_STAMPS | IPCDOOR_LISTEN_NONBLOCK},
                 {"mode", mode, 0600},
                 {"uid", user, anybody},
                 {"gid", user, anybody},
                 {"backlog", backlog, 1}}));
    define(kind::connect, "connect", 12,
           call({{"fd", door},
                 {"to", to_fd},
                 {"name", name, 1},
                 {"deadline", deadline, 200},
                 {"max", data_bytes},
                 {"flags", flags, 0, IPCDOOR_CONNECT_NONBLOCK | IPCDOOR_CONNECT_UID},
                 {"uid", user},
                 {"times", choice, 0, 7}}));
    define(kind::accept, "accept", 10,
           call({{"fd", listener},
                 {"to", to_fd},
                 {"deadline", deadline, 200},
                 {"flags", flags, 0, IPCDOOR_ACCEPT_NONBLOCK},
                 {"pad", pad}}));
    define(kind::endpoint_info, "endpoint_info", 3, call({{"fd", endpoint}}));
    define(kind::ring, "ring", 26,
           call({{"fd", endpoint},
                 {"slot", slot},
                 {"vector", vector, 1},
                 {"generation", generation},
                 {"flags", flags},
                 {"value", value},
                 {"times", choice, 0, 7}}));
    define(kind::wait, "wait", 24,
           call({{"fd", endpoint},
                 {"mask", mask, 2},
                 {"deadline", deadline, 200},
                 {"seen", seen},
                 {"flags", flags, 0, IPCDOOR_WAIT_ACK},
                 {"pad", pad}}));
    define(kind::ring_wait, "ring_wait", 14,
           call({{"fd", endpoint},
                 {"slot", slot},
                 {"vector", vector, 1},
                 {"generation", generation},
                 {"ring_flags", flags},
                 {"value", value},
                 {"mask", mask, 2},
                 {"deadline", deadline, 200},
                 {"seen", seen},
                 {"flags", flags, 0, IPCDOOR_WAIT_ACK},
                 {"pad", pad}}));
    define(kind::bind_eventfd, "bind_eventfd", 8,
           call({{"fd", endpoint},
                 {"mask", mask, 2},
                 {"event", eventfd, none},
                 {"flags", flags},
                 {"times", choice, 0, 7}}));
    define(kind::bind_signal, "bind_signal", 8,
           call({{"fd", endpoint},
                 {"mask", mask, 2},
                 {"signo", signo},
                 {"flags", flags},
                 {"times", choice, 0, 7}}));
    define(kind::peer_info, "peer_info", 4,
           call({{"fd", endpoint}, {"slot", slot}, {"flags", flags}}));
    define(kind::seal, "seal", 8,
           call({{"fd", endpoint}, {"add", seals}, {"flags", flags}, {"pad", pad}}));
    define(kind::grow, "grow", 8,
           call({{"fd", endpoint}, {"data", data_bytes, 8192}, {"flags", flags}, {"pad", pad}}));
    define(kind::crowd, "crowd", 1, {{"fd", door}, {"count", choice, 40, 63}});
    define(kind::ioctl, "ioctl", 3,
           call({{"fd", any_fd},
                 {"type", choice, IPCDOOR_IOC_MAGIC, 255},
                 {"nr", choice, 0, 20},
                 {"value", value}}));

    define(kind::mmap, "mmap", 16,
           {{"fd", endpoint},
            {"to", to_mapping},
            {"kind", map_kind, 2},
            {"slot", slot},
            {"page", page},
            {"pages", pages, 1},
            {"prot", protection, 3},
            {"flags", map_flags, 1}});
    define(kind::munmap, "munmap", 5, {{"map", mapping}, {"page", page}, {"pages", pages, 1}});
    define(kind::mprotect, "mprotect", 4,
           {{"map", mapping}, {"page", page}, {"pages", pages, 1}, {"prot", protection, 3}});
    define(kind::mremap, "mremap", 2,
           {{"map", mapping},
            {"page", page},
            {"pages", pages, 1},
            {"new", pages, 1},
            {"flags", choice, 1, 5}});
    define(kind::madvise, "madvise", 4,
           {{"map", mapping}, {"page", page}, {"pages", pages, 1}, {"advice", advice}});
    define(kind::remap, "remap", 2,
           {{"map", mapping}, {"page", page}, {"pages", pages, 1}, {"offset", page}});
    define(kind::touch, "touch", 12,
           {{"map", mapping}, {"page", page}, {"write", choice, 0, 1}, {"fail", fail}});
    define(kind::refault, "refault", 4,
           {{"map", mapping}, {"times", choice, 8, 31}, {"write", choice, 0, 1}, {"fail", fail}});
    define(kind::copy, "copy", 3,
           {{"map", mapping}, {"page", page}, {"pages", pages, 1}, {"write", choice, 0, 1}});

    define(kind::poll, "poll", 8,
           {{"fd", any_fd}, {"other", any_fd, none}, {"events", events, 1}, {"timeout", timeout}});
    define(kind::epoll_create, "epoll_create", 3, {{"to", to_fd}});
    define(kind::epoll_ctl, "epoll_ctl", 6,
           {{"fd", epoll}, {"what", choice, 0, 2}, {"other", any_fd}, {"events", events, 1}});
    define(kind::epoll_wait, "epoll_wait", 4, {{"fd", epoll}, {"timeout", timeout}});
    define(kind::uring_poll, "uring_poll", 2,
           {{"to", to_fd}, {"fd", any_fd}, {"events", events, 1}});
    define(kind::eventfd, "eventfd", 4, {{"to", to_fd}});
    define(kind::read, "read", 3, {{"fd", any_fd}});
    define(kind::write, "write", 2, {{"fd", any_fd}, {"value", value, 1}});
    define(kind::file, "file", 4, {{"fd", any_fd}, {"what", choice, 0, 14}, {"to", to_fd, none}});
    define(kind::nonblock, "nonblock", 2, {{"fd", any_fd}, {"on", choice, 1, 1}});
    define(kind::close, "close", 10, {{"fd", any_fd}});
    define(kind::dup, "dup", 4, {{"fd", any_fd}, {"to", to_fd}});
    define(kind::send, "send", 2, {{"fd", any_fd}});
    define(kind::receive, "receive", 2, {{"to", to_fd}});
    define(kind::steal, "steal", 2, {{"to", to_fd}, {"of", actor}, {"fd", any_fd}});

    define(kind::fork, "fork", 5,
           {{"child", choice, 0, children - 1}, {"uid", user}, {"share", choice, 0, 2}});
    define(kind::exec, "exec", 1, {});
    define(kind::exit, "exit", 1, {});
    define(kind::kill, "kill", 3, {{"who", actor}, {"signo", signo, 10}});
    define(kind::sigmask, "sigmask", 1, {{"signo", signo, 10}, {"block", choice, 1, 1}});
    define(kind::sigwait, "sigwait", 2, {{"timeout", timeout}});
    define(kind::unshare, "unshare", 1, {{"what", choice, 0, 2}});
    define(kind::nofile, "nofile", 1, {{"limit", choice, 0, 12}, {"what", choice, 0, 2}});
    define(kind::unplug, "unplug", 1, {});
    define(kind::plug, "plug", 1, {{"fail", fail, 0, 800}});
    define(kind::setting, "setting", 2,
           {{"what", choice, 0, settings_count - 1}, {"value", value, 1}});
    define(kind::pause, "pause", 3, {{"us", choice, 50, 300}});
    return specs;
}

const std::vector<op_spec>& all_specs() {
    static const std::vector<op_spec> specs = make_specs();
    return specs;
}

bool reads_fd(field_type type) {
    return type == door || type == endpoint || type == listener || type == eventfd ||
           type == epoll || type == any_fd;
}

char register_letter(field_type type) {
    if (reads_fd(type) || type == to_fd) return 'f';
    if (type == mapping || type == to_mapping) return 'm';
    return 0;
}

std::string value_text(const field& of, std::uint64_t value) {
    if (register_letter(of.type) != 0)
        return value == none ? "none" : register_letter(of.type) + std::to_string(value);
    if (of.type == name) return '"' + names()[value] + '"';
    if (of.type == actor) return actor_name(static_cast<unsigned>(value));
    if (value < 10'000) return std::to_string(value);
    std::ostringstream text;
    text << std::hex << std::showbase << value;
    return text.str();
}

[[noreturn]] void refuse(const std::string& what) { throw std::runtime_error(what); }

std::uint64_t parse_number(const std::string& text) {
    char* end = nullptr;
    errno = 0;
    const std::uint64_t number = std::strtoull(text.c_str(), &end, 0);
    if (text.empty() || *end != '\0' || errno != 0) refuse("'" + text + "' is no number");
    return number;
}

unsigned parse_actor(const std::string& text) {
    for (unsigned i = 0; i < actors; ++i)
        if (text == actor_name(i)) return i;
    refuse("'" + text + "' is no actor: t0 to t2, c0, c1");
}

std::uint64_t parse_register(const field& of, const std::string& text) {
    if (text == "none") return none;
    const char letter = register_letter(of.type);
    if (text.empty() || text[0] != letter) refuse("'" + text + "' is no register " + letter + "N");
    const std::uint64_t number = parse_number(text.substr(1));
    if (number >= (letter == 'f' ? fd_registers : map_registers)) refuse("no register " + text);
    return number;
}

std::uint64_t parse_name(const std::string& text) {
    const auto all = names();
    for (std::size_t i = 0; i < all.size(); ++i)
        if (text == '"' + all[i] + '"') return i;
    refuse(text + " is none of the known names");
}

std::uint64_t parse_value(const field& of, const std::string& text) {
    if (register_letter(of.type) != 0) return parse_register(of, text);
    if (of.type == name) return parse_name(text);
    if (of.type == actor) return parse_actor(text);
    return parse_number(text);
}

op_kind parse_kind(const std::string& text) {
    const auto& specs = all_specs();
    const auto found = std::find_if(specs.begin(), specs.end(),
                                    [&](const op_spec& one) { return text == one.name; });
    if (found == specs.end()) refuse("unknown operation '" + text + "'");
    return static_cast<op_kind>(found - specs.begin());
}

operation parse_operation(const std::string& line) {
    std::istringstream words(line);
    std::string actor_text;
    std::string kind_text;
    words >> actor_text >> kind_text;
    operation parsed = operation::usual(parse_kind(kind_text), parse_actor(actor_text));
    const op_spec& known = spec(parsed.kind);
    for (std::string word; words >> word;) {
        const auto equals = word.find('=');
        if (equals == std::string::npos) refuse("expected FIELD=VALUE, not '" + word + "'");
        const std::string key = word.substr(0, equals);
        // a name may have spaces in it
        std::string text = word.substr(equals + 1);
        while (text.starts_with('"') && (text.size() == 1 || text.back() != '"') && words >> word)
            text += ' ' + word;
        const auto found = std::find_if(known.fields.begin(), known.fields.end(),
                                        [&](const field& one) { return key == one.name; });
        if (found == known.fields.end()) refuse("no field '" + key + "' in " + kind_text);
        parsed.values[static_cast<std::size_t>(found - known.fields.begin())] =
            parse_value(*found, text);
    }
    return parsed;
}

}  // namespace

const op_spec& spec(op_kind kind) { return all_specs()[static_cast<std::size_t>(kind)]; }

std::size_t op_spec::index_of(const char* field_name) const {
    for (std::size_t i = 0; i < fields.size(); ++i)
        if (std::strcmp(fields[i].name, field_name) == 0) return i;
    throw std::out_of_range(std::string(name) + " has no field " + field_name);
}

std::span<const std::string> names() {
    static const std::vector<std::string> all{
        "",
        "a",
        "b",
        "0/a",
        "1000/a",
        "c.d_e-9",
        // odd but allowed
        std::string(IPCDOOR_NAME_MAX - 1, 'n'),
        "1001/b",
        "0/none",
        // malformed, or nobody's
        ".a",
        "a b",
        "a/b/c",
        "/a",
        "0/",
        "x1/a",
        "4294967295/a",
        "4294967296/a",
        "12345678901/a",
        "0x1/a",
        "\xc3\xa9",
        std::string(IPCDOOR_NAME_MAX + 1, 'u'),
    };
    return all;
}

operation operation::usual(op_kind kind, unsigned actor) {
    operation made;
    made.kind = kind;
    made.actor = static_cast<std::uint8_t>(actor);
    const auto& fields = spec(kind).fields;
    for (std::size_t i = 0; i < fields.size(); ++i) made.values[i] = fields[i].usual;
    return made;
}

std::uint64_t operation::get(const char* field_name) const {
    return values[spec(kind).index_of(field_name)];
}

operation& operation::set(const char* field_name, std::uint64_t value) {
    values[spec(kind).index_of(field_name)] = value;
    return *this;
}

bool has(std::span<const operation> operations, op_kind kind) {
    return std::any_of(operations.begin(), operations.end(),
                       [&](const operation& op) { return op.kind == kind; });
}

std::string actor_name(unsigned actor) {
    return actor < threads ? "t" + std::to_string(actor) : "c" + std::to_string(actor - threads);
}

std::string to_text(const program& what, const char* separator) {
    std::string text;
    for (const operation& op : what) {
        const op_spec& known = spec(op.kind);
        if (!text.empty()) text += separator;
        text += actor_name(op.actor) + ' ' + known.name;
        for (std::size_t i = 0; i < known.fields.size(); ++i)
            if (op.values[i] != known.fields[i].usual)
                text += std::string(" ") + known.fields[i].name + '=' +
                        value_text(known.fields[i], op.values[i]);
    }
    return text;
}

std::vector<program> parse_programs(const std::string& text) {
    std::vector<program> all;
    program current;
    const auto finish = [&] {
        if (!current.empty()) all.push_back(std::move(current));
        current.clear();
    };
    std::istringstream lines(text);
    unsigned number = 0;
    for (std::string line; std::getline(lines, line);) {
        ++number;
        const auto comment = line.find('#');
        line = line.substr(0, comment);
        if (line.find_first_not_of(" \t\r") == std::string::npos) {
            // a comment alone does not end a program
            if (comment == std::string::npos) finish();
            continue;
        }
        std::istringstream parts(line);
        for (std::string part; std::getline(parts, part, ';');) {
            if (part.find_first_not_of(" \t\r") == std::string::npos) continue;
            try {
                current.push_back(parse_operation(part));
            } catch (const std::exception& error) {
                refuse("line " + std::to_string(number) + ": " + error.what());
            }
        }
    }
    finish();
    return all;
}

}  // namespace kfuzz
