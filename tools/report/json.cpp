// SPDX-License-Identifier: MIT
#include "report/json.hpp"

namespace report {

json to_json(const machine& m) {
    return {{"kernel", m.kernel},
            {"kernel_build", m.kernel_build},
            {"architecture", m.architecture},
            {"cpu_model", m.cpu_model},
            {"cpus_online", m.cpus_online},
            {"cpus_allowed", m.cpus_allowed},
            {"clock_source", m.clock_source},
            {"clock_sources_available", m.clock_sources_available},
            {"environment", to_string(m.where)},
            {"hypervisor", m.hypervisor},
            {"comparison_only", m.where == environment::emulated},
            {"preemption", m.preemption},
            {"realtime_kernel", m.realtime_kernel},
            {"isolated_cpus", m.isolated_cpus},
            {"governor", m.governor}};
}

machine machine_from(const json& j) {
    machine m;
    m.kernel = j.at("kernel");
    m.kernel_build = j.at("kernel_build");
    m.architecture = j.at("architecture");
    m.cpu_model = j.at("cpu_model");
    m.cpus_online = j.at("cpus_online");
    m.cpus_allowed = j.at("cpus_allowed").get<std::vector<int>>();
    m.clock_source = j.at("clock_source");
    m.clock_sources_available = j.at("clock_sources_available");
    for (environment e : {environment::bare_metal, environment::virtualised, environment::emulated})
        if (j.at("environment") == to_string(e)) m.where = e;
    m.hypervisor = j.at("hypervisor");
    m.preemption = j.at("preemption");
    m.realtime_kernel = j.at("realtime_kernel");
    m.isolated_cpus = j.at("isolated_cpus");
    m.governor = j.value("governor", "");
    return m;
}

}  // namespace report
