// SPDX-License-Identifier: Apache-2.0
#include "agent/lent_device.h"

#include "agent/device_class.h"
#include "vfio_user/client.h"

#include <spdlog/spdlog.h>

namespace lanepool::agent {

using namespace std::chrono_literals;

namespace {
constexpr auto retry_interval = 300ms;
// Below the lender's deadline for cutting (smartio::LenderOptions::cut_deadline).
constexpr auto register_timeout = 1500ms;
} // namespace

// What the lender must not forget, kept in the host's device records.
class LentDevice::Epochs final : public smartio::EpochStore {
  public:
    Epochs(DeviceRecords& records, std::string name) : records_(records), name_(std::move(name)) {}
    Result<uint64_t> highest() override { return records_.get(name_).epoch; }
    // Whoever raises the epoch is about to lend the device, or to end a loan of it: either way it is not
    // clean.
    Result<> raise(uint64_t epoch) override { return records_.put(name_, {epoch, false, {}}); }

  private:
    DeviceRecords& records_;
    const std::string name_;
};

LentDevice::LentDevice(io::EventLoop& loop, Background& background, DeviceRecords& records, std::string name,
                       std::filesystem::path socket, LentDeviceEvents events)
    : loop_(loop), background_(background), records_(records), name_(std::move(name)),
      socket_(std::move(socket)), events_(std::move(events)),
      epochs_(std::make_unique<Epochs>(records, name_)) {
    connect();
}

LentDevice::~LentDevice() {
    *alive_ = false;
    retry_.reset();
    for (auto& waiting : waiting_)
        waiting.done(fail(Errc::cancelled, "the agent is stopping"));
    for (auto& [id, running] : running_)
        running.done(fail(Errc::cancelled, "the agent is stopping"));
    lender_.reset();
}

void LentDevice::connect() {
    background_.run([socket = socket_] { return open(socket); },
                    [this, alive = alive_](Result<Opened> result) {
                        if (*alive) opened(std::move(result));
                    });
}

// On the background thread. The reset comes first: whatever an earlier user left running must not see what
// follows.
Result<LentDevice::Opened> LentDevice::open(const std::filesystem::path& socket) {
    Opened opened;
    opened.function = TRY(vfio_user::connect(socket, {.timeout = register_timeout}));
    TRY(opened.function->reset());
    opened.identity = TRY(identify_function(*opened.function));
    opened.device_class = TRY(device_class_for(opened.identity.class_code()));
    const auto details = TRY(opened.device_class->identify(*opened.function));
    opened.identity.set_model(details.model);
    opened.identity.set_serial(details.serial);
    opened.identity.set_firmware(details.firmware);
    opened.identity.set_capacity_bytes(details.capacity_bytes);
    return opened;
}

void LentDevice::opened(Result<Opened> result) {
    if (!result) {
        if (problem_ != result.error().message()) { // said once, not at every attempt
            problem_ = result.error().message();
            spdlog::warn("device {}: {}; trying on", name_, problem_);
            if (identified()) events_.changed();
        }
        retry_ = loop_.after(retry_interval, [this] { connect(); });
        return;
    }
    if (identity_ && identity_->serial() != result->identity.serial())
        fdid_ = 0; // another device in the same place
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

void LentDevice::function_gone(uint64_t generation) {
    if (generation != generation_ || !function_) return;
    spdlog::warn("device {} has gone", name_);
    drop_lender("the device has stopped answering");
    function_.reset();
    problem_ = "it does not answer";
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
    if (!adapter_) problem_ = "its host is not on the fabric";
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
    first_reset_ = true;
    problem_ = "it is being reset";
    lender_->reset([this](const Result<>& result) { lender_ready(result); });
}

// The end of the reset with which every lender begins.
void LentDevice::lender_ready(const Result<>& result) {
    first_reset_ = false;
    ready_ = result.has_value();
    problem_ = result ? "" : result.error().message();
    events_.changed();
    if (ready_) retry_waiting();
}

// With the lender goes the loan: nothing that it opened is left open, and the device is reset before it is
// used again, because the next lender begins with that.
void LentDevice::drop_lender(const std::string& reason) {
    if (!lender_) return;
    const auto status = lender_->status();
    lender_.reset();
    ready_ = first_reset_ = false;
    end_running_steps(reason);
    const bool was_lent = status.key.loan != 0;
    if (was_lent && function_) // the adapter's side is closed; this ends what the device itself still does
        background_.run(
            [function = std::shared_ptr<pci::Function>(std::move(function_))] { return function->reset(); },
            [this, alive = alive_](const Result<>&) {
                if (*alive) connect();
            });
    if (was_lent) events_.loan_lost(status.key.loan, status.key.epoch, reason);
}

v1::ObservedDevice LentDevice::observed() const {
    const auto record = records_.get(name_);
    v1::ObservedDevice observed;
    observed.set_name(name_);
    if (identity_) *observed.mutable_identity() = *identity_;
    observed.set_answering(ready_ && lender_->status().state != smartio::LenderState::broken);
    observed.set_clean(record.clean);
    observed.set_epoch(record.epoch);
    observed.set_problem(!problem_.empty() ? problem_ : lender_ ? lender_->status().reason : "");
    if (observed.problem().empty()) observed.set_problem(record.problem);
    if (lender_) observed.set_loan_id(lender_->status().key.loan);
    return observed;
}

const std::optional<smartio::LenderStatus> LentDevice::lender_status() const {
    return lender_ ? std::optional(lender_->status()) : std::nullopt;
}

void LentDevice::perform(const v1::Step& step, Done done) {
    // The answer should come before the controller gives up waiting for it.
    const auto deadline = loop_.clock().now() + std::chrono::milliseconds(step.deadline_ms()) * 9 / 10;
    // Nothing is open without a lender: the cut is done, if it is not an old one that comes late.
    if (step.kind() == v1::STEP_CUT && !lender_) {
        const uint64_t highest = records_.get(name_).epoch;
        if (step.epoch() < highest)
            return done(fail(Errc::stale_epoch, "device {} is at epoch {}, this step is of epoch {}", name_,
                             highest, step.epoch()));
        return done(epochs_->raise(step.epoch()));
    }
    // A lender whose first reset has failed can still be cut and reset: that may bring it back.
    if (ready_ || (lender_ && !first_reset_ && step.kind() != v1::STEP_PREPARE))
        return perform_now(step, deadline, std::move(done));
    wait_for_lender(step, deadline, std::move(done));
}

void LentDevice::wait_for_lender(const v1::Step& step, io::TimePoint deadline, Done done) {
    auto& waiting = waiting_.emplace_back(Waiting{step, std::move(done), deadline, {}});
    waiting.expiry = loop_.at(deadline, [this, self = std::prev(waiting_.end())] {
        const auto expired = std::move(*self);
        waiting_.erase(self);
        expired.done(fail(Errc::unavailable, "device {} is not there: {}", name_, problem_));
    });
}

void LentDevice::retry_waiting() {
    auto waiting = std::exchange(waiting_, {});
    for (auto& entry : waiting)
        perform_now(entry.step, entry.deadline, std::move(entry.done));
}

// The lender answers nothing once it is gone, so the answers are kept here and given in any case.
LentDevice::Done LentDevice::answer_of(uint64_t running) {
    return [this, running](Result<> result) {
        auto node = running_.extract(running);
        if (!node.empty()) node.mapped().done(std::move(result));
    };
}

// The lender has gone in the middle of these. Nothing is open any more, so a cut is done; what makes the
// device fit for the next loan is begun again when it is back.
void LentDevice::end_running_steps(const std::string& reason) {
    for (auto& [id, running] : std::exchange(running_, {})) {
        switch (running.step.kind()) {
        case v1::STEP_CUT:
            running.done({});
            break;
        case v1::STEP_RESET:
        case v1::STEP_SANITIZE:
            wait_for_lender(running.step, running.deadline, std::move(running.done));
            break;
        default:
            running.done(fail(Errc::unavailable, "{}", reason));
        }
    }
}

void LentDevice::perform_now(const v1::Step& step, io::TimePoint deadline, Done done) {
    const uint64_t id = next_running_++;
    running_.emplace(id, Running{step, std::move(done), deadline});
    auto answer = answer_of(id);
    switch (step.kind()) {
    case v1::STEP_PREPARE:
        return lender_->prepare(step.loan_id(), step.epoch(),
                                ntb::Partition{static_cast<uint8_t>(step.borrower_partition())},
                                std::move(answer));
    case v1::STEP_CUT:
        return lender_->cut(step.epoch(), std::move(answer));
    case v1::STEP_RESET:
        return lender_->reset([this, answer = std::move(answer)](const Result<>& result) {
            lender_ready(result);
            answer(result);
        });
    case v1::STEP_SANITIZE:
        return lender_->wipe(deadline - loop_.clock().now(),
                             [this, answer = std::move(answer)](Result<> result) {
                                 if (result)
                                     result = records_.put(name_, {records_.get(name_).epoch, true, {}});
                                 answer(result);
                                 events_.changed();
                             });
    default:
        return answer(fail(Errc::not_supported, "a lender has no step {}", static_cast<int>(step.kind())));
    }
}

void LentDevice::serve(ntb::Partition from, uint16_t kind, std::vector<std::byte> body,
                       ntb::ChannelReply reply) {
    if (!lender_) return reply(fail(Errc::unavailable, "device {} is not there: {}", name_, problem_));
    lender_->serve(from, kind, std::move(body), std::move(reply));
}

} // namespace lanepool::agent
