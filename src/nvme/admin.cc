// SPDX-License-Identifier: Apache-2.0
#include "nvme/admin.h"

#include <algorithm>
#include <cstring>

namespace lanepool::nvme {

namespace {
Command make(AdminOpcode opcode, uint32_t nsid = 0) {
    Command command;
    command.opcode = static_cast<uint8_t>(opcode);
    command.nsid = nsid;
    return command;
}
template <class T>
std::span<std::byte> bytes_of(T& value) {
    return std::as_writable_bytes(std::span(&value, 1));
}
} // namespace

Result<uint32_t> Admin::execute(const Command& command, std::string_view what, io::Duration timeout) {
    const auto outcome = queue_.execute(command, timeout);
    if (outcome.lost == Errc::timeout)
        queue_.break_with(
            {Errc::timeout, fmt::format("{} was not answered in time: reset the controller", what)});
    return outcome.result(what);
}

Result<uint32_t> Admin::execute_read(Command command, std::span<std::byte> out, std::string_view what) {
    if (out.empty()) return execute(command, what, timeout_);
    const auto prps = TRY(data_.prps(0, out.size()));
    command.prp1 = prps.prp1;
    command.prp2 = prps.prp2;
    // A controller that writes less than it should must not show what the last command left.
    std::memset(data_.bytes().data(), 0, out.size());
    const auto dw0 = TRY(execute(command, what, timeout_));
    std::memcpy(out.data(), data_.bytes().data(), out.size());
    return dw0;
}

Result<> Admin::identify(Cns cns, uint32_t nsid, std::span<std::byte> out) {
    auto command = make(AdminOpcode::identify, nsid);
    command.cdw10 = identify_command::cns(static_cast<uint32_t>(cns));
    TRY(execute_read(command, out, fmt::format("identify {:#04x} of {}", static_cast<unsigned>(cns), nsid)));
    return {};
}

Result<IdentifyController> Admin::identify_controller() {
    IdentifyController data;
    TRY(identify(Cns::controller, 0, bytes_of(data)));
    return data;
}
Result<IdentifyNamespace> Admin::identify_namespace(uint32_t nsid) {
    IdentifyNamespace data;
    TRY(identify(Cns::name_space, nsid, bytes_of(data)));
    return data;
}
Result<IdentifyControllerNvm> Admin::identify_controller_nvm() {
    IdentifyControllerNvm data; // command set identifier 0 is the NVM command set
    TRY(identify(Cns::controller_io_set, 0, bytes_of(data)));
    return data;
}

Result<std::vector<uint32_t>> Admin::active_namespaces(size_t limit) {
    std::array<le32, identify_bytes / sizeof(le32)> list;
    std::vector<uint32_t> ids;
    // Each list holds the ids above NSID; ascending, so a list that does not grow is nonsense.
    uint32_t last = 0;
    for (;;) {
        TRY(identify(Cns::active_namespaces, last, bytes_of(list)));
        for (const uint32_t id : list) {
            if (id == 0 || ids.size() >= limit) return ids;
            if (id <= last || id >= 0xfffffffe)
                return fail(Errc::protocol, "the list of namespaces has {:#x} after {:#x}", id, last);
            ids.push_back(id);
            last = id;
        }
    }
}

Result<> Admin::get_log(LogPage page, uint32_t nsid, uint64_t offset_bytes, std::span<std::byte> out) {
    if (out.empty() || out.size() % 4 != 0 || offset_bytes % 4 != 0)
        return fail(Errc::invalid_argument, "a log page is read in dwords, not {} bytes at {}", out.size(),
                    offset_bytes);
    const auto dwords = static_cast<uint32_t>(out.size() / 4 - 1);
    auto command = make(AdminOpcode::get_log_page, nsid);
    command.cdw10 = get_log::lid(static_cast<uint32_t>(page)) | get_log::numdl(dwords);
    command.cdw11 = get_log::numdu(dwords >> 16);
    command.cdw12 = static_cast<uint32_t>(offset_bytes);
    command.cdw13 = static_cast<uint32_t>(offset_bytes >> 32);
    TRY(execute_read(command, out, fmt::format("reading log page {:#04x}", static_cast<unsigned>(page))));
    return {};
}

Result<SmartLog> Admin::smart_log() {
    SmartLog log;
    TRY(get_log(LogPage::smart, broadcast_nsid, 0, bytes_of(log)));
    return log;
}
Result<SanitizeStatusLog> Admin::sanitize_status() {
    SanitizeStatusLog log;
    TRY(get_log(LogPage::sanitize_status, broadcast_nsid, 0, bytes_of(log)));
    return log;
}

Result<uint32_t> Admin::get_feature(Feature feature, uint32_t nsid, uint32_t select,
                                    std::span<std::byte> out) {
    auto command = make(AdminOpcode::get_features, nsid);
    command.cdw10 = features_command::fid(static_cast<uint32_t>(feature)) | features_command::sel(select);
    return execute_read(command, out, fmt::format("reading feature {:#04x}", static_cast<unsigned>(feature)));
}

Result<uint32_t> Admin::set_feature(Feature feature, uint32_t value, uint32_t nsid, bool save,
                                    std::span<const std::byte> data) {
    auto command = make(AdminOpcode::set_features, nsid);
    command.cdw10 =
        features_command::fid(static_cast<uint32_t>(feature)) | features_command::sv(save ? 1 : 0);
    command.cdw11 = value;
    if (!data.empty()) {
        const auto prps = TRY(data_.prps(0, data.size()));
        command.prp1 = prps.prp1;
        command.prp2 = prps.prp2;
        std::memcpy(data_.bytes().data(), data.data(), data.size());
    }
    return execute(command, fmt::format("setting feature {:#04x}", static_cast<unsigned>(feature)), timeout_);
}

Result<> Admin::format(uint32_t nsid, uint8_t format, uint32_t secure_erase, io::Duration timeout) {
    auto command = make(AdminOpcode::format_nvm, nsid);
    command.cdw10 = format_command::lbaf(format) | format_command::ses(secure_erase);
    TRY(execute(command, fmt::format("formatting namespace {:#x}", nsid), timeout));
    return {};
}

Result<> Admin::start_sanitize(SanitizeAction action, uint32_t pattern) {
    auto command = make(AdminOpcode::sanitize);
    command.cdw10 = sanitize_command::sanact(static_cast<uint32_t>(action)) | sanitize_command::owpass(1);
    command.cdw11 = pattern;
    TRY(execute(command, "starting to sanitize", timeout_));
    return {};
}

Result<> Admin::exit_sanitize_failure() {
    auto command = make(AdminOpcode::sanitize);
    command.cdw10 = sanitize_command::sanact(static_cast<uint32_t>(SanitizeAction::exit_failure));
    TRY(execute(command, "leaving sanitize failure mode", timeout_));
    return {};
}

Result<> Admin::create_queue(const QueuePlace& place) {
    const uint32_t size = create_queue::qid(place.id) | create_queue::qsize(place.entries - 1u);
    auto completion = make(AdminOpcode::create_io_cq);
    completion.prp1 = place.completion.value;
    completion.cdw10 = size;
    completion.cdw11 = create_queue::pc(1) | create_queue::ien(place.interrupt_vector ? 1 : 0) |
                       create_queue::iv(place.interrupt_vector.value_or(0));
    TRY(execute(completion, fmt::format("creating completion queue {}", place.id), timeout_));

    auto submission = make(AdminOpcode::create_io_sq);
    submission.prp1 = place.submission.value;
    submission.cdw10 = size;
    submission.cdw11 = create_queue::pc(1) | create_queue::qprio(static_cast<uint32_t>(place.priority)) |
                       create_queue::cqid(place.id);
    auto created = execute(submission, fmt::format("creating submission queue {}", place.id), timeout_);
    if (created) return {};
    auto undo = make(AdminOpcode::delete_io_cq);
    undo.cdw10 = delete_queue::qid(place.id);
    TRY(execute(undo, fmt::format("deleting completion queue {}", place.id), timeout_));
    return tl::unexpected(std::move(created).error());
}

Result<> Admin::delete_queue(uint16_t id) {
    auto command = make(AdminOpcode::delete_io_sq);
    command.cdw10 = delete_queue::qid(id);
    TRY(execute(command, fmt::format("deleting submission queue {}", id), timeout_));
    command.opcode = static_cast<uint8_t>(AdminOpcode::delete_io_cq);
    TRY(execute(command, fmt::format("deleting completion queue {}", id), timeout_));
    return {};
}

Result<> Admin::set_doorbell_buffers(Iova shadow, Iova event_index) {
    auto command = make(AdminOpcode::doorbell_buffer_config);
    command.prp1 = shadow.value;
    command.prp2 = event_index.value;
    TRY(execute(command, "setting the doorbell buffers", timeout_));
    return {};
}

} // namespace lanepool::nvme
