// SPDX-License-Identifier: MIT
//
// Owns: what the command lines of all tools have in common.
#pragma once

#include <ipcdoor.h>

#include <CLI/CLI.hpp>
#include <string>

#include "common/exit_status.hpp"

namespace common {

// The tool's name, and the options that ask for help and version.
inline void introduce(CLI::App& app, const std::string& tool,
                      const std::string& help = "-h,--help") {
    app.name(tool);
    app.set_help_flag(help, "Print this help and exit");
    app.set_version_flag("-V,--version", tool + " " + IPCDOOR_LIBRARY_VERSION,
                         "Print the version and exit");
}

// Parses, then calls `check`, which throws CLI::ParseError for what the parser cannot see. False:
// the program is over with `status`; help, version and usage errors were printed.
template <class Check>
bool parse(CLI::App& app, int argc, char** argv, int& status, Check&& check) {
    try {
        app.parse(argc, argv);
        check();
        return true;
    } catch (const CLI::Success& e) {
        status = app.exit(e);
    } catch (const CLI::ParseError& e) {
        app.exit(e);
        status = exit_usage;
    }
    return false;
}

// The command line as a report shows it.
inline std::string joined(const std::string& tool, int argc, char** argv) {
    std::string line = tool;
    for (int i = 1; i < argc; ++i) line += std::string(" ") + argv[i];
    return line;
}

}  // namespace common
