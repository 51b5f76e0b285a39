// SPDX-License-Identifier: Apache-2.0
#include "application/device_use.h"

#include <algorithm>
#include <utility>

namespace lanepool::application {

// ---- The loan

void DeviceUse::active(const Controller::Loan& loan) {
    if (leaving()) return;
    loan_ = loan;
    active_ = true;
    maybe_usable();
}

void DeviceUse::due(const Controller::Due& due) {
    if (!usable() || (due.due_us == loan_.due_us && due.soon == soon_)) return;
    loan_.due_us = due.due_us;
    soon_ = due.soon;
    if (events_.due) events_.due(due.due_us, soon_.empty() ? "its time has been changed" : soon_);
}

void DeviceUse::refused(const Error& why) {
    const auto self = shared_from_this();
    fail_ready(why);
    // What the controller may not know of: it is gone from here.
    if (device_ && events_.broken) events_.broken(why.message());
    leave(why.message(), [](const Result<>&) {});
}

void DeviceUse::attach(const AttachOrder& order, Done done) {
    if (leaving() || phase_ == Phase::given_up)
        return done(fail(Errc::cancelled, "the process that asked for the device does not want it any more"));
    if (attached()) return done({});
    attach_done_.push_back(std::move(done));
    if (device_) return; // under way
    order_ = order;
    smartio::DirectDeviceSetup setup;
    setup.loop = &fabric_.loop;
    setup.adapter = &fabric_.adapter;
    setup.channel = &fabric_.channel;
    setup.lender = order.lender;
    setup.key = order.key;
    setup.shared = order.shared;
    setup.options.attach_deadline = std::min(setup.options.attach_deadline, order.patience);
    smartio::DirectDeviceEvents events;
    // The device lives no longer than this.
    events.attached = [this](Result<> result) { device_attached(std::move(result)); };
    events.failed = [this](const Error& why) { device_failed(why); };
    auto device = smartio::DirectDevice::attach(std::move(setup), std::move(events));
    if (!device) return device_attached(tl::unexpected(std::move(device).error()));
    device_ = std::move(*device);
}

void DeviceUse::device_attached(Result<> result) {
    const auto self = shared_from_this();
    if (!result) device_.reset();
    for (const auto& done : std::exchange(attach_done_, {}))
        done(result);
    if (result)
        maybe_usable();
    else
        fail_ready(result.error());
}

void DeviceUse::maybe_usable() {
    if (phase_ != Phase::waiting || !active_ || !attached()) return;
    phase_ = Phase::usable;
    if (const auto ready = std::exchange(events_.ready, nullptr)) ready({});
}

void DeviceUse::fail_ready(const Error& why) {
    if (const auto ready = std::exchange(events_.ready, nullptr)) {
        events_.lost = nullptr;
        ready(tl::unexpected<Error>(why));
    }
}

void DeviceUse::device_failed(const Error& why) {
    const auto self = shared_from_this();
    if (events_.broken) events_.broken(why.message());
    leave(why.message(), [](const Result<>&) {});
}

void DeviceUse::give_up() {
    events_.ready = nullptr;
    events_.lost = nullptr;
    if (!leaving()) phase_ = Phase::given_up;
    for (const auto& [id, call] : std::exchange(calls_, {}))
        call(Error(Errc::not_found, "the device is being given back"));
}

void DeviceUse::lender_lost() {
    if (device_ && !leaving()) device_->lender_lost();
}

// ---- Its end

void DeviceUse::leave(const std::string& reason, Done done) {
    if (phase_ == Phase::gone) return done({});
    leave_done_.push_back(std::move(done));
    if (phase_ == Phase::leaving) return;
    const auto self = shared_from_this();
    phase_ = Phase::leaving;
    const Error why(Errc::not_found, reason.empty() ? "the device has been given back" : reason);
    for (const auto& attach_done : std::exchange(attach_done_, {}))
        attach_done(fail(Errc::cancelled, "{}", why.message()));
    for (const auto& [id, call] : std::exchange(calls_, {}))
        call(why);
    fail_ready(why);
    if (const auto lost = std::exchange(events_.lost, nullptr); lost && !reason.empty()) lost(reason);
    if (!device_) return finish();
    device_->detach([weak = weak_from_this()](const Result<>&) { // the lender fences by itself
        if (const auto use = weak.lock()) use->finish();
    });
}

void DeviceUse::drop() {
    phase_ = Phase::gone;
    events_ = {};
    device_.reset();
    attach_done_.clear();
    calls_.clear();
    kept_.clear();
    kept_placing_.clear();
    leave_done_.clear();
}

void DeviceUse::when_gone(Done done) {
    if (phase_ == Phase::gone) return done({});
    leave_done_.push_back(std::move(done));
}

void DeviceUse::finish() {
    const auto self = shared_from_this();
    phase_ = Phase::gone;
    device_.reset();
    kept_.clear();
    kept_placing_.clear();
    for (const auto& done : std::exchange(leave_done_, {}))
        done({});
    if (const auto gone = std::exchange(events_.gone, nullptr)) gone();
}

// ---- Its use

bool DeviceUse::check_usable(const std::function<void(Error)>& refuse) const {
    if (usable()) return true;
    refuse(Error(Errc::not_found, "the device cannot be used any more"));
    return false;
}

template <class T>
DeviceUse::Got<T> DeviceUse::answered_once(Got<T> done) {
    const uint64_t id = next_call_++;
    calls_[id] = [done](Error why) { done(tl::unexpected<Error>(std::move(why))); };
    return [weak = weak_from_this(), id, done = std::move(done)](Result<T> result) {
        const auto self = weak.lock();
        if (self && self->calls_.erase(id)) done(std::move(result));
    };
}

void DeviceUse::read(unsigned bar, uint64_t offset, size_t bytes, Got<std::vector<std::byte>> done) {
    if (!check_usable([&](Error why) { done(tl::unexpected<Error>(std::move(why))); })) return;
    device_->read(bar, offset, bytes, answered_once(std::move(done)));
}

void DeviceUse::write(unsigned bar, uint64_t offset, std::span<const std::byte> data, Done done) {
    if (!check_usable([&](Error why) { done(tl::unexpected<Error>(std::move(why))); })) return;
    device_->write(bar, offset, data, answered_once(std::move(done)));
}

void DeviceUse::place(const ntb::Target& memory, Access access, std::shared_ptr<void> keep, Got<Iova> done) {
    if (!check_usable([&](Error why) { done(tl::unexpected<Error>(std::move(why))); })) return;
    kept_placing_.push_back(keep);
    device_->place(memory.partition, memory.address, memory.size_bytes, access,
                   answered_once<Iova>([this, keep, done = std::move(done)](Result<Iova> iova) {
                       if (!usable()) return done(std::move(iova)); // it is kept until the device has left
                       kept_placing_.erase(std::ranges::find(kept_placing_, keep));
                       if (iova) kept_[*iova] = keep;
                       done(std::move(iova));
                   }));
}

void DeviceUse::unmap(Iova iova, Done done) {
    // Once it has left, the device reaches nothing of ours; until then, it may.
    if (phase_ == Phase::leaving || phase_ == Phase::given_up) return leave_done_.push_back(std::move(done));
    if (phase_ == Phase::gone) return done({});
    if (!check_usable([&](Error why) { done(tl::unexpected<Error>(std::move(why))); })) return;
    device_->unmap(iova, answered_once<void>([this, iova, done = std::move(done)](Result<> result) {
                       // What the lender has not confirmed is kept until the device has left.
                       if (result) kept_.erase(iova);
                       done(std::move(result));
                   }));
}

void DeviceUse::create_segment(uint32_t id, uint64_t bytes, smartio::SegmentScope scope, Done done) {
    if (!check_usable([&](Error why) { done(tl::unexpected<Error>(std::move(why))); })) return;
    device_->create_segment(id, bytes, scope, answered_once(std::move(done)));
}

void DeviceUse::connect_segment(uint32_t id, smartio::SegmentScope scope, Got<ntb::Target> done) {
    if (!check_usable([&](Error why) { done(tl::unexpected<Error>(std::move(why))); })) return;
    device_->connect_segment(id, scope, answered_once(std::move(done)));
}

void DeviceUse::remove_segment(uint32_t id, smartio::SegmentScope scope, Done done) {
    if (!check_usable([&](Error why) { done(tl::unexpected<Error>(std::move(why))); })) return;
    device_->remove_segment(id, scope, answered_once(std::move(done)));
}

void DeviceUse::set_interrupt(uint32_t vector, UniqueFd eventfd, Done done) {
    if (!check_usable([&](Error why) { done(tl::unexpected<Error>(std::move(why))); })) return;
    device_->set_interrupt(vector, std::move(eventfd), answered_once(std::move(done)));
}

} // namespace lanepool::application
