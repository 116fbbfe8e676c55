// SPDX-License-Identifier: MIT
#include "irqbench/plots.hpp"

namespace irqbench {

std::string series_class(const std::string& method) {
    std::string name = method;
    if (name.rfind("ipcdoor:", 0) == 0) name.erase(0, 8);
    for (const char* own : {"msi", "ipi", "timer", "direct", "soft"})
        if (name == own) return "c-" + name;
    return "c-peer";
}

std::string plot_style() {
    return R"(
:root{color-scheme:light dark;--surface:#fff;--ink:#171b21;--muted:#59636f;--grid:#e6e9ed;
--axis:#b4bcc6;--msi:#0a66c2;--ipi:#cf4a0c;--timer:#0b8457;--direct:#8a3fc7;--soft:#a36a00;
--peer:#8b95a1;--stage0:#66717d;--stage1:#0a66c2;--stage2:#b06a00;--stage3:#0b8457;--on-stage:#fff}
@media (prefers-color-scheme:dark){:root{--surface:#16191e;--ink:#e8ebef;--muted:#a0aab6;
--grid:#272c33;--axis:#4a525c;--msi:#5eacff;--ipi:#ff8f5e;--timer:#41cf92;--direct:#c493ff;
--soft:#e2b04a;--peer:#77818d;--stage0:#6f7a86;--stage1:#4f9df0;--stage2:#e5a93b;--stage3:#3dbb85;
--on-stage:#0d1013}}
.plot{font:12px system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans",sans-serif;
font-variant-numeric:tabular-nums}
.plot text{fill:var(--ink)}.plot .muted{fill:var(--muted)}.plot .head{font-weight:600;font-size:14px}
.plot .small{font-size:11px;fill:var(--muted)}.plot .bold{font-weight:600}
.plot .surface{fill:var(--surface)}.plot .grid{stroke:var(--grid)}.plot .axis{stroke:var(--axis)}
.plot .curve{fill:none;stroke-width:2.2;stroke-linejoin:round;stroke-linecap:round}
.plot .curve.c-peer{stroke-width:1.2}.plot .leader{fill:none;stroke-width:.8;opacity:.55}
.plot .area{fill-opacity:.28;stroke-width:1.4;stroke-linejoin:round}
.plot .marker{stroke:var(--ink);stroke-width:1;stroke-dasharray:3 3;opacity:.7}
.plot .whisker{stroke:var(--muted);stroke-width:1.4;fill:none}
.plot .c-msi{stroke:var(--msi)}.plot .c-ipi{stroke:var(--ipi)}.plot .c-timer{stroke:var(--timer)}
.plot .c-direct{stroke:var(--direct)}.plot .c-soft{stroke:var(--soft)}.plot .c-peer{stroke:var(--peer)}
.plot .area.c-msi,.plot .bar.c-msi,.plot text.c-msi{fill:var(--msi)}
.plot .area.c-ipi,.plot .bar.c-ipi,.plot text.c-ipi{fill:var(--ipi)}
.plot .area.c-timer,.plot .bar.c-timer,.plot text.c-timer{fill:var(--timer)}
.plot .area.c-direct,.plot .bar.c-direct,.plot text.c-direct{fill:var(--direct)}
.plot .area.c-soft,.plot .bar.c-soft,.plot text.c-soft{fill:var(--soft)}
.plot .area.c-peer,.plot .bar.c-peer{fill:var(--peer)}
.plot text.c-peer{fill:var(--muted)}.plot text{stroke:none!important}.plot .bar{stroke:none}
.plot .stage0{fill:var(--stage0)}.plot .stage1{fill:var(--stage1)}.plot .stage2{fill:var(--stage2)}
.plot .stage3{fill:var(--stage3)}.plot text.on-stage{fill:var(--on-stage);font-weight:600;font-size:11px}
)";
}

}  // namespace irqbench
