// SPDX-License-Identifier: MIT
#include "report/html.hpp"

#include <fmt/format.h>

#include "report/svg.hpp"

namespace report {

namespace {

std::string page_style() {
    return R"(
:root{--page:#f4f6f8;--card:#fff;--line:#dfe3e8;--accent:#0a66c2;--warn-bg:#fff4dc;--warn-ink:#6b4700;
--warn-line:#f0d596;--code:#eef1f4}
@media (prefers-color-scheme:dark){:root{--page:#0e1114;--card:#16191e;--line:#2a3037;--accent:#5eacff;
--warn-bg:#2b2310;--warn-ink:#f3d491;--warn-line:#57471c;--code:#1e2329}}
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--ink);
font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans",sans-serif}
main{max-width:1040px;margin:0 auto;padding:32px 20px 64px}
h1{font-size:28px;line-height:1.2;margin:0 0 4px}h2{font-size:20px;margin:40px 0 6px}
h3{font-size:15px;margin:22px 0 8px}p{margin:6px 0 12px;max-width:76ch}
.sub{color:var(--muted);margin:0 0 20px}
.card{background:var(--card);border:1px solid var(--line);border-radius:10px;overflow:hidden}
.scroll{overflow-x:auto}.scroll>.plot{display:block;min-width:680px;width:100%;height:auto}
.stack>*+*{margin-top:14px}
.pair{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,400px),1fr));gap:14px;
align-items:start}
.pair .plot,.grid .plot{display:block;width:100%;height:auto}
.grid{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,400px),1fr));gap:14px}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:14px;margin:18px 0}
.tile{background:var(--card);border:1px solid var(--line);border-left:5px solid var(--c,var(--line));
border-radius:10px;padding:12px 16px}
.tile b{display:block;font-size:26px;line-height:1.25;font-variant-numeric:tabular-nums}
.tile .name{font-weight:600}.tile .more{color:var(--muted);font-size:13px}
.warn{background:var(--warn-bg);color:var(--warn-ink);border:1px solid var(--warn-line);
border-radius:10px;padding:10px 16px;margin:16px 0;max-width:none}
table{border-collapse:collapse;width:100%;font-size:13.5px;font-variant-numeric:tabular-nums}
caption{text-align:left;font-weight:600;padding:10px 14px 4px}
th,td{padding:5px 12px;text-align:right;white-space:nowrap;border-top:1px solid var(--line)}
thead th{color:var(--muted);font-weight:500;border-top:0}
th[scope=row],td.l,th.l{text-align:left}tr.sum td,tr.sum th{font-weight:600}
tr.first>*{border-top:2px solid var(--line)}
.facts th{font-weight:500;color:var(--muted);width:1%}.facts td{text-align:left;white-space:normal}
code{background:var(--code);border-radius:4px;padding:1px 5px;font-size:.92em;overflow-wrap:anywhere}
footer{margin-top:44px;color:var(--muted);font-size:13px}
@media print{body{background:#fff}.card,.tile{break-inside:avoid}}
)";
}

}  // namespace

std::string plot_style() {
    std::string rules;
    for (int i = 0; i < plot_colours; ++i)
        rules += fmt::format(
            ".plot .s{0}{{stroke:var(--s{0})}}.plot text.s{0},.plot .bar.s{0}{{fill:var(--s{0})}}\n",
            i);
    return R"(
:root{color-scheme:light dark;--surface:#fff;--ink:#171b21;--muted:#59636f;--grid:#e6e9ed;
--axis:#b4bcc6;--peer:#8b95a1;--s0:#0a66c2;--s1:#0b8457;--s2:#cf4a0c;--s3:#8a3fc7;--s4:#a36a00;
--s5:#c2185b;--s6:#00838f;--s7:#5d4037}
@media (prefers-color-scheme:dark){:root{--surface:#16191e;--ink:#e8ebef;--muted:#a0aab6;
--grid:#272c33;--axis:#4a525c;--peer:#77818d;--s0:#5eacff;--s1:#41cf92;--s2:#ff8f5e;--s3:#c493ff;
--s4:#e2b04a;--s5:#ff7eb0;--s6:#4dd0e1;--s7:#c8a89a}}
.plot{font:12px system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans",sans-serif;
font-variant-numeric:tabular-nums}
.plot text{fill:var(--ink)}.plot .muted{fill:var(--muted)}.plot .head{font-weight:600;font-size:14px}
.plot .small{font-size:11px;fill:var(--muted)}.plot .bold{font-weight:600}
.plot .surface{fill:var(--surface)}.plot .grid{stroke:var(--grid)}.plot .axis{stroke:var(--axis)}
.plot .curve{fill:none;stroke-width:2.2;stroke-linejoin:round;stroke-linecap:round}
.plot .curve.c-peer{stroke-width:1.2}.plot .leader{fill:none;stroke-width:.8;opacity:.55}
.plot .dashed{stroke-dasharray:6 4;stroke-width:1.6}
.plot .area{fill-opacity:.28;stroke-width:1.4;stroke-linejoin:round}
.plot .marker{stroke:var(--ink);stroke-width:1;stroke-dasharray:3 3;opacity:.7}
.plot .whisker{stroke:var(--muted);stroke-width:1.4;fill:none}
.plot .c-peer{stroke:var(--peer)}.plot .area.c-peer,.plot .bar.c-peer{fill:var(--peer)}
.plot text.c-peer{fill:var(--muted)}.plot text{stroke:none!important}.plot .bar{stroke:none}
)" + rules;
}

std::string html_start(const std::string& title, const std::string& style) {
    return fmt::format(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
        "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n"
        "<title>{}</title>\n<style>{}{}{}</style>\n</head>\n<body>\n<main>\n",
        escape(title), plot_style(), style, page_style());
}

std::string html_end(const std::string& footer) {
    return "<footer>" + footer + "</footer>\n</main>\n</body>\n</html>\n";
}

}  // namespace report
