// SPDX-License-Identifier: Apache-2.0
#include "qualify/qualify.h"

#include "inventory/names.h"
#include "qualify/subject.h"

#include <array>

namespace lanepool::qualify {

namespace {

constexpr std::array all_checks{check_function,
                                check_configuration,
                                check_sriov,
                                check_driver,
                                check_reset,
                                check_interrupts,
                                check_bars,
                                check_dma_width,
                                check_link,
                                check_errors,
                                check_vfio,
                                check_iommu,
                                check_interrupt_remapping,
                                check_iommu_group,
                                check_acs,
                                check_peer_to_peer,
                                check_windows,
                                check_device_entry,
                                check_kernel_entry,
                                check_platform_entry};

Subject subject_of(const inventory::Machine& machine, const inventory::Function& function,
                   const SupportMatrix& matrix) {
    Subject subject{machine, function, matrix, AccessModel::lending, nullptr, {}};
    for (const auto& adapter : machine.adapters) {
        auto route = inventory::peer_route(machine, function.address, adapter.address);
        if (subject.adapter && route.path >= subject.route.path) continue;
        subject.adapter = &adapter;
        subject.route = std::move(route);
    }
    return subject;
}

} // namespace

bool is_candidate(const inventory::Function& function) {
    const auto kind = inventory::kind_of(function);
    return !function.bridge && (kind == "nvme" || kind == "gpu" || kind == "nic" || kind == "fpga" ||
                                function.class_code >> 16 == 0xff);
}

Report judge(const inventory::Machine& machine, const inventory::Function& function,
             const SupportMatrix& matrix, int64_t time_us) {
    Report report;
    report.address = function.address;
    report.vendor_id = function.vendor_id;
    report.device_id = function.device_id;
    report.title = inventory::title_of(function);
    report.serial = function.serial;
    report.firmware = function.firmware;
    report.host = machine.host.name;
    report.kernel_release = machine.host.kernel_release;
    report.time_us = time_us;
    report.main_model = function.parent ? AccessModel::vf : AccessModel::lending;
    Subject subject = subject_of(machine, function, matrix);
    for (const auto model : access_models) {
        subject.model = model;
        ModelReport judged{model, {}};
        for (const auto check : all_checks)
            judged.checks.push_back(check(subject));
        report.models.push_back(std::move(judged));
    }
    return report;
}

} // namespace lanepool::qualify
