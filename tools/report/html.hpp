// SPDX-License-Identifier: MIT
//
// Owns: what all pages have in common: one HTML file that needs nothing else, styles and plots in
// it, no script, light and dark.
#pragma once

#include <fmt/format.h>

#include <string>
#include <string_view>
#include <utility>

#include "report/svg.hpp"

namespace report {

// The classes of plots, "s0" to "s7" for curves and bars among them, and colours as custom
// properties.
inline constexpr int plot_colours = 8;
std::string plot_style();

// Up to where a page's own content begins; `title` as plain text, `style` of the page's own.
std::string html_start(const std::string& title, const std::string& style = "");
// `footer` as HTML.
std::string html_end(const std::string& footer);

// A page as it grows.
class html_page {
protected:
    template <typename... Args>
    void add(fmt::format_string<Args...> format, Args&&... args) {
        out_ += fmt::format(format, std::forward<Args>(args)...);
    }
    void plot(const canvas& drawn, const char* css_class = "card scroll") {
        add("<div class=\"{}\">{}</div>\n", css_class,
            drawn.inline_svg(fmt::format("p{}", ++plots_)));
    }
    // A row of a table of facts; `value` as plain text.
    void fact(std::string_view name, const std::string& value) {
        add("<tr><th scope=\"row\">{}</th><td>{}</td></tr>\n", name, escape(value));
    }

    std::string out_;

private:
    int plots_ = 0;
};

}  // namespace report
