// SPDX-License-Identifier: MIT
#include "report/svg.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>

namespace report {

namespace {

std::string path_of(const std::vector<point>& points) {
    std::string path;
    for (const point& p : points)
        path += fmt::format("{}{:.1f} {:.1f}", path.empty() ? "M" : "L", p.x, p.y);
    return path;
}

std::string closed(const std::string& name, const std::string& attributes, const std::string& tip) {
    if (tip.empty()) return fmt::format("<{} {}/>\n", name, attributes);
    return fmt::format("<{0} {1}><title>{2}</title></{0}>\n", name, attributes, escape(tip));
}

}  // namespace

std::string escape(const std::string& text) {
    std::string out;
    for (char c : text) {
        switch (c) {
            case '&': out += "&amp;"; break;
            case '<': out += "&lt;"; break;
            case '>': out += "&gt;"; break;
            case '"': out += "&quot;"; break;
            case '\'': out += "&#39;"; break;
            default:
                out += static_cast<unsigned char>(c) < 0x20 && c != '\n' && c != '\t' ? '?' : c;
        }
    }
    return out;
}

canvas::canvas(double width, double height, std::string title, std::string description)
    : width_(width),
      height_(height),
      title_(std::move(title)),
      description_(std::move(description)) {}

void canvas::line(point from, point to, const std::string& css_class) {
    body_ += fmt::format(
        "<line x1=\"{:.1f}\" y1=\"{:.1f}\" x2=\"{:.1f}\" y2=\"{:.1f}\" "
        "class=\"{}\"/>\n",
        from.x, from.y, to.x, to.y, css_class);
}

void canvas::rect(point at, double width, double height, const std::string& css_class,
                  const std::string& tip, double radius) {
    body_ += closed("rect",
                    fmt::format("x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.1f}\" height=\"{:.1f}\"{} "
                                "class=\"{}\"",
                                at.x, at.y, std::max(0.0, width), std::max(0.0, height),
                                radius > 0 ? fmt::format(" rx=\"{:.1f}\"", radius) : "", css_class),
                    tip);
}

void canvas::polyline(const std::vector<point>& points, const std::string& css_class,
                      const std::string& tip) {
    if (points.size() > 1)
        body_ +=
            closed("path", fmt::format("d=\"{}\" class=\"{}\"", path_of(points), css_class), tip);
}

void canvas::polygon(const std::vector<point>& points, const std::string& css_class,
                     const std::string& tip) {
    if (points.size() > 2)
        body_ +=
            closed("path", fmt::format("d=\"{}Z\" class=\"{}\"", path_of(points), css_class), tip);
}

void canvas::text(point at, const std::string& content, const std::string& css_class,
                  anchor where) {
    static constexpr const char* anchors[] = {"", " text-anchor=\"middle\"",
                                              " text-anchor=\"end\""};
    body_ += fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\"{}{}>{}</text>\n", at.x, at.y,
                         css_class.empty() ? "" : " class=\"" + css_class + "\"",
                         anchors[static_cast<int>(where)], escape(content));
}

std::string canvas::element(const std::string& id, const std::string& style,
                            bool standalone) const {
    return fmt::format(
        "<svg {}class=\"plot\" viewBox=\"0 0 {:.0f} {:.0f}\"{} role=\"img\" "
        "aria-labelledby=\"{}-t {}-d\">\n<title id=\"{}-t\">{}</title>\n<desc id=\"{}-d\">{}"
        "</desc>\n{}{}</svg>\n",
        standalone ? "xmlns=\"http://www.w3.org/2000/svg\" " : "", width_, height_,
        standalone ? fmt::format(" width=\"{:.0f}\" height=\"{:.0f}\"", width_, height_) : "", id,
        id, id, escape(title_), id, escape(description_), style, body_);
}

std::string canvas::inline_svg(const std::string& id) const { return element(id, "", false); }

std::string canvas::file(const std::string& style) const {
    return element("plot", "<style>" + style + "</style>\n", true);
}

double text_width(const std::string& text, double font_px) {
    double units = 0;
    for (char c : text) {
        if ((static_cast<unsigned char>(c) & 0xC0) == 0x80)
            continue;  // a continuation byte of UTF-8
        units += std::string_view("iIl.,:;|' ").find(c) != std::string_view::npos ? 0.32
                 : std::string_view("mwMW@%").find(c) != std::string_view::npos   ? 0.86
                 : c >= 'A' && c <= 'Z'                                           ? 0.67
                                                                                  : 0.56;
    }
    return units * font_px;
}

log_scale::log_scale(double low, double high, double from, double to)
    : low_(low), high_(high), from_(from), to_(to) {}

double log_scale::operator()(double value) const {
    const double v = std::clamp(value, low_, high_);
    return from_ + (to_ - from_) * std::log(v / low_) / std::log(high_ / low_);
}

std::vector<double> log_scale::ticks() const {
    const bool decades_only = std::log10(high_ / low_) > 2.5;
    std::vector<double> found;
    for (int e = static_cast<int>(std::floor(std::log10(low_))); e <= 18; ++e)
        for (double m : {1.0, 2.0, 5.0}) {
            if (decades_only && m != 1.0) continue;
            const double v = m * std::pow(10.0, e);
            if (v >= low_ * 0.9999 && v <= high_ * 1.0001) found.push_back(v);
        }
    return found;
}

std::pair<double, double> nice_log_range(double low, double high) {
    low = std::max(low, 1.0);
    high = std::max(high, low * 1.01);
    double from = 1.0, to = 1.0;
    for (int e = 0; e <= 19; ++e)
        for (double m : {1.0, 2.0, 5.0}) {
            const double v = m * std::pow(10.0, e);
            if (v <= low) from = v;
            if (to < high) to = v;
        }
    return {from, std::max(to, from * 2)};
}

std::vector<double> linear_ticks(double high, int most) {
    if (!(high > 0)) high = 1;
    double step = std::pow(10.0, std::floor(std::log10(high / most)));
    for (double m : {2.0, 2.5, 2.0}) {  // 1, 2, 5, 10 of the decade
        if (high / step <= most) break;
        step *= m;
    }
    std::vector<double> ticks;
    for (int i = 0; ticks.empty() || ticks.back() < high; ++i) ticks.push_back(i * step);
    return ticks;
}

std::vector<double> spread_labels(const std::vector<double>& wanted, double gap, double low,
                                  double high) {
    std::vector<std::size_t> order(wanted.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::stable_sort(order.begin(), order.end(),
                     [&](std::size_t a, std::size_t b) { return wanted[a] < wanted[b]; });

    // Neighbours too close form a block around their common centre; blocks that then touch merge.
    struct block {
        double sum;  // of wanted positions, each less its offset within the block
        std::size_t n;
        double start(double g, double lo, double hi) const {
            const double at = sum / static_cast<double>(n);
            return std::max(lo, std::min(at, hi - g * static_cast<double>(n - 1)));
        }
    };
    std::vector<block> blocks;
    for (std::size_t i : order) {
        blocks.push_back({wanted[i], 1});
        while (blocks.size() > 1) {
            const block& last = blocks.back();
            block& before = blocks[blocks.size() - 2];
            const double end = before.start(gap, low, high) + gap * static_cast<double>(before.n);
            if (last.start(gap, low, high) >= end) break;
            before.sum += last.sum - gap * static_cast<double>(before.n * last.n);
            before.n += last.n;
            blocks.pop_back();
        }
    }
    std::vector<double> placed(wanted.size());
    std::size_t next = 0;
    for (const block& b : blocks)
        for (std::size_t k = 0; k < b.n; ++k)
            placed[order[next++]] = b.start(gap, low, high) + gap * static_cast<double>(k);
    return placed;
}

}  // namespace report
