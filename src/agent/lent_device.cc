// SPDX-License-Identifier: Apache-2.0
#include "agent/lent_device.h"

#include "agent/device_class.h"

#include <atomic>
#include <spdlog/spdlog.h>

namespace lanepool::agent {

using namespace std::chrono_literals;

namespace {
constexpr auto retry_interval = 300ms;
// Where its host's kernel has to be asked.
constexpr auto host_interval = 1s;
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

LentDevice::LentDevice(LentDeviceSetup setup)
    : setup_(std::move(setup)), fence_(setup_.name, {}, static_cast<FencePorts&>(*this),
                                       setup_.source->host() ? static_cast<HostPorts*>(this) : nullptr) {
    look();
}

LentDevice::~LentDevice() {
    *alive_ = false;
    retry_.reset();
    fence_timer_.reset();
    host_limit_.reset();
    fence_.stop("the agent is stopping");
    if (going_) going_(fail(Errc::cancelled, "device {} has gone", name()));
    lender_.reset();
}

void LentDevice::look() {
    const uint64_t number = ++looks_;
    setup_.background->run([source = setup_.source] { return find(source); },
                           [this, alive = alive_, number](Result<Found> result) {
                               if (*alive && number == looks_) found(std::move(result));
                           });
}

void LentDevice::look_again() {
    retry_ = setup_.loop->after(setup_.source->host() ? host_interval : retry_interval, [this] { look(); });
}

// On the background thread.
Result<LentDevice::Found> LentDevice::find(const std::shared_ptr<FunctionSource>& source) {
    Found found;
    if (auto* host = source->host()) {
        found.seen = TRY(host->look());
        if (!found.seen->taken) return found;
    }
    found.reached = reach(source, found.seen);
    return found;
}

// On the background thread. The reset comes first: whatever an earlier user left running must not see what
// follows. What only the device's own class could say of it, and does not, is as its host says.
Result<LentDevice::Reached> LentDevice::reach(const std::shared_ptr<FunctionSource>& source,
                                              const std::optional<Sighting>& seen) {
    Reached reached;
    reached.function = TRY(source->open());
    TRY(reached.function->reset());
    auto& identity = reached.identity;
    if (seen) identity = seen->identity;
    identity.MergeFrom(TRY(identify_function(*reached.function)));
    reached.device_class = TRY(device_class_for(identity.class_code()));
    const auto details = TRY(reached.device_class->identify(*reached.function));
    if (!details.model.empty()) identity.set_model(details.model);
    if (!details.serial.empty()) identity.set_serial(details.serial);
    if (!details.firmware.empty()) identity.set_firmware(details.firmware);
    if (details.capacity_bytes != 0) identity.set_capacity_bytes(details.capacity_bytes);
    if (seen) reached.device_class = cleaned_by_host(std::move(reached.device_class), source);
    return reached;
}

void LentDevice::found(Result<Found> result) {
    looked_for_ = true;
    if (function_ || with_host_) return; // something has begun meanwhile
    if (!result) {
        if (sighting_) note({});
        sighting_.reset();
        return absent(result.error().message());
    }
    if (result->seen) note(*result->seen);
    if (result->reached)
        reached(std::move(*result->reached));
    else
        seen_local();
}

void LentDevice::reached(Result<Reached> result) {
    if (fence_.with_host()) fence_.absent("it was taken from its host by somebody else");
    if (result)
        if (auto known = recognise(result->identity.serial()); !known) result = tl::unexpected(known.error());
    if (!result) {
        identify_by_host();
        return absent(result.error().message());
    }
    adopt(std::move(*result));
    create_lender_if_possible();
    say_changed();
}

void LentDevice::adopt(Reached reached) {
    const uint64_t generation = ++generation_;
    function_ = std::move(reached.function);
    device_class_ = std::move(reached.device_class);
    identity_ = std::move(reached.identity);
    problem_ = fdid_ ? "" : "not known to the controller yet";
    function_->on_disconnect([this, alive = alive_, generation] {
        setup_.loop->post([=, this] {
            if (*alive) function_gone(generation);
        });
    });
    spdlog::info("device {}: {} {} reached", name(), identity_->model(), identity_->serial());
}

void LentDevice::absent(const std::string& problem) {
    if (problem_ != problem) { // said once, not at every attempt
        problem_ = problem;
        fence_.absent(problem_);
        spdlog::warn("device {}: {}; trying on", name(), problem_);
        if (identified()) say_changed();
    }
    look_again();
}

// No step is taken before this: without an fdid nobody can name the device.
Result<> LentDevice::recognise(const std::string& serial) {
    // One without a number may be another one whenever it was out of sight.
    if (identity_ && identity_->serial() == serial && !serial.empty()) return {};
    const DeviceRecord record = TRY(setup_.records->found(name(), serial));
    if (identity_ && identity_->serial() != serial) fdid_ = 0;
    epochs_ = std::make_unique<Epochs>(record.epoch);
    fence_.exchanged(record);
    return {};
}

void LentDevice::function_gone(uint64_t generation) {
    if (generation != generation_ || !function_) return;
    spdlog::warn("device {} has gone", name());
    drop_lender("the device has stopped answering");
    problem_ = "it does not answer";
    fence_.absent(problem_);
    say_changed();
    if (!function_) return; // it is looked for as soon as it is closed
    close_then([this] { look(); });
}

// Closing may take as long as a reset, and the loop has other things to do.
void LentDevice::close_then(std::function<void()> then) {
    ++generation_;
    device_class_.reset();
    setup_.background->run(
        [function = std::shared_ptr<pci::Function>(std::move(function_))]() mutable {
            function.reset();
            return true;
        },
        [alive = alive_, then = std::move(then)](bool) {
            if (*alive) then();
        });
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
    if (!adapter_ && !fence_.with_host()) {
        problem_ = "its host is not on the fabric";
        fence_.absent(problem_);
    }
    create_lender_if_possible();
    say_changed();
}

void LentDevice::create_lender_if_possible() {
    if (lender_ || !function_ || !adapter_ || !fdid_) return;
    auto created = smartio::Lender::create({.loop = setup_.loop,
                                            .adapter = adapter_,
                                            .device = function_.get(),
                                            .device_class = device_class_.get(),
                                            .epochs = epochs_.get(),
                                            .fdid = fdid_,
                                            .requester = setup_.source->requester(),
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
        setup_.background->run(
            [function = std::shared_ptr<pci::Function>(std::move(function_))]() mutable {
                auto reset = function->reset();
                function.reset();
                return reset;
            },
            [this, alive = alive_](const Result<>&) {
                if (*alive) look();
            });
}

v1::ObservedDevice LentDevice::observed() const {
    const auto seen = fence_.observed();
    v1::ObservedDevice observed;
    observed.set_name(name());
    observed.set_parent(parent());
    if (identity_) *observed.mutable_identity() = *identity_;
    observed.set_qualified(identity_ && setup_.qualifications->fit(name(), *identity_));
    if (sighting_) {
        observed.set_iommu(sighting_->iommu);
        observed.set_functions(sighting_->function_count());
        observed.set_most_functions(sighting_->most_functions);
    }
    observed.set_local(seen.local);
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
    return setup_.records->put(name(), identity_->serial(), record);
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
    setup_.events.loan_lost(opening.loan.value, opening.epoch.value, reason);
}

void LentDevice::changed() { say_changed(); }

void LentDevice::say_changed() {
    said_ = observed().SerializeAsString();
    setup_.events.changed();
}

LentDevice::Done LentDevice::end_of(uint64_t operation) {
    return [this, alive = alive_, operation](Result<> result) {
        setup_.loop->post([this, alive, operation, result = std::move(result)] {
            if (*alive) finish(operation, result);
        });
    };
}

void LentDevice::finish(uint64_t operation, const Result<>& result) {
    fence_.finished(operation, result, now_us());
    arm();
}

int64_t LentDevice::now_us() const {
    return std::chrono::duration_cast<std::chrono::microseconds>(
               setup_.loop->clock().now().time_since_epoch())
        .count();
}

void LentDevice::arm() {
    const auto next = fence_.next_tick_us();
    if (!next) return fence_timer_.reset();
    fence_timer_ = setup_.loop->at(io::TimePoint(std::chrono::microseconds(*next)), [this] {
        fence_.tick(now_us());
        arm();
    });
}

void LentDevice::serve(ntb::Partition from, uint16_t kind, std::vector<std::byte> body,
                       ntb::ChannelReply reply) {
    if (!lender_) return reply(fail(Errc::unavailable, "device {} is not there: {}", name(), problem_));
    lender_->serve(from, kind, std::move(body), std::move(reply));
}

} // namespace lanepool::agent
