// SPDX-License-Identifier: MIT
#include <fmt/format.h>

#include "irqbench/plots.hpp"
#include "irqbench/report_html.hpp"

namespace irqbench {

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
.t-msi{--c:var(--msi)}.t-ipi{--c:var(--ipi)}.t-timer{--c:var(--timer)}.t-direct{--c:var(--direct)}
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

std::string html_start(const std::string& title) {
    return fmt::format(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
        "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n"
        "<title>{}</title>\n<style>{}{}</style>\n</head>\n<body>\n<main>\n",
        escape(title), plot_style(), page_style());
}

}  // namespace irqbench
