// SPDX-License-Identifier: Apache-2.0
#include "share/session_fabric.h"

#include "lanepool/states.h"
#include "share/drive_client.h"

namespace lanepool::sharing {

namespace {

std::chrono::milliseconds in_ms(io::Duration duration) {
    return std::chrono::ceil<std::chrono::milliseconds>(duration);
}

class OwnMemory final : public SharedMemory {
  public:
    explicit OwnMemory(Segment segment) : segment_(std::move(segment)) {}
    std::span<std::byte> bytes() override { return segment_.bytes(); }
    uint32_t id() const override { return segment_.id(); }

  private:
    Segment segment_;
};

class FarMemory final : public SharedMemory {
  public:
    FarMemory(RemoteSegment segment, MappedRange mapped)
        : segment_(std::move(segment)), mapped_(std::move(mapped)) {}
    std::span<std::byte> bytes() override { return mapped_.bytes(); }
    uint32_t id() const override { return segment_.id(); }

  private:
    RemoteSegment segment_;
    MappedRange mapped_;
};

class OwnInbox final : public Inbox {
  public:
    explicit OwnInbox(DataInterrupt interrupt) : interrupt_(std::move(interrupt)) {}
    uint32_t number() const override { return interrupt_.number(); }

  private:
    DataInterrupt interrupt_;
};

class FarInbox final : public Outbox {
  public:
    explicit FarInbox(RemoteDataInterrupt interrupt) : interrupt_(std::move(interrupt)) {}
    Result<> send(std::span<const std::byte> message) override { return interrupt_.send(message); }

  private:
    RemoteDataInterrupt interrupt_;
};

// USER@HOST, as a session is called.
Sender sender_of(const DataSender& who) {
    const auto at = who.user.rfind('@');
    if (at == std::string::npos) return {who.id, who.node, {}, who.user};
    return {who.id, who.node, who.user.substr(at + 1), who.user.substr(0, at)};
}

} // namespace

Result<std::unique_ptr<SharedMemory>> SessionFabric::create_memory(uint64_t size_bytes,
                                                                   std::optional<uint32_t> id) {
    auto segment = TRY(Segment::create(session_, {.size_bytes = size_bytes, .id = id}));
    TRY(segment.set_available(true));
    return std::make_unique<OwnMemory>(std::move(segment));
}

Result<std::unique_ptr<SharedMemory>> SessionFabric::connect_memory(uint32_t node, uint32_t id,
                                                                    uint64_t size_bytes, io::Duration timeout,
                                                                    OnLost on_lost) {
    auto segment =
        TRY(RemoteSegment::connect(session_, node, id, in_ms(timeout), {.on_lost = std::move(on_lost)}));
    if (segment.size_bytes() < size_bytes)
        return fail(Errc::protocol, "segment {} of node {} has {} bytes, not {}", id, node,
                    segment.size_bytes(), size_bytes);
    auto mapped = TRY(segment.map());
    return std::make_unique<FarMemory>(std::move(segment), std::move(mapped));
}

Result<std::unique_ptr<Inbox>> SessionFabric::create_inbox(std::optional<uint32_t> number,
                                                           OnMessage on_message, OnGone on_gone) {
    DataInterruptOptions options;
    options.number = number;
    options.on_message_from = [call = std::move(on_message)](const DataSender& who, auto data) {
        call(sender_of(who), data);
    };
    options.on_sender_gone = [call = std::move(on_gone)](const DataSender& who) { call(sender_of(who)); };
    return std::make_unique<OwnInbox>(TRY(DataInterrupt::create(session_, std::move(options))));
}

Result<std::unique_ptr<Outbox>> SessionFabric::connect_inbox(uint32_t node, uint32_t number,
                                                             io::Duration timeout) {
    return std::make_unique<FarInbox>(
        TRY(RemoteDataInterrupt::connect(session_, node, number, in_ms(timeout))));
}

Result<std::unique_ptr<SessionDrive>> SessionDrive::borrow(Session& session, uint64_t fdid,
                                                           io::Duration timeout) {
    std::unique_ptr<SessionDrive> drive(new SessionDrive);
    drive->function_ = TRY(DeviceFunction::borrow(session, fdid, Sharing::shared, in_ms(timeout)));
    drive->node_ = drive->function_->device().node();
    drive->memory_.emplace(session, drive->function_->device());
    return drive;
}

std::optional<Error> SessionDrive::lost() const {
    const auto usable = function_->device().state()->usable();
    return usable ? std::nullopt : std::optional(usable.error());
}

} // namespace lanepool::sharing

namespace lanepool {

// Here, so that programs without a session need no more of the library.
Result<SharedDrive> SharedDrive::open(Session& session, uint64_t fdid, SharedDriveOptions options) {
    struct Owner {
        explicit Owner(Session& s) : fabric(s) {}
        sharing::SessionFabric fabric;
        std::unique_ptr<sharing::SessionDrive> drive;
    };
    auto owner = std::make_shared<Owner>(session);
    owner->drive = TRY(sharing::SessionDrive::borrow(session, fdid, options.open_timeout));
    return SharedDrive(TRY(sharing::DriveClient::open(owner->fabric, *owner->drive, fdid, io::system_clock(),
                                                      std::move(options), owner)));
}

} // namespace lanepool
