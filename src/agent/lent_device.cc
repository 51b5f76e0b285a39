// SPDX-License-Identifier: Apache-2.0
#include "agent/lent_device.h"

#include "agent/device_class.h"
#include "vfio_user/client.h"

#include <atomic>
#include <spdlog/spdlog.h>

namespace lanepool::agent {

using namespace std::chrono_literals;

namespace {
constexpr auto retry_interval = 300ms;
// Below the lender's deadline for cutting (smartio::LenderOptions::cut_deadline).
constexpr auto register_timeout = 1500ms;
} // namespace

// What the lender has to remember while it lives. The disk is the fence's: whatever the lender is asked for
// is on it already.
class LentDevice::Epochs final : public smartio::EpochStore {
  public:
    explicit Epochs(uint64_t highest) : highest_(highest) {}
    Result<uint64_t> highest() override { return highest_.load(); }
    Result<> raise(uint64_t epoch) override {
        highest_ = epoch;
        return {};
    }

  private:
    std::atomic<uint64_t> highest_; // the lender asks on its own thread
};

LentDevice::LentDevice(io::EventLoop& loop, Background& background, DeviceRecords& records, std::string name,
                       std::filesystem::path socket, LentDeviceEvents events)
    : loop_(loop), background_(background), records_(records), name_(std::move(name)),
      socket_(std::move(socket)), events_(std::move(events)),
      fence_(name_, {}, static_cast<FencePorts&>(*this)) {
    connect();
}

LentDevice::~LentDevice() {
    *alive_ = false;
    retry_.reset();
    fence_timer_.reset();
    fence_.stop("the agent is stopping");
    lender_.reset();
}

void LentDevice::connect() {
    background_.run([socket = socket_] { return reach(socket); },
                    [this, alive = alive_](Result<Reached> result) {
                        if (*alive) reached(std::move(result));
                    });
}

// On the background thread. The reset comes first: whatever an earlier user left running must not see what
// follows.
Result<LentDevice::Reached> LentDevice::reach(const std::filesystem::path& socket) {
    Reached reached;
    reached.function = TRY(vfio_user::connect(socket, {.timeout = register_timeout}));
    TRY(reached.function->reset());
    reached.identity = TRY(identify_function(*reached.function));
    reached.device_class = TRY(device_class_for(reached.identity.class_code()));
    const auto details = TRY(reached.device_class->identify(*reached.function));
    reached.identity.set_model(details.model);
    reached.identity.set_serial(details.serial);
    reached.identity.set_firmware(details.firmware);
    reached.identity.set_capacity_bytes(details.capacity_bytes);
    return reached;
}

void LentDevice::reached(Result<Reached> result) {
    if (function_) return; // by another attempt
    if (result)
        if (auto known = recognise(result->identity.serial()); !known) result = tl::unexpected(known.error());
    if (!result) {
        if (problem_ != result.error().message()) { // said once, not at every attempt
            problem_ = result.error().message();
            fence_.absent(problem_);
            spdlog::warn("device {}: {}; trying on", name_, problem_);
            if (identified()) events_.changed();
        }
        retry_ = loop_.after(retry_interval, [this] { connect(); });
        return;
    }
    const uint64_t generation = ++generation_;
    function_ = std::move(result->function);
    device_class_ = std::move(result->device_class);
    identity_ = std::move(result->identity);
    problem_ = fdid_ ? "" : "not known to the controller yet";
    function_->on_disconnect([this, alive = alive_, generation] {
        loop_.post([=, this] {
            if (*alive) function_gone(generation);
        });
    });
    spdlog::info("device {}: {} {} reached", name_, identity_->model(), identity_->serial());
    create_lender_if_possible();
    events_.changed();
}

// No step is taken before this: without an fdid nobody can name the device.
Result<> LentDevice::recognise(const std::string& serial) {
    // One without a number may be another one whenever it was out of sight.
    if (identity_ && identity_->serial() == serial && !serial.empty()) return {};
    const DeviceRecord record = TRY(records_.found(name_, serial));
    if (identity_ && identity_->serial() != serial) fdid_ = 0;
    epochs_ = std::make_unique<Epochs>(record.epoch);
    fence_.exchanged(record);
    return {};
}

void LentDevice::function_gone(uint64_t generation) {
    if (generation != generation_ || !function_) return;
    spdlog::warn("device {} has gone", name_);
    drop_lender("the device has stopped answering");
    function_.reset();
    problem_ = "it does not answer";
    fence_.absent(problem_);
    events_.changed();
    connect();
}

void LentDevice::set_fdid(uint64_t fdid) {
    if (fdid_ == fdid) return;
    drop_lender("the device was given another fabric device id");
    fdid_ = fdid;
    create_lender_if_possible();
}

void LentDevice::set_adapter(ntb::Adapter* adapter) {
    if (adapter_ == adapter) return;
    drop_lender("the lender's adapter has gone");
    adapter_ = adapter;
    if (!adapter_) {
        problem_ = "its host is not on the fabric";
        fence_.absent(problem_);
    }
    create_lender_if_possible();
    events_.changed();
}

void LentDevice::create_lender_if_possible() {
    if (lender_ || !function_ || !adapter_ || !fdid_) return;
    auto created = smartio::Lender::create({.loop = &loop_,
                                            .adapter = adapter_,
                                            .device = function_.get(),
                                            .device_class = device_class_.get(),
                                            .epochs = epochs_.get(),
                                            .fdid = fdid_,
                                            .requester = std::nullopt,
                                            .options = {}});
    if (!created) {
        problem_ = created.error().message();
        return;
    }
    lender_ = std::move(*created);
    problem_.clear();
    fence_.present(false); // windows do not outlive the lender that opened them
    arm();
}

// With the lender goes the loan: nothing that it opened is left open, and the device is reset before it is
// used again, because the fence begins with that.
void LentDevice::drop_lender(const std::string& reason) {
    if (!lender_) return;
    const bool was_lent = lender_->status().key.loan != 0;
    lender_.reset();
    problem_ = reason;
    fence_.absent(reason);
    arm();
    if (was_lent && function_) // the adapter's side is closed; this ends what the device itself still does
        background_.run(
            [function = std::shared_ptr<pci::Function>(std::move(function_))] { return function->reset(); },
            [this, alive = alive_](const Result<>&) {
                if (*alive) connect();
            });
}

v1::ObservedDevice LentDevice::observed() const {
    const auto seen = fence_.observed();
    v1::ObservedDevice observed;
    observed.set_name(name_);
    if (identity_) *observed.mutable_identity() = *identity_;
    const bool broken = lender_ && lender_->status().state == smartio::LenderState::broken;
    observed.set_answering(seen.answering && !broken);
    observed.set_clean(seen.clean);
    observed.set_epoch(seen.epoch.value);
    observed.set_loan_id(seen.loan.value);
    for (const pool::LoanId loan : seen.joined)
        observed.add_joined_loan_ids(loan.value);
    observed.set_problem(!problem_.empty() ? problem_ : broken ? lender_->status().reason : seen.problem);
    return observed;
}

const std::optional<smartio::LenderStatus> LentDevice::lender_status() const {
    return lender_ ? std::optional(lender_->status()) : std::nullopt;
}

void LentDevice::perform(const pool::Order& order, Done done) {
    answers_.emplace(order.step.id, std::move(done));
    fence_.perform(order, now_us());
    arm();
}

// ---- what the fence asks for

Result<> LentDevice::store(const DeviceRecord& record) {
    return records_.put(name_, identity_->serial(), record);
}

void LentDevice::open(uint64_t operation, const Opening& opening) {
    lender_->prepare(opening.loan.value, opening.epoch.value,
                     ntb::Partition{static_cast<uint8_t>(opening.borrower_partition)}, opening.shared,
                     end_of(operation));
}

void LentDevice::expel(uint64_t operation, const Opening& opening) {
    lender_->expel(opening.loan.value, opening.epoch.value, end_of(operation));
}

void LentDevice::close(uint64_t operation, pool::Epoch epoch) {
    lender_->cut(epoch.value, end_of(operation));
}

void LentDevice::reset(uint64_t operation) { lender_->reset(end_of(operation)); }

void LentDevice::sanitize(uint64_t operation, int64_t limit_us) {
    lender_->wipe(std::chrono::microseconds(limit_us), end_of(operation));
}

void LentDevice::answer(const pool::Order& order, Result<> result) {
    const auto found = answers_.find(order.step.id);
    if (found == answers_.end()) return;
    const Done done = std::move(found->second);
    answers_.erase(found);
    done(std::move(result));
}

void LentDevice::lost(const Opening& opening, const std::string& reason) {
    events_.loan_lost(opening.loan.value, opening.epoch.value, reason);
}

void LentDevice::changed() { events_.changed(); }

LentDevice::Done LentDevice::end_of(uint64_t operation) {
    return [this, alive = alive_, operation](Result<> result) {
        loop_.post([this, alive, operation, result = std::move(result)] {
            if (!*alive) return;
            fence_.finished(operation, result, now_us());
            arm();
        });
    };
}

int64_t LentDevice::now_us() const {
    return std::chrono::duration_cast<std::chrono::microseconds>(loop_.clock().now().time_since_epoch())
        .count();
}

void LentDevice::arm() {
    const auto next = fence_.next_tick_us();
    if (!next) return fence_timer_.reset();
    fence_timer_ = loop_.at(io::TimePoint(std::chrono::microseconds(*next)), [this] {
        fence_.tick(now_us());
        arm();
    });
}

void LentDevice::serve(ntb::Partition from, uint16_t kind, std::vector<std::byte> body,
                       ntb::ChannelReply reply) {
    if (!lender_) return reply(fail(Errc::unavailable, "device {} is not there: {}", name_, problem_));
    lender_->serve(from, kind, std::move(body), std::move(reply));
}

} // namespace lanepool::agent
