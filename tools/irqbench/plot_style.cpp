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

std::string method_style() {
    return R"(
:root{--msi:#0a66c2;--ipi:#cf4a0c;--timer:#0b8457;--direct:#8a3fc7;--soft:#a36a00;
--stage0:#66717d;--stage1:#0a66c2;--stage2:#b06a00;--stage3:#0b8457;--on-stage:#fff}
@media (prefers-color-scheme:dark){:root{--msi:#5eacff;--ipi:#ff8f5e;--timer:#41cf92;
--direct:#c493ff;--soft:#e2b04a;--stage0:#6f7a86;--stage1:#4f9df0;--stage2:#e5a93b;--stage3:#3dbb85;
--on-stage:#0d1013}}
.plot .c-msi{stroke:var(--msi)}.plot .c-ipi{stroke:var(--ipi)}.plot .c-timer{stroke:var(--timer)}
.plot .c-direct{stroke:var(--direct)}.plot .c-soft{stroke:var(--soft)}
.plot .area.c-msi,.plot .bar.c-msi,.plot text.c-msi{fill:var(--msi)}
.plot .area.c-ipi,.plot .bar.c-ipi,.plot text.c-ipi{fill:var(--ipi)}
.plot .area.c-timer,.plot .bar.c-timer,.plot text.c-timer{fill:var(--timer)}
.plot .area.c-direct,.plot .bar.c-direct,.plot text.c-direct{fill:var(--direct)}
.plot .area.c-soft,.plot .bar.c-soft,.plot text.c-soft{fill:var(--soft)}
.plot .stage0{fill:var(--stage0)}.plot .stage1{fill:var(--stage1)}.plot .stage2{fill:var(--stage2)}
.plot .stage3{fill:var(--stage3)}.plot text.on-stage{fill:var(--on-stage);font-weight:600;font-size:11px}
.t-msi{--c:var(--msi)}.t-ipi{--c:var(--ipi)}.t-timer{--c:var(--timer)}.t-direct{--c:var(--direct)}
)";
}

}  // namespace irqbench
