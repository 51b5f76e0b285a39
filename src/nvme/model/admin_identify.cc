// SPDX-License-Identifier: Apache-2.0
#include "nvme/model/admin_commands.h"

#include <algorithm>
#include <cstring>
#include <string_view>
#include <vector>

namespace lanepool::nvme::model {

namespace {

constexpr uint16_t controller_id = 1;
constexpr std::string_view model_name = "lanepool NVMe model";
constexpr std::string_view firmware_revision = "1.0";

template <size_t n>
void put(std::array<char, n>& field, std::string_view text) {
    field.fill(' ');
    std::ranges::copy(text.substr(0, n), field.begin());
}

// Identify Controller, SANICAP, NODMMAS (figure "Identify Controller Data Structure").
constexpr uint32_t sanicap_not_modified_after = 1u << 30;

} // namespace

IdentifyController AdminCommands::controller_page() const {
    IdentifyController page;
    page.vid = vendor_id;
    page.ssvid = vendor_id;
    put(page.serial, context_.identity.serial);
    put(page.model, model_name);
    put(page.firmware, firmware_revision);
    page.rab = Features::default_burst;
    page.mdts = max_transfer_shift;
    page.cntlid = controller_id;
    page.version = version(1, 4);
    page.cntrltype = 1;
    page.oaes = oaes::namespace_attribute;
    page.oacs = oacs::format | oacs::doorbell_buffer_config;
    page.acl = 3;
    page.aerl = max_event_requests - 1;
    page.frmw = 1 | 1 << 1; // one slot, read-only
    page.lpa = lpa::effects | lpa::extended;
    page.elpe = error_log_entries - 1;
    page.wctemp_k = Features::default_over_temperature_k;
    page.cctemp_k = Features::default_over_temperature_k + 10;
    page.tnvmcap_bytes[0] = context_.media.image().size_bytes();
    page.sanicap = sanicap::block_erase | sanicap::overwrite | sanicap_not_modified_after;
    page.sqes = 0x66;
    page.cqes = 0x44;
    page.nn = 1;
    page.oncs =
        oncs::compare | oncs::dataset_management | oncs::write_zeroes | oncs::save_select | oncs::timestamp;
    page.fna = 0;
    page.vwc = vwc::present | vwc::broadcast_flush;
    const auto& nqn = context_.identity.subsystem_nqn;
    std::copy_n(nqn.begin(), std::min(nqn.size(), page.subnqn.size() - 1), page.subnqn.begin());
    page.power_states[0].max_power = 2500;
    return page;
}

IdentifyNamespace AdminCommands::namespace_page() const {
    const auto& media = context_.media;
    IdentifyNamespace page;
    page.size_blocks = media.blocks();
    page.capacity_blocks = media.blocks();
    page.used_blocks =
        std::min(media.blocks(), context_.media.image().allocated_bytes() >> media.lba_shift());
    page.nsfeat = nsfeat::thin_provisioning;
    page.nlbaf = static_cast<uint8_t>(lba_shifts.size() - 1);
    page.flbas = media.lba_format();
    page.dlfeat = dlfeat::reads_zeroes | dlfeat::write_zeroes_deallocate;
    page.nvmcap_bytes[0] = context_.media.image().size_bytes();
    std::ranges::copy(context_.identity.nguid, page.nguid.begin());
    for (size_t i = 0; i < 8; ++i) // most significant byte first
        page.eui64[i] = static_cast<uint8_t>(context_.identity.eui64 >> (56 - 8 * i));
    for (size_t i = 0; i < lba_shifts.size(); ++i)
        page.lba_formats[i].data_shift = lba_shifts[i];
    return page;
}

void AdminCommands::namespace_descriptors(Request& request) {
    std::vector<std::byte> page(identify_bytes);
    size_t at = 0;
    const auto add = [&](uint8_t type, std::span<const uint8_t> bytes) {
        const NamespaceDescriptor header{type, static_cast<uint8_t>(bytes.size()), {}};
        std::memcpy(page.data() + at, &header, sizeof header);
        std::memcpy(page.data() + at + sizeof header, bytes.data(), bytes.size());
        at += sizeof header + bytes.size();
    };
    const auto ids = namespace_page();
    add(namespace_descriptor::eui64, ids.eui64);
    add(namespace_descriptor::nguid, ids.nguid);
    add(namespace_descriptor::uuid, context_.identity.uuid);
    constexpr std::array<uint8_t, 1> nvm_command_set = {0};
    add(namespace_descriptor::csi, nvm_command_set);
    send_page(request, page);
}

void AdminCommands::send_page(Request& request, std::span<const std::byte> data) {
    if (context_.engine.resolve(request, static_cast<uint32_t>(data.size())))
        context_.engine.send_data(request, data);
}

void AdminCommands::identify(Request& request) {
    const auto cns = static_cast<Cns>(identify_command::cns.get(request.command.cdw10));
    const uint32_t nsid = request.command.nsid;
    const auto no_such_namespace = [&] {
        done(request, Status(StatusCode::invalid_namespace_or_format, true));
    };
    switch (cns) {
    case Cns::name_space:
        // There is no namespace management, so no capabilities common to all: the broadcast value is invalid.
        if (nsid != namespace_id) return no_such_namespace();
        {
            const auto page = namespace_page();
            return send_page(request, std::as_bytes(std::span(&page, 1)));
        }
    case Cns::controller: {
        const auto page = controller_page();
        return send_page(request, std::as_bytes(std::span(&page, 1)));
    }
    case Cns::active_namespaces: {
        // Namespaces above NSID; 0xfffffffe and 0xffffffff are no place to start from.
        if (nsid >= broadcast_nsid - 1) return no_such_namespace();
        std::array<le32, identify_bytes / sizeof(le32)> list{};
        if (nsid < namespace_id) list[0] = namespace_id;
        return send_page(request, std::as_bytes(std::span(list)));
    }
    case Cns::namespace_descriptors:
        if (nsid != namespace_id) return no_such_namespace();
        return namespace_descriptors(request);
    case Cns::namespace_io_set:
    case Cns::controller_io_set: {
        // The NVM command set (CSI 0) has nothing to add: no limits beside MDTS, no special formats.
        if (identify_command::csi.get(request.command.cdw11) != 0) return invalid_field(request);
        if (cns == Cns::namespace_io_set && nsid != namespace_id) return no_such_namespace();
        const IdentifyControllerNvm page;
        return send_page(request, std::as_bytes(std::span(&page, 1)));
    }
    default:
        return invalid_field(request);
    }
}

} // namespace lanepool::nvme::model
