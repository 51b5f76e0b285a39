// SPDX-License-Identifier: Apache-2.0
//
// For tests: an NVMe controller as a register struct that acts inside of the calls that reach it. It does
// just enough to be driven, and can be told to misbehave.
#pragma once

#include "io/clock.h"
#include "nvme/spec.h"
#include "pci/config_space.h"
#include "pci/function.h"

#include <algorithm>
#include <cstring>
#include <functional>
#include <map>
#include <optional>
#include <vector>

namespace lanepool::nvme {

// Each look at it moves it on, so that every wait ends.
class SteppingClock final : public io::Clock {
  public:
    explicit SteppingClock(io::Duration step = std::chrono::milliseconds(5)) : step_(step) {}
    io::TimePoint now() const override { return now_ += step_; }
    int64_t unix_time_us() const override { return 0; }

  private:
    io::Duration step_;
    mutable io::TimePoint now_{};
};

class FakeController : public pci::Function {
  public:
    struct Answer {
        Status status;
        uint32_t dw0 = 0;
    };
    static constexpr uint32_t block_bytes = 512;
    static constexpr uint64_t blocks = 4096;

    // What a test may change.
    std::function<std::optional<Answer>(uint16_t queue, const Command&)> on_command =
        [this](uint16_t queue, const Command& command) -> std::optional<Answer> {
        return answer(queue, command);
    };
    std::function<void(Completion&)> on_complete = [](Completion&) {};
    uint64_t cap_value = 31 | cap::cqr(1) | cap::to(2) | cap::css(cap::css_nvm);
    IdentifyController controller;
    IdentifyNamespace name_space;
    bool gone = false;        // as on a bus: reads are all-ones
    bool never_ready = false; // CSTS.RDY stays as it is
    bool fatal = false;
    bool sanitize_fails = false;
    bool sanitize_lies = false; // says that it is done, and erases nothing
    bool resettable = true;
    std::vector<std::byte> disk = std::vector<std::byte>(blocks * block_bytes);

    // What a test may look at.
    std::vector<Command> log;
    uint64_t calls = 0;
    uint32_t resets = 0;
    bool ready() const { return csts::rdy.get(csts_) != 0; }
    size_t dma_mappings() const { return dma_.size(); }
    size_t irqs() const { return irqs_; }
    uint16_t pci_command() const { return pci::get16(config_, pci::config::command); }

    FakeController() {
        regions_[0] = {0x2000, true, true, {}};
        regions_[static_cast<size_t>(pci::Region::config)] = {sizeof config_, true, true, {}};
        pci::set16(config_, pci::config::vendor_id, 0x1b36);
        pci::set16(config_, pci::config::device_id, 0x0010);
        pci::set32(config_, pci::config::revision, class_code << 8);
        irq_info_.count = 8;
        pad(controller.model, "Fake drive");
        pad(controller.serial, "F0001");
        pad(controller.firmware, "1.0");
        controller.vid = 0x1b36;
        controller.mdts = 5;
        controller.version = version(1, 4);
        controller.sqes = 0x66;
        controller.cqes = 0x44;
        controller.nn = 1;
        controller.oncs = oncs::write_zeroes | oncs::dataset_management;
        name_space.size_blocks = blocks;
        name_space.capacity_blocks = blocks;
        name_space.dlfeat = dlfeat::reads_zeroes;
        name_space.lba_formats[0].data_shift = 9;
    }

    const pci::RegionInfo& region(pci::Region index) const override {
        return regions_[static_cast<size_t>(index)];
    }
    const pci::IrqInfo& irq(pci::Irq index) const override {
        return index == pci::Irq::msix ? irq_info_ : no_irq_;
    }
    bool can_reset() const override { return resettable; }
    Result<> read(pci::Region region, uint64_t offset, std::span<std::byte> data) override;
    Result<> write(pci::Region region, uint64_t offset, std::span<const std::byte> data) override;
    Result<std::vector<pci::Extent>> memory(pci::Region, uint64_t, uint64_t) override {
        return std::vector<pci::Extent>{};
    }
    Result<UniqueFd> event(pci::Region, uint64_t) override { return fail(Errc::not_supported, "no events"); }
    Result<pci::DmaMapping> map_dma(Range<Iova> range, const MemoryRef& memory, Access) override {
        for (auto& [start, mapping] : dma_)
            if (range.start().value < start + mapping.size_bytes() && start <= range.last().value)
                return fail(Errc::already_exists, "mapped already");
        dma_.emplace(range.start().value, TRY(Mapping::create(memory)));
        return pci::DmaMapping(*this, range);
    }
    Result<pci::DmaMapping> map_dma(Range<Iova>, std::shared_ptr<pci::DmaTarget>, Access) override {
        return fail(Errc::not_supported, "no targets");
    }
    Result<pci::DmaMapping> map_dma_event(Iova, const UniqueFd&) override {
        return fail(Errc::not_supported, "no events");
    }
    Result<> unmap_dma(Range<Iova> range) override {
        return dma_.erase(range.start().value) ? Result<>{} : fail(Errc::not_found, "not mapped");
    }
    Result<> set_irqs(pci::Irq, uint32_t, std::span<const int> eventfds) override {
        irqs_ = eventfds.size();
        return {};
    }
    Result<> mask_irq(pci::Irq, uint32_t, bool) override { return {}; }
    Result<> reset() override {
        ++resets;
        fatal = false;
        cc_ = csts_ = 0;
        queues_.clear();
        pci::set16(config_, pci::config::command, 0);
        return {};
    }
    bool fresh_memory_on_reset() const override { return false; }
    void on_disconnect(std::function<void()>) override {}

    // What a good controller would answer.
    std::optional<Answer> answer(uint16_t queue, const Command& command);
    // Completes a command by hand, with whatever is in ENTRY.
    void post(uint16_t queue, Completion entry);
    // SIZE bytes that the command's PRPs describe, into or out of DATA.
    bool transfer(const Command& command, std::span<std::byte> data, bool to_host);

  private:
    struct Queue {
        uint64_t sq = 0, cq = 0;
        uint16_t entries = 0, sq_head = 0, cq_tail = 0;
        bool phase = true;
    };
    template <size_t n>
    static void pad(std::array<char, n>& field, std::string_view value) {
        field.fill(' ');
        std::copy(value.begin(), value.end(), field.begin());
    }
    std::byte* dma(uint64_t iova, uint64_t size) {
        auto it = dma_.upper_bound(iova);
        if (it == dma_.begin()) return nullptr;
        --it;
        const uint64_t offset = iova - it->first;
        return offset <= it->second.size_bytes() && size <= it->second.size_bytes() - offset
                   ? it->second.data() + offset
                   : nullptr;
    }
    void set_cc(uint32_t value);
    void run_queue(uint16_t id, uint16_t tail);
    Answer admin(const Command& command);
    Answer io(const Command& command);
    Answer sanitize_log(const Command& command);

    std::array<std::byte, pci::extended_config_bytes> config_{};
    std::array<pci::RegionInfo, pci::region_count> regions_;
    pci::IrqInfo irq_info_, no_irq_;
    size_t irqs_ = 0;
    std::map<uint64_t, Mapping> dma_;
    uint32_t cc_ = 0, csts_ = 0, aqa_ = 0;
    uint64_t asq_ = 0, acq_ = 0;
    std::map<uint16_t, Queue> queues_;
    uint16_t sanitize_progress_ = sanitize_status::idle_progress;
    uint32_t sanitize_dword10_ = 0;
    uint16_t sanitize_outcome_ = sanitize_status::never;
};

inline Result<> FakeController::read(pci::Region region, uint64_t offset, std::span<std::byte> data) {
    ++calls;
    if (gone) {
        std::fill(data.begin(), data.end(), std::byte{0xff});
        return {};
    }
    if (region == pci::Region::config) {
        std::copy_n(config_.begin() + static_cast<ptrdiff_t>(offset), data.size(), data.begin());
        return {};
    }
    uint64_t value = 0;
    if (offset == reg::cap) value = cap_value;
    if (offset == reg::vs) value = version(1, 4);
    if (offset == reg::cc) value = cc_;
    if (offset == reg::csts) value = csts::cfs.set(csts_, fatal ? 1 : 0);
    const le64 bytes = value;
    std::memcpy(data.data(), &bytes, std::min(data.size(), sizeof bytes));
    return {};
}

inline Result<> FakeController::write(pci::Region region, uint64_t offset, std::span<const std::byte> data) {
    ++calls;
    if (gone) return {};
    if (region == pci::Region::config) {
        std::copy(data.begin(), data.end(), config_.begin() + static_cast<ptrdiff_t>(offset));
        return {};
    }
    le64 bytes = 0;
    std::memcpy(&bytes, data.data(), std::min(data.size(), sizeof bytes));
    const uint64_t value = bytes;
    if (offset == reg::aqa) aqa_ = static_cast<uint32_t>(value);
    if (offset == reg::asq) asq_ = value;
    if (offset == reg::acq) acq_ = value;
    if (offset == reg::cc) set_cc(static_cast<uint32_t>(value));
    if (offset >= reg::doorbells && (offset - reg::doorbells) / 4 % 2 == 0)
        run_queue(static_cast<uint16_t>((offset - reg::doorbells) / 8), static_cast<uint16_t>(value));
    return {};
}

inline void FakeController::set_cc(uint32_t value) {
    cc_ = value;
    if (cc::shn.get(value)) csts_ = csts::shst.set(csts_, csts::shst_complete);
    if (never_ready) return;
    csts_ = csts::rdy.set(csts_, cc::en.get(value));
    queues_.clear();
    if (cc::en.get(value))
        queues_[0] = {asq_, acq_, static_cast<uint16_t>(aqa::asqs.get(aqa_) + 1), 0, 0, true};
}

inline void FakeController::run_queue(uint16_t id, uint16_t tail) {
    while (queues_.count(id) && !fatal && queues_[id].sq_head != tail && tail < queues_[id].entries) {
        auto& queue = queues_[id];
        Command command;
        const auto* place = dma(queue.sq + queue.sq_head * sizeof command, sizeof command);
        if (!place) return;
        std::memcpy(&command, place, sizeof command);
        queue.sq_head = static_cast<uint16_t>((queue.sq_head + 1) % queue.entries);
        log.push_back(command);
        const auto answer = on_command(id, command);
        if (!answer) continue;
        Completion entry;
        entry.dw0 = answer->dw0;
        entry.sq_head = queue.sq_head;
        entry.sq_id = id;
        entry.cid = command.cid;
        entry.status_phase = Completion::make_status_phase(answer->status, false);
        post(id, entry);
    }
}

inline void FakeController::post(uint16_t id, Completion entry) {
    if (!queues_.count(id)) return;
    auto& queue = queues_[id];
    entry.status_phase = static_cast<uint16_t>(entry.status_phase | (queue.phase ? 1 : 0));
    on_complete(entry);
    if (auto* place = dma(queue.cq + queue.cq_tail * sizeof entry, sizeof entry))
        std::memcpy(place, &entry, sizeof entry);
    if (++queue.cq_tail == queue.entries) {
        queue.cq_tail = 0;
        queue.phase = !queue.phase;
    }
}

inline bool FakeController::transfer(const Command& command, std::span<std::byte> data, bool to_host) {
    const auto copy = [&](uint64_t iova, size_t position, size_t size) {
        auto* place = dma(iova, size);
        if (place && to_host) std::memcpy(place, &data[position], size);
        if (place && !to_host) std::memcpy(&data[position], place, size);
        return place != nullptr;
    };
    size_t done = std::min<size_t>(data.size(), 4096 - command.prp1 % 4096);
    if (!copy(command.prp1, 0, done)) return false;
    if (data.size() - done <= 4096)
        return done == data.size() || copy(command.prp2, done, data.size() - done);
    for (uint64_t entry = command.prp2; done < data.size(); entry += 8) {
        const auto* place = dma(entry, 8);
        if (!place) return false;
        le64 page;
        std::memcpy(&page, place, 8);
        const size_t size = std::min<size_t>(data.size() - done, 4096);
        if (!copy(page, done, size)) return false;
        done += size;
    }
    return true;
}

inline std::optional<FakeController::Answer> FakeController::answer(uint16_t queue, const Command& command) {
    return queue == 0 ? admin(command) : io(command);
}

inline FakeController::Answer FakeController::admin(const Command& command) {
    const auto give = [&](auto data) -> Answer {
        const bool given = transfer(command, std::as_writable_bytes(std::span(&data, 1)), true);
        return {given ? StatusCode::success : StatusCode::data_transfer_error};
    };
    const auto qid = static_cast<uint16_t>(create_queue::qid.get(command.cdw10));
    const auto entries = static_cast<uint16_t>(create_queue::qsize.get(command.cdw10) + 1);
    switch (static_cast<AdminOpcode>(command.opcode)) {
    case AdminOpcode::identify:
        switch (static_cast<Cns>(identify_command::cns.get(command.cdw10))) {
        case Cns::controller:
            return give(controller);
        case Cns::name_space:
            return give(name_space);
        case Cns::active_namespaces: {
            std::array<le32, 1024> list{};
            if (command.nsid < 1) list[0] = 1;
            return give(list);
        }
        default:
            return {StatusCode::invalid_field};
        }
    case AdminOpcode::set_features:
        return {StatusCode::success, 0x00030003};
    case AdminOpcode::get_features:
        return {StatusCode::success, 7};
    case AdminOpcode::create_io_cq:
        queues_[qid] = {0, command.prp1, entries, 0, 0, true};
        return {};
    case AdminOpcode::create_io_sq:
        queues_[qid].sq = command.prp1;
        return {};
    case AdminOpcode::delete_io_sq:
        return {};
    case AdminOpcode::delete_io_cq:
        queues_.erase(qid);
        return {};
    case AdminOpcode::get_log_page:
        if (get_log::lid.get(command.cdw10) == 0x81) return sanitize_log(command);
        return give(SmartLog{});
    case AdminOpcode::format_nvm:
        if (!(controller.oacs & oacs::format)) return {StatusCode::invalid_opcode};
        std::fill(disk.begin(), disk.end(), std::byte{0});
        return {};
    case AdminOpcode::sanitize:
        if (controller.sanicap == 0) return {StatusCode::invalid_opcode};
        sanitize_dword10_ = command.cdw10;
        sanitize_outcome_ = sanitize_status::in_progress;
        sanitize_progress_ = 0;
        return {};
    default:
        return {StatusCode::invalid_opcode};
    }
}

// Half of the work is done between two looks at it.
inline FakeController::Answer FakeController::sanitize_log(const Command& command) {
    if (sanitize_outcome_ == sanitize_status::in_progress) {
        if (sanitize_progress_ < 0x8000) {
            sanitize_progress_ = 0x8000;
        } else {
            sanitize_progress_ = sanitize_status::idle_progress;
            sanitize_outcome_ = sanitize_fails ? sanitize_status::failed : sanitize_status::completed;
            if (!sanitize_fails && !sanitize_lies) std::fill(disk.begin(), disk.end(), std::byte{0});
        }
    }
    SanitizeStatusLog page;
    page.progress = sanitize_progress_;
    page.status = sanitize_outcome_;
    page.command_dword10 = sanitize_dword10_;
    return {transfer(command, std::as_writable_bytes(std::span(&page, 1)), true)
                ? StatusCode::success
                : StatusCode::data_transfer_error};
}

inline FakeController::Answer FakeController::io(const Command& command) {
    const auto opcode = static_cast<IoOpcode>(command.opcode);
    if (opcode == IoOpcode::flush) return {};
    const uint64_t first = command.cdw10 | uint64_t{command.cdw11} << 32;
    const uint64_t count = rw::nlb.get(command.cdw12) + 1;
    if (opcode == IoOpcode::dataset_management) return {};
    if (first > blocks || count > blocks - first) return {StatusCode::lba_out_of_range};
    const auto data = std::span(disk).subspan(first * block_bytes, count * block_bytes);
    switch (opcode) {
    case IoOpcode::read:
        return {transfer(command, data, true) ? StatusCode::success : StatusCode::data_transfer_error};
    case IoOpcode::write:
        return {transfer(command, data, false) ? StatusCode::success : StatusCode::data_transfer_error};
    case IoOpcode::write_zeroes:
        std::fill(data.begin(), data.end(), std::byte{0});
        return {};
    default:
        return {StatusCode::invalid_opcode};
    }
}

} // namespace lanepool::nvme
