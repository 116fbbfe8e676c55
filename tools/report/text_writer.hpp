// SPDX-License-Identifier: MIT
//
// Owns: what the reports for terminals are written with: ASCII, 80 columns.
#pragma once

#include <fmt/format.h>

#include <string>
#include <utility>

namespace report {

class text_writer {
public:
    explicit text_writer(bool colour) : colour_(colour) {}

    template <typename... Args>
    void line(fmt::format_string<Args...> format, Args&&... args) {
        text_ += fmt::format(format, std::forward<Args>(args)...);
        text_ += '\n';
    }
    void heading(const std::string& title) { text_ += '\n' + styled("\033[1m", title) + '\n'; }
    void columns(const std::string& header) { text_ += styled("\033[2m", header) + '\n'; }
    std::string styled(const char* code, const std::string& s) const {
        return colour_ ? code + s + "\033[0m" : s;
    }
    // A label and a value that may need several lines.
    void field(const std::string& label, const std::string& value) {
        constexpr std::size_t indent = 12, width = 80;
        std::string rest = value;
        std::string lead = fmt::format("{:<{}}", label, indent);
        if (label.size() >= indent) {
            text_ += label + '\n';
            lead.assign(indent, ' ');
        }
        while (rest.size() > width - indent) {
            std::size_t cut = rest.rfind(' ', width - indent);
            if (cut == std::string::npos || cut == 0) cut = width - indent;
            text_ += lead + rest.substr(0, cut) + '\n';
            rest.erase(0, rest.find_first_not_of(' ', cut));
            lead.assign(indent, ' ');
        }
        text_ += lead + rest + '\n';
    }
    std::string take() { return std::move(text_); }

private:
    bool colour_;
    std::string text_;
};

}  // namespace report
