// SPDX-License-Identifier: MIT
//
// Owns: writing SVG: escaping, elements, logarithmic scales and their ticks. Colours are never
// written here but taken from CSS classes, so that light and dark are the style sheet's matter.
#pragma once

#include <string>
#include <utility>
#include <vector>

namespace report {

// For text and for quoted attributes, of SVG and HTML alike. Invalid bytes become '?'.
std::string escape(const std::string& text);

struct point {
    double x;
    double y;
};

enum class anchor { start, middle, end };

class canvas {
public:
    // `title` and `description` are what screen readers say; both are required.
    canvas(double width, double height, std::string title, std::string description);

    void line(point from, point to, const std::string& css_class);
    // `tip` is shown on hovering; "" for none.
    void rect(point at, double width, double height, const std::string& css_class,
              const std::string& tip = "", double radius = 0);
    void polyline(const std::vector<point>& points, const std::string& css_class,
                  const std::string& tip = "");
    void polygon(const std::vector<point>& points, const std::string& css_class,
                 const std::string& tip = "");
    void text(point at, const std::string& content, const std::string& css_class = "",
              anchor where = anchor::start);

    // As an element within HTML; `id` must be unique on the page.
    std::string inline_svg(const std::string& id) const;
    // As a file with `style` in it.
    std::string file(const std::string& style) const;

private:
    std::string element(const std::string& id, const std::string& style, bool standalone) const;

    double width_;
    double height_;
    std::string title_;
    std::string description_;
    std::string body_;
};

// The width of a text in pixels, near enough to place labels.
double text_width(const std::string& text, double font_px);

// Maps [low, high], both positive, logarithmically to [from, to].
class log_scale {
public:
    log_scale(double low, double high, double from, double to);
    double operator()(double value) const;  // clamped to the range
    // 1-2-5 where the range is short, decades where it is long; all within the range.
    std::vector<double> ticks() const;

private:
    double low_, high_, from_, to_;
};

// Widened to a 1-2-5 number at both ends.
std::pair<double, double> nice_log_range(double low, double high);
// At most `most` + 1 ticks from 0 to at least `high`, of 1-2-5 steps.
std::vector<double> linear_ticks(double high, int most);

// Moves positions apart until each is `gap` from the next, within [low, high] if they fit, each as
// near as can be to where it was. `wanted` need not be sorted; the order is kept.
std::vector<double> spread_labels(const std::vector<double>& wanted, double gap, double low,
                                  double high);

}  // namespace report
