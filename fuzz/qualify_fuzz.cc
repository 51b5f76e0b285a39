// SPDX-License-Identifier: Apache-2.0
//
// The input is a support matrix. One that is taken keeps what checks rely on, and judges a sound drive
// without a doubt.
#include "inventory/reader.h"
#include "inventory/testing/machines.h"
#include "qualify/qualify.h"

#include <cstdlib>

using namespace lanepool;

namespace {

void require(bool condition) {
    if (!condition) std::abort();
}

void check_statement(const qualify::Statement& says) {
    require(!says.name.empty() && !says.reason.empty() && !says.source.empty());
    require(says.standing == qualify::Standing::good || !says.remedy.empty());
}

const inventory::Machine& sound_machine() {
    static const inventory::Machine machine = [] {
        auto builder = inventory::testing::plain_server();
        return inventory::read_machine(builder.tree(), "");
    }();
    return machine;
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    const auto matrix = qualify::parse_matrix({reinterpret_cast<const char*>(data), size}, "fuzzed");
    if (!matrix) {
        require(!matrix.error().message().empty());
        return 0;
    }
    for (const auto& entry : matrix->kernels)
        check_statement(entry.says);
    for (const auto& entry : matrix->devices)
        check_statement(entry.says);
    for (const auto& entry : matrix->platforms)
        check_statement(entry.says);
    const auto& machine = sound_machine();
    const auto* drive = machine.find({0, 1, 0, 0});
    require(drive != nullptr);
    const auto report = qualify::judge(machine, *drive, *matrix, 0);
    require(report.verdict(qualify::AccessModel::lending) != qualify::Verdict::unknown);
    require(!qualify::to_json(report, qualify::AccessModel::lending).dump().empty());
    return 0;
}
