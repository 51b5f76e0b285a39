// SPDX-License-Identifier: Apache-2.0
#include "cli/trial_drive.h"

#include "nvme/io_commands.h"

#include <algorithm>

namespace lanepool::cli {

namespace {

constexpr std::chrono::seconds borrow_limit{60};
constexpr std::chrono::seconds command_limit{30};
// A drive that never answers a command that cannot be carried out is let go after this.
constexpr std::chrono::seconds stray_limit{5};
constexpr uint64_t buffer_bytes = 64 * 1024;
constexpr uint64_t page_bytes = 4096;
// Lenders choose addresses from below; the smallest IOMMUs have 39 bits.
constexpr uint64_t unmapped_address = (uint64_t{1} << 39) - page_bytes;

} // namespace

Result<std::unique_ptr<SessionDrive>> SessionDrive::create(Session& session, DeviceFunction& function) {
    std::unique_ptr<SessionDrive> drive(new SessionDrive(session, function));
    nvme::DriverOptions options;
    options.reset = nvme::DriverOptions::Reset::never; // the lender has done it
    options.io_queues = 1;
    options.command_timeout = command_limit;
    options.allocator = std::make_shared<nvme::BorrowedMemory>(session, function.device());
    drive->driver_ = TRY(nvme::Driver::create(function, io::system_clock(), options));
    const auto& all = drive->driver_->namespaces();
    // A block lies in one page, so that one address says where.
    const auto plain = std::ranges::find_if(all, [](const nvme::NamespaceInfo& each) {
        return each.metadata_bytes == 0 && each.blocks != 0 && each.block_bytes <= page_bytes;
    });
    if (plain == all.end())
        return fail(Errc::not_supported,
                    "the drive has no namespace with blocks of data alone, of at most {} bytes", page_bytes);
    drive->namespace_ = *plain;
    drive->queue_ = TRY(drive->driver_->create_queue({}));
    drive->buffer_ = TRY(drive->driver_->allocate(buffer_bytes));
    return drive;
}

uint32_t SessionDrive::transfer_blocks() const {
    return static_cast<uint32_t>(std::min(buffer_bytes, namespace_.max_transfer_bytes) /
                                 namespace_.block_bytes);
}

Result<> SessionDrive::write(uint64_t first_block, std::span<const std::byte> data) {
    if (data.size() > buffer_.size_bytes()) return fail(Errc::out_of_range, "{} bytes at once", data.size());
    std::ranges::copy(data, buffer_.bytes().begin());
    const auto blocks = static_cast<uint32_t>(data.size() / namespace_.block_bytes);
    const auto command = TRY(nvme::make_write(namespace_, first_block, blocks, {buffer_}));
    TRY(queue_->execute(command, command_limit).result("writing"));
    return {};
}

Result<> SessionDrive::read(uint64_t first_block, std::span<std::byte> data) {
    if (data.size() > buffer_.size_bytes()) return fail(Errc::out_of_range, "{} bytes at once", data.size());
    const auto transferred = buffer_.bytes().first(data.size());
    // What was there must not pass for what was read.
    std::ranges::fill(transferred, std::byte{0x5a});
    const auto blocks = static_cast<uint32_t>(data.size() / namespace_.block_bytes);
    const auto command = TRY(nvme::make_read(namespace_, first_block, blocks, {buffer_}));
    TRY(queue_->execute(command, command_limit).result("reading"));
    std::ranges::copy(transferred, data.begin());
    return {};
}

Result<std::span<std::byte>> SessionDrive::revoked_memory() {
    if (!revoked_) {
        auto segment = TRY(Segment::create(session_, {.size_bytes = page_bytes, .is_private = true}));
        auto mapping = TRY(function_.device().map(segment));
        revoked_address_ = mapping.address();
        TRY(mapping.unmap());
        revoked_ = std::move(segment);
    }
    return revoked_->bytes();
}

Result<uint64_t> SessionDrive::address_of(qualify::Stray where) {
    if (where == qualify::Stray::unmapped) return unmapped_address;
    TRY(revoked_memory());
    return revoked_address_;
}

Result<> SessionDrive::execute_at(uint64_t address, nvme::Command command, const char* what) {
    command.prp1 = address;
    command.prp2 = 0;
    TRY(queue_->execute(command, stray_limit).result(what));
    return {};
}

Result<> SessionDrive::read_to(qualify::Stray where, uint64_t block) {
    return execute_at(TRY(address_of(where)), TRY(nvme::make_read(namespace_, block, 1, {buffer_})),
                      "reading to where it may not");
}

Result<> SessionDrive::write_from(qualify::Stray where, uint64_t block) {
    return execute_at(TRY(address_of(where)), TRY(nvme::make_write(namespace_, block, 1, {buffer_})),
                      "writing from where it may not");
}

Result<std::unique_ptr<SessionLoan>> SessionLoan::borrow(Session& session, uint64_t fdid) {
    auto function = TRY(DeviceFunction::borrow(session, fdid, Sharing::exclusive, borrow_limit));
    return std::unique_ptr<SessionLoan>(new SessionLoan(session, std::move(function)));
}

Result<> SessionLoan::give_back() {
    drive_.reset();
    return function_->device().give_back();
}

Result<qualify::TrialDrive*> SessionLoan::drive() {
    if (!drive_) drive_ = TRY(SessionDrive::create(session_, *function_));
    return drive_.get();
}

} // namespace lanepool::cli
