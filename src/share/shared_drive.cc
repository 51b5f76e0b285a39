// SPDX-License-Identifier: Apache-2.0
#include "share/shared_drive.h"

#include "share/drive_client.h"

namespace lanepool {

using sharing::DriveClient;

SharedDrive::SharedDrive(std::unique_ptr<DriveClient> client) : client_(std::move(client)) {}
SharedDrive::SharedDrive(SharedDrive&&) noexcept = default;
SharedDrive& SharedDrive::operator=(SharedDrive&&) noexcept = default;
SharedDrive::~SharedDrive() = default;

Result<SharedDrive> SharedDrive::open(sharing::Fabric& fabric, sharing::BorrowedDrive& drive, uint64_t fdid,
                                      const io::Clock& clock, SharedDriveOptions options) {
    return SharedDrive(TRY(DriveClient::open(fabric, drive, fdid, clock, std::move(options), nullptr)));
}

uint64_t SharedDrive::blocks() const { return client_->part().blocks; }
uint32_t SharedDrive::block_bytes() const { return client_->part().block_bytes; }
bool SharedDrive::read_only() const { return client_->read_only(); }
uint16_t SharedDrive::weight() const { return client_->weight(); }
uint64_t SharedDrive::max_transfer_bytes() const { return client_->part().max_transfer_bytes; }
uint64_t SharedDrive::rejoined() const { return client_->rejoined(); }
Result<DriveBuffer> SharedDrive::allocate(uint64_t size_bytes) { return client_->allocate(size_bytes); }
Result<> SharedDrive::read(const Extent& extent, DriveBuffer& buffer, Done done) {
    return client_->read(extent, buffer, std::move(done));
}
Result<> SharedDrive::write(const Extent& extent, const DriveBuffer& buffer, Done done) {
    return client_->write(extent, buffer, std::move(done));
}
Result<> SharedDrive::flush(Done done) { return client_->flush(std::move(done)); }
Result<uint32_t> SharedDrive::poll() { return client_->poll(); }
size_t SharedDrive::outstanding() const { return client_->outstanding(); }
Result<> SharedDrive::read_blocks(uint64_t block, std::span<std::byte> data) {
    return client_->copy_blocks(block, data, {});
}
Result<> SharedDrive::write_blocks(uint64_t block, std::span<const std::byte> data) {
    return client_->copy_blocks(block, {}, data);
}
Result<> SharedDrive::flush_blocks() { return client_->flush_blocks(); }
Result<> SharedDrive::close() { return client_->close(); }

} // namespace lanepool
