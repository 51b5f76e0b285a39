// SPDX-License-Identifier: Apache-2.0
//
// A lent device that its own host can use, too: seen while the host has it, taken, and given back.
//
// What its host says of it and what it says of itself, once it is taken, must name the same device: (host,
// name, serial number) is who it is. Where only a driver could tell the number and none has it, it counts as
// the one that was in its place last; if it says otherwise when it is taken it is given back at once, and is
// another device from then on.
#include "agent/device_class.h"
#include "agent/lent_device.h"

#include <spdlog/spdlog.h>

namespace lanepool::agent {

namespace {
// Custody has deadlines of its own; this is for what they do not see.
constexpr std::chrono::seconds release_limit(90);
} // namespace

// ---- as its host has it

void LentDevice::note(const Sighting& seen) {
    const auto before = sighting_ ? sighting_->functions : std::vector<pci::Address>{};
    sighting_ = seen;
    if (before != seen.functions) setup_.events.functions(seen.functions);
}

std::string LentDevice::serial_by_host() const {
    return sighting_->serial_known ? sighting_->identity.serial() : setup_.records->last_serial(name());
}

void LentDevice::seen_local() {
    const std::string serial = serial_by_host();
    const bool same = identity_ && identity_->serial() == serial;
    if (fence_.with_host() && !same) fence_.absent("it was exchanged");
    if (!fence_.with_host())
        if (const auto known = recognise(serial); !known) return absent(known.error().message());
    if (sighting_->serial_known || !same) {
        identity_ = sighting_->identity;
        identity_->set_serial(serial);
    }
    problem_.clear();
    fence_.local(now_us());
    arm();
    if (observed().SerializeAsString() != said_) say_changed();
    look_again();
}

// Of one that has been taken but does not answer: whose it is can be told all the same.
void LentDevice::identify_by_host() {
    if (identity_ || !sighting_) return;
    const std::string serial = serial_by_host();
    if (!recognise(serial)) return;
    identity_ = sighting_->identity;
    identity_->set_serial(serial);
}

// ---- what the fence asks for

template <class Work, class Then>
void LentDevice::ask_host(uint64_t operation, int64_t limit_us, std::string what, Work work, Then then) {
    with_host_ = true;
    host_until_us_ = now_us() + limit_us;
    ++looks_; // one that is under way is out of date
    retry_.reset();
    const auto late = std::make_shared<bool>(false);
    host_limit_ = setup_.loop->after(std::chrono::microseconds(limit_us), [=, this, what = std::move(what)] {
        *late = true;
        finish(operation, fail(Errc::timeout, "{} has not ended within {} ms", what, limit_us / 1000));
    });
    setup_.background->run(std::move(work),
                           [this, alive = alive_, late, then = std::move(then)](auto result) mutable {
                               if (!*alive) return;
                               host_limit_.reset();
                               with_host_ = false;
                               then(std::move(result), *late);
                           });
}

void LentDevice::take(uint64_t operation, int64_t limit_us) {
    if (with_host_)
        return end_of(operation)(fail(Errc::busy, "its host has not answered the last request yet"));
    if (const auto could = device_class_for(identity_->class_code()); !could)
        return end_of(operation)(tl::unexpected<Error>(could.error()));
    ask_host(
        operation, limit_us, "taking it from its host",
        [source = setup_.source] { return take_and_reach(source); },
        [this, operation](Result<Found> result, bool late) { taken(operation, std::move(result), late); });
}

// On the background thread. After an error its host has it as before.
Result<LentDevice::Found> LentDevice::take_and_reach(const std::shared_ptr<FunctionSource>& source) {
    HostUse& host = *source->host();
    TRY(host.take());
    auto found = find(source);
    if (found && found->reached && *found->reached) return found;
    const Error why = !found           ? found.error()
                      : found->reached ? found->reached->error()
                                       : Error(Errc::io, "it was taken, and is its host's again");
    found = fail(Errc::cancelled, "closed"); // before it is given back
    if (const auto back = host.give_back(); !back)
        return fail(why.code(), "{}; and it could not be given back: {}", why.message(),
                    back.error().message());
    return tl::unexpected(why);
}

void LentDevice::taken(uint64_t operation, Result<Found> result, bool late) {
    if (!result) {
        spdlog::warn("device {} was not taken: {}", name(), result.error().message());
        finish(operation, tl::unexpected(result.error()));
        return look();
    }
    Reached& reached = **result->reached;
    const std::string serial = reached.identity.serial();
    if (late)
        return undo_take(operation, Error(Errc::timeout, "it came too late"), std::move(reached.function));
    if (serial != identity_->serial()) {
        const auto noted = setup_.records->found(name(), serial); // whose number it goes by from now on
        return undo_take(operation,
                         Error(noted ? Errc::failed_precondition : noted.error().code(),
                               fmt::format("it is another one than it was taken for: its serial number is "
                                           "'{}', not '{}'; it has been given back",
                                           serial, identity_->serial())),
                         std::move(reached.function));
    }
    note(*result->seen);
    adopt(std::move(reached));
    create_lender_if_possible();
    if (!lender_) {
        ++generation_;
        device_class_.reset();
        return undo_take(operation,
                         Error(Errc::unavailable, adapter_ ? problem_ : "its host is not on the fabric"),
                         std::move(function_));
    }
    spdlog::info("device {} is taken from its host", name());
    finish(operation, {});
    say_changed();
}

void LentDevice::undo_take(uint64_t operation, Error why, std::shared_ptr<pci::Function> function) {
    ask_host(
        operation, std::max<int64_t>(1, host_until_us_ - now_us()), why.message() + "; giving it back",
        [source = setup_.source, function = std::move(function)]() mutable {
            function.reset();
            return source->host()->give_back();
        },
        [this, operation, why = std::move(why)](const Result<>& back, bool) {
            finish(operation, back ? fail(why.code(), "{}", why.message())
                                   : fail(why.code(), "{}; and it could not be given back: {}", why.message(),
                                          back.error().message()));
            look();
        });
}

void LentDevice::give_back(uint64_t operation, int64_t limit_us) {
    if (with_host_)
        return end_of(operation)(fail(Errc::busy, "its host has not answered the last request yet"));
    lender_.reset();
    ++generation_;
    device_class_.reset();
    ask_host(
        operation, limit_us, "giving it back to its host",
        [source = setup_.source, function = std::shared_ptr<pci::Function>(std::move(function_))]() mutable {
            function.reset();
            return source->host()->give_back();
        },
        [this, operation](const Result<>& result, bool) {
            if (result) spdlog::info("device {} is its host's again", name());
            problem_ = result ? "" : result.error().message();
            finish(operation, result);
            say_changed();
            look();
        });
}

void LentDevice::set_functions(uint64_t operation, uint32_t functions, int64_t limit_us) {
    if (with_host_)
        return end_of(operation)(fail(Errc::busy, "its host has not answered the last request yet"));
    ask_host(
        operation, limit_us, "changing its SR-IOV functions",
        [source = setup_.source, functions, limit_us] {
            return source->host()->set_functions(functions, std::chrono::microseconds(limit_us));
        },
        [this, operation](const Result<>& result, bool) {
            finish(operation, result);
            look(); // what there is now, a Hello says
        });
}

// ---- one that goes

Result<> LentDevice::may_go() const {
    const auto openings = fence_.openings();
    if (!openings.empty())
        return fail(Errc::busy, "SR-IOV function {} is lent by loan {}", name(), openings.front().loan);
    if (with_host_ || fence_.under_way())
        return fail(Errc::busy, "SR-IOV function {} is {}", name(), agent::name(fence_.state()));
    return {};
}

void LentDevice::let_go(Done done) {
    if (auto may = may_go(); !may) return done(std::move(may));
    if (fence_.with_host()) return done({});
    lender_.reset();
    problem_ = "it is about to be removed";
    fence_.absent(problem_);
    going_ = std::move(done);
    ++generation_;
    device_class_.reset();
    ask_host(
        0, std::chrono::microseconds(release_limit).count(), "giving it back to its host",
        [source = setup_.source, function = std::shared_ptr<pci::Function>(std::move(function_))]() mutable {
            function.reset();
            return source->host()->give_back();
        },
        [this](const Result<>& result, bool) { std::exchange(going_, nullptr)(result); });
}

void LentDevice::stay() {
    if (!function_ && !with_host_) look_again();
}

} // namespace lanepool::agent
