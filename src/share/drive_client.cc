// SPDX-License-Identifier: Apache-2.0
#include "share/drive_client.h"

#include "nvme/controller_registers.h"

#include <algorithm>
#include <cstring>
#include <thread>

namespace lanepool::sharing {

namespace {
constexpr io::Duration leave_timeout = std::chrono::seconds(1);
constexpr uint64_t bounce_bytes = 1 << 20;
constexpr uint32_t polls_before_yield = 256;
constexpr io::Duration loan_look_interval = std::chrono::milliseconds(5);
} // namespace

Result<std::unique_ptr<DriveClient>> DriveClient::open(Fabric& fabric, BorrowedDrive& drive, uint64_t fdid,
                                                       const io::Clock& clock, SharedDriveOptions options,
                                                       std::shared_ptr<void> owner) {
    if (options.depth == 0 || options.depth > nvme::QueuePair::max_depth)
        return fail(Errc::out_of_range, "a queue depth of {} is not in 1..{}", options.depth,
                    nvme::QueuePair::max_depth);
    std::unique_ptr<DriveClient> client(
        new DriveClient(fabric, drive, clock, std::move(options), std::move(owner)));
    TRY(client->make_queue_memory());
    TRY(client->join(fdid));
    return client;
}

Result<> DriveClient::make_queue_memory() {
    const uint64_t capabilities = TRY(pci::read64(drive_.function(), pci::Region::bar0, nvme::reg::cap));
    const uint64_t shift = nvme::cap::mpsmin.get(capabilities);
    if (capabilities == ~uint64_t{0} || shift > 4)
        return fail(Errc::not_supported, "the device is no drive that can be shared (CAP {:#x})",
                    capabilities);
    page_bytes_ = nvme::min_page_bytes << shift;
    submission_ =
        TRY(nvme::DmaMemory::create(drive_.allocator(), nvme::QueuePair::submission_bytes(options_.depth),
                                    page_bytes_, "lanepool-shared-sq"));
    completion_ =
        TRY(nvme::DmaMemory::create(drive_.allocator(), nvme::QueuePair::completion_bytes(options_.depth),
                                    page_bytes_, "lanepool-shared-cq"));
    pending_.resize(options_.depth);
    for (uint16_t i = options_.depth; i > 0; --i)
        free_.push_back(static_cast<uint16_t>(i - 1));
    return {};
}

Result<> DriveClient::join(uint64_t fdid) {
    membership_ =
        TRY(Membership::create(fabric_, clock_, {options_.manager_node.value_or(drive_.node()), fdid}));
    const auto deadline = clock_.now() + options_.open_timeout;
    apart_since_ = clock_.now();
    while (!queue_) {
        const auto now = clock_.now();
        keep_membership(now);
        if (broken_) return tl::unexpected(*broken_);
        if (now > deadline)
            return fail(
                Errc::not_found,
                "drive {:x} has no manager on node {}: start `lanepool nvme share` there, or name its node",
                fdid, options_.manager_node.value_or(drive_.node()));
        if (!queue_) std::this_thread::sleep_for(std::chrono::microseconds(200));
    }
    opened_ = true;
    return {};
}

DriveClient::~DriveClient() { [[maybe_unused]] auto ignored = close(); }

Result<> DriveClient::close() {
    const Error reason(Errc::cancelled, "the shared drive is being closed");
    if (!broken_) broken_ = reason;
    if (queue_) queue_->break_with(reason);
    queue_.reset();
    answer_all(reason);
    // Until the manager has deleted the queue pair the drive may still write to this process's memory.
    return membership_ ? membership_->leave(leave_timeout) : Result<>();
}

// ---- commands

Result<> DriveClient::add(nvme::Command command, uint64_t units, SharedDrive::Done done) {
    if (broken_) return tl::unexpected(*broken_);
    if (free_.empty())
        return fail(Errc::busy, "{} commands are under way: poll() before the next one", options_.depth);
    const uint16_t index = free_.back();
    free_.pop_back();
    auto& pending = pending_[index];
    pending.command = command;
    pending.sequence = ++sequence_;
    pending.units = units;
    pending.done = std::move(done);
    pending.under_way = false;
    waiting_.push_back(index);
    ++outstanding_;
    return {};
}

namespace {
// The drive counts from the namespace's start.
void move_blocks(nvme::Command& command, uint64_t first_block) {
    const uint64_t block = (uint64_t{command.cdw11} << 32 | command.cdw10) + first_block;
    command.cdw10 = static_cast<uint32_t>(block);
    command.cdw11 = static_cast<uint32_t>(block >> 32);
}
} // namespace

Result<> DriveClient::read(const SharedDrive::Extent& extent, DriveBuffer& buffer, SharedDrive::Done done) {
    auto command = TRY(nvme::make_read(part_, extent.block, extent.blocks, {buffer, extent.offset_bytes}));
    move_blocks(command, first_block_);
    return add(command, units_of(uint64_t{extent.blocks} * part_.block_bytes), std::move(done));
}

Result<> DriveClient::write(const SharedDrive::Extent& extent, const DriveBuffer& buffer,
                            SharedDrive::Done done) {
    if (read_only_) return fail(Errc::permission_denied, "this client's part of the drive is read-only");
    auto command = TRY(nvme::make_write(part_, extent.block, extent.blocks, {buffer, extent.offset_bytes}));
    move_blocks(command, first_block_);
    return add(command, units_of(uint64_t{extent.blocks} * part_.block_bytes), std::move(done));
}

Result<> DriveClient::flush(SharedDrive::Done done) {
    return add(nvme::make_flush(part_), 1, std::move(done));
}

Result<uint32_t> DriveClient::poll() {
    if (broken_) return tl::unexpected(*broken_);
    called_back_ = 0;
    auto now = clock_.now();
    keep_membership(now);
    if (queue_) submit_waiting(now);
    if (queue_ && !queue_->poll()) lose_queue(clock_.now());
    show_counters();
    if (broken_) return tl::unexpected(*broken_);
    return called_back_;
}

void DriveClient::submit_waiting(io::TimePoint now) {
    if (waiting_.empty()) return;
    // Another manager may have given the queue to somebody else: look first.
    if (!membership_->fresh(now)) return;
    const bool paced = membership_->paced(now);
    if (paced && membership_->heartbeat() != seen_heartbeat_) {
        seen_heartbeat_ = membership_->heartbeat();
        gate_.open(membership_->allowance(), now);
    }
    const uint64_t allowed = paced ? gate_.allowed(now) : no_limit;
    while (!waiting_.empty() && !queue_->full()) {
        if (submitted_ >= allowed) {
            ++held_;
            return;
        }
        const uint16_t index = waiting_.front();
        auto& pending = pending_[index];
        const auto sent = queue_->submit(pending.command, options_.command_timeout,
                                         [this, index](const nvme::Outcome& o) { answered(index, o); });
        if (!sent) return; // it is broken: poll() finds out
        waiting_.pop_front();
        pending.under_way = true;
        submitted_ += pending.units;
    }
}

void DriveClient::answered(uint16_t index, const nvme::Outcome& outcome) {
    auto& pending = pending_[index];
    pending.under_way = false;
    completed_ += pending.units;
    // A command that was under way in a queue that is gone has had no answer: it goes again. One that the
    // drive was too slow for is answered so.
    if (outcome.lost && *outcome.lost != Errc::timeout) {
        const auto place = std::ranges::lower_bound(waiting_, pending.sequence, {},
                                                    [this](uint16_t i) { return pending_[i].sequence; });
        waiting_.insert(place, index);
        return;
    }
    auto result = outcome.result("the command");
    finish(index, result ? Result<>() : tl::unexpected(std::move(result).error()));
}

void DriveClient::finish(uint16_t index, Result<> result) {
    auto done = std::exchange(pending_[index].done, nullptr);
    free_.push_back(index);
    --outstanding_;
    ++called_back_;
    if (done) done(std::move(result)); // may start the next one
}

// ---- the queue pair, and who gives it

void DriveClient::keep_membership(io::TimePoint now) {
    if (now >= next_loan_look_) {
        next_loan_look_ = now + loan_look_interval;
        if (auto lost = drive_.lost()) return break_with(std::move(*lost));
    }
    const bool member = membership_->standing() == Membership::Standing::member;
    membership_->look(now);
    switch (membership_->standing()) {
    case Membership::Standing::member:
        if (!queue_) take_queue(now);
        break;
    case Membership::Standing::refused:
        break_with(membership_->refusal());
        break;
    case Membership::Standing::apart:
        if (member) lose_queue(now);
        if (membership_->found()) {
            Join join;
            join.depth = options_.depth;
            join.submission = submission_.iova();
            join.completion = completion_.iova();
            membership_->ask(join, now);
        }
        break;
    case Membership::Standing::asking:
        break;
    }
    if (!queue_ && opened_ && outstanding_ > 0 && now - apart_since_ > options_.manager_timeout)
        answer_all({Errc::unavailable, "the shared drive was reset, and has no manager since: start "
                                       "`lanepool nvme share` again"});
}

Result<nvme::NamespaceInfo> DriveClient::part_of(const Joined& joined) const {
    const auto& facts = membership_->facts();
    const auto spaces = std::span(facts.space).first(std::min<size_t>(facts.namespaces, facts.space.size()));
    const auto found = std::ranges::find(spaces, joined.nsid, &DriveFacts::Namespace::nsid);
    if (found == spaces.end() || joined.first_block > found->blocks ||
        joined.blocks > found->blocks - joined.first_block || !std::has_single_bit(found->block_bytes) ||
        found->block_bytes < 512 || found->block_bytes > 65536 || facts.page_bytes != page_bytes_ ||
        facts.doorbell_stride > 15 || facts.max_transfer_bytes < found->block_bytes)
        return fail(Errc::protocol, "the drive's manager gives blocks {} on of namespace {}, which cannot be",
                    joined.first_block, joined.nsid);
    nvme::NamespaceInfo part;
    part.nsid = joined.nsid;
    part.blocks = joined.blocks;
    part.block_bytes = found->block_bytes;
    part.max_transfer_bytes = std::min<uint64_t>(
        facts.max_transfer_bytes, (nvme::DmaMemory::max_transfer_pages - 1) * facts.page_bytes);
    return part;
}

void DriveClient::take_queue(io::TimePoint now) {
    const auto& joined = membership_->joined();
    auto part = part_of(joined);
    if (!part) return break_with(part.error());
    if (opened_ &&
        (part->nsid != part_.nsid || part->blocks != part_.blocks || part->block_bytes != part_.block_bytes ||
         joined.first_block != first_block_ || joined.read_only != read_only_))
        return break_with(
            {Errc::failed_precondition,
             "the drive's new manager gives this client another part of the drive: open it again"});
    part_ = *part;
    first_block_ = joined.first_block;
    read_only_ = joined.read_only;
    weight_ = joined.weight;
    auto doorbells =
        nvme::Doorbells::create(drive_.function(), membership_->facts().doorbell_stride, joined.queue + 1u);
    if (!doorbells) return break_with(doorbells.error());
    doorbells_ = std::move(*doorbells);
    auto queue = nvme::QueuePair::create(
        {submission_.bytes(), submission_.iova(), completion_.bytes(), completion_.iova()}, doorbells_,
        clock_, [this] { return healthy(); }, {joined.queue, options_.depth});
    if (!queue) return break_with(queue.error());
    queue_ = std::move(*queue);
    if (opened_) ++rejoined_;
    gate_ = {};
    seen_heartbeat_ = membership_->heartbeat();
    apart_since_ = now;
}

// Asked by the queue when the drive is silent for long.
Result<> DriveClient::healthy() {
    if (auto lost = drive_.lost()) return tl::unexpected(std::move(*lost));
    const uint32_t status = TRY(pci::read32(drive_.function(), pci::Region::bar0, nvme::reg::csts));
    if (status == ~uint32_t{0}) return fail(Errc::disconnected, "the drive is gone");
    if (!nvme::csts::rdy.get(status) || nvme::csts::cfs.get(status))
        return fail(Errc::cancelled, "the drive was reset or has failed (CSTS {:#x})", status);
    return {};
}

// What it had under way waits again, in order.
void DriveClient::lose_queue(io::TimePoint now) {
    if (!queue_) return;
    queue_->break_with({Errc::cancelled, "the queue pair is gone"});
    queue_.reset();
    membership_->part(now);
    apart_since_ = now;
    if (auto lost = drive_.lost()) break_with(std::move(*lost));
}

void DriveClient::break_with(Error reason) {
    if (broken_) return;
    broken_ = reason;
    if (queue_) queue_->break_with(reason);
    queue_.reset();
    answer_all(reason);
}

void DriveClient::answer_all(const Error& reason) {
    // A callback may start commands again, which then wait.
    const auto waiting = std::exchange(waiting_, {});
    for (const uint16_t index : waiting)
        finish(index, tl::unexpected(reason));
}

void DriveClient::show_counters() {
    auto& page = membership_->page();
    page.held.set(held_);
    page.submitted.set(submitted_);
    page.completed.set(completed_);
}

// ---- blocking calls

Result<> DriveClient::wait_for(const std::function<bool()>& done) {
    for (uint32_t polls = 1; !done(); ++polls) {
        TRY(poll());
        if (polls % polls_before_yield == 0) std::this_thread::yield();
    }
    return {};
}

Result<> DriveClient::copy_blocks(uint64_t block, std::span<std::byte> read_to,
                                  std::span<const std::byte> write_from) {
    const uint64_t size_bytes = std::max(read_to.size(), write_from.size());
    if (size_bytes == 0 || size_bytes % part_.block_bytes != 0)
        return fail(Errc::invalid_argument, "{} bytes are not whole blocks of {} bytes", size_bytes,
                    part_.block_bytes);
    if (bounce_.size_bytes() == 0) bounce_ = TRY(allocate(bounce_bytes));
    const uint64_t most =
        std::min(part_.max_transfer_bytes, bounce_.size_bytes()) / part_.block_bytes * part_.block_bytes;
    for (uint64_t at = 0; at < size_bytes;) {
        const uint64_t piece = std::min(most, size_bytes - at);
        const SharedDrive::Extent extent{block + at / part_.block_bytes,
                                         static_cast<uint32_t>(piece / part_.block_bytes), 0};
        std::optional<Result<>> outcome;
        const auto done = [&outcome](Result<> result) { outcome = std::move(result); };
        if (!write_from.empty()) std::memcpy(bounce_.bytes().data(), &write_from[at], piece);
        TRY(wait_for([this] { return !free_.empty(); }));
        TRY(write_from.empty() ? read(extent, bounce_, done) : write(extent, bounce_, done));
        // When the drive breaks every command has been answered.
        if (auto waited = wait_for([&outcome] { return outcome.has_value(); }); !waited && !outcome)
            return waited;
        TRY(std::move(*outcome));
        if (write_from.empty()) std::memcpy(&read_to[at], bounce_.bytes().data(), piece);
        at += piece;
    }
    return {};
}

Result<> DriveClient::flush_blocks() {
    std::optional<Result<>> outcome;
    TRY(wait_for([this] { return !free_.empty(); }));
    TRY(flush([&outcome](Result<> result) { outcome = std::move(result); }));
    if (auto waited = wait_for([&outcome] { return outcome.has_value(); }); !waited && !outcome)
        return waited;
    return std::move(*outcome);
}

} // namespace lanepool::sharing
