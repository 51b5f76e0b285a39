// SPDX-License-Identifier: Apache-2.0
#include "local_devices/custody.h"

#include "local_devices/binding.h"
#include "local_devices/holders.h"
#include "local_devices/journal.h"
#include "local_devices/pci_tree.h"
#include "local_devices/reset.h"
#include "pci/address.h"

#include <algorithm>
#include <chrono>
#include <mutex>
#include <spdlog/spdlog.h>

namespace lanepool::local_devices {

namespace {

using namespace std::chrono_literals;

// Somebody who looks at every new device, as udev does, has it open for a moment.
constexpr int holder_looks = 3;
constexpr auto between_looks = 300ms;

bool contains(const std::vector<pci::Address>& list, const pci::Address& address) {
    return std::ranges::find(list, address) != list.end();
}

bool has_member(const Group& group, const pci::Address& address) {
    return std::ranges::find(group.members, address, &Member::address) != group.members.end();
}

std::vector<pci::Address> addresses_of(const Group& group) {
    std::vector<pci::Address> addresses;
    for (const auto& member : group.members)
        addresses.push_back(member.address);
    return addresses;
}

std::string names_of(const std::vector<pci::Address>& addresses) {
    std::string text;
    for (const auto& address : addresses)
        text += (text.empty() ? "" : ", ") + pci::to_string(address);
    return text;
}

bool is_process(const std::string& user) { return user.starts_with("process "); }

Result<> refuse_if_used(const std::vector<std::string>& users) {
    if (users.empty()) return {};
    return fail(Errc::busy, "in use: {}", fmt::join(users, "; "));
}

// Whether the kernel gives user space a group in which a bridge has this driver: only one that starts no DMA
// of its own (driver_managed_dma in its struct pci_driver).
bool leaves_group_alone(const std::string& driver) {
    return driver.empty() || driver == "pcieport" || driver == "pci-stub" || driver == vfio_driver;
}

class LinuxCustody final : public Custody {
  public:
    LinuxCustody(std::unique_ptr<System> system, std::filesystem::path state_file)
        : system_(std::move(system)), state_file_(std::move(state_file)) {}

    Result<> start();

    Result<> take(const pci::Address& function, Purpose purpose) override;
    Result<> give_back(const pci::Address& function) override;
    bool taken(const pci::Address& function) const override;
    Result<std::vector<std::string>> holders(const pci::Address& function) const override;
    Result<std::vector<pci::Address>> group(const pci::Address& function) const override;
    const std::vector<std::string>& notes() const override { return notes_; }

  private:
    Result<> commit(Journal next);
    Result<> commit(const Group& group); // in the place of those that share a member with it
    Result<> forget(const Group& group);
    std::optional<Group> group_with(const pci::Address& function) const;

    Result<> settle(Group group);
    std::string why_lost(const Member& member) const;
    bool still_taken(Group& group);
    void note(std::string text);
    Result<Group> prepare(const pci::Address& function);
    Result<> change(Group& group, const pci::Address& function, Purpose purpose);
    Result<> return_all(Group group);

    const std::unique_ptr<System> system_;
    const std::filesystem::path state_file_;
    std::vector<std::string> notes_;
    bool opened_ = false;        // from then on notes_ stays as it is
    std::mutex changing_;        // held by take() and give_back() from start to end
    mutable std::mutex reading_; // for journal_
    Journal journal_;
};

Result<> LinuxCustody::commit(Journal next) {
    TRY(system_->save(state_file_, to_text(next)));
    const std::lock_guard lock(reading_);
    journal_ = std::move(next);
    return {};
}

Result<> LinuxCustody::commit(const Group& group) {
    Journal next = journal_;
    std::erase_if(next.groups, [&](const Group& other) {
        return std::ranges::any_of(group.members,
                                   [&](const Member& member) { return has_member(other, member.address); });
    });
    next.groups.push_back(group);
    return commit(std::move(next));
}

Result<> LinuxCustody::forget(const Group& group) {
    Journal next = journal_;
    std::erase_if(next.groups, [&](const Group& other) {
        return std::ranges::any_of(group.members,
                                   [&](const Member& member) { return has_member(other, member.address); });
    });
    return commit(std::move(next));
}

std::optional<Group> LinuxCustody::group_with(const pci::Address& function) const {
    const std::lock_guard lock(reading_);
    for (const auto& group : journal_.groups)
        if (has_member(group, function)) return group;
    return std::nullopt;
}

void LinuxCustody::note(std::string text) {
    spdlog::warn("{}", text);
    if (!opened_) notes_.push_back(std::move(text));
}

Result<> LinuxCustody::start() {
    const auto text = TRY(system_->load(state_file_));
    Journal found;
    if (text) {
        auto parsed = parse_journal(*text);
        if (!parsed)
            return fail(
                Errc::protocol,
                "{} does not say what lanepool has taken from this machine: {}. Put its devices back on "
                "their drivers by hand and remove the file",
                state_file_.string(), parsed.error().message());
        found = std::move(*parsed);
    }
    Journal now;
    now.boot = text_of(*system_, "/proc/sys/kernel/random/boot_id");
    if (found.boot != now.boot) {
        // No driver_override survives a boot: everything is on its host's drivers.
        for (const auto& group : found.groups)
            note(fmt::format("this machine was restarted: {} on its own drivers again",
                             names_of(addresses_of(group))));
        return commit(std::move(now));
    }
    journal_ = found;
    for (const auto& group : found.groups)
        if (const auto settled = settle(group); !settled)
            note(fmt::format("{} could not be put back as it was: {}", names_of(addresses_of(group)),
                             settled.error().message()));
    opened_ = true;
    return {};
}

// Why MEMBER, which was taken, is not any more; empty: it is. The kernel keeps driver_override as long as it
// knows the function: one that has lost it was unplugged and plugged in again, or somebody took it away.
std::string LinuxCustody::why_lost(const Member& member) const {
    if (!present(*system_, member.address)) return "is not there any more";
    if (!may_be_same(identity_of(*system_, member.address), member.identity))
        return "another device is in its place now";
    const std::string driver = driver_of(*system_, member.address);
    if (driver == vfio_driver ||
        (driver.empty() && driver_override_of(*system_, member.address) == vfio_driver))
        return {};
    if (driver.empty()) return "was plugged in anew since";
    return fmt::format("the driver {} has it now", driver);
}

// Whether GROUP, which was taken, still is, without those of its members that are lanepool's no more. One
// that has lost its driver (vfio-pci was unloaded and loaded again) gets it back.
bool LinuxCustody::still_taken(Group& group) {
    std::erase_if(group.members, [&](const Member& member) {
        const auto reason = why_lost(member);
        if (!reason.empty())
            note(fmt::format("{} was taken, and {}", pci::to_string(member.address), reason));
        return !reason.empty();
    });
    std::erase_if(group.wanted, [&](const pci::Address& address) { return !has_member(group, address); });
    if (group.wanted.empty()) return false;
    auto bound = ensure_vfio_driver(*system_);
    if (bound) bound = unbind_for_vfio(*system_, group.members);
    if (bound) bound = bind_to_vfio(*system_, group.members);
    if (!bound) note(bound.error().message());
    return bound.has_value();
}

// Afterwards GROUP is taken as a whole, or as its host had it and forgotten; or it says why not.
Result<> LinuxCustody::settle(Group group) {
    const Group before = group;
    if (group.state == Group::State::taken) {
        const bool taken = still_taken(group);
        if (taken && group.members.size() == before.members.size()) return {};
        if (group.members.empty()) return forget(before);
        if (taken) return commit(group);
    } else {
        note(fmt::format("{}: {} was interrupted; it is put back as it was", names_of(addresses_of(group)),
                         group.state == Group::State::taking ? "taking it" : "giving it back"));
    }
    return return_all(std::move(group));
}

Result<> LinuxCustody::return_all(Group group) {
    group.state = Group::State::returning;
    group.wanted.clear();
    TRY(commit(group));
    TRY(bind_as_before(*system_, group.members));
    return forget(group);
}

// The group of FUNCTION as it is now, or was before it was changed; nobody uses any of it.
Result<Group> LinuxCustody::prepare(const pci::Address& function) {
    const auto addresses = TRY(group(function));
    for (const auto& other : TRY(iommu_group_of(*system_, function))) {
        if (contains(addresses, other)) continue;
        const std::string driver = driver_of(*system_, other);
        if (!leaves_group_alone(driver))
            return fail(
                Errc::failed_precondition,
                "{} shares its IOMMU group with the bridge {}, which the driver {} uses: unbind that one",
                pci::to_string(function), pci::to_string(other), driver);
    }
    std::vector<std::string> users;
    for (int look = 0; look < holder_looks; ++look) {
        if (look > 0) system_->pause(between_looks);
        users = holders_of(*system_, addresses);
        if (!std::ranges::all_of(users, is_process) || users.empty()) break;
    }
    TRY(refuse_if_used(users));
    TRY(ensure_vfio_driver(*system_));
    const auto interrupted = group_with(function);
    Group group;
    group.wanted = {function};
    for (const auto& address : addresses) {
        Member member = remember(*system_, address);
        if (interrupted)
            for (const auto& former : interrupted->members)
                if (former.address == address && may_be_same(former.identity, member.identity))
                    member = former;
        group.members.push_back(std::move(member));
    }
    return group;
}

Result<> LinuxCustody::change(Group& group, const pci::Address& function, Purpose purpose) {
    TRY(unbind_for_vfio(*system_, group.members));
    if (purpose == Purpose::lending) {
        const std::string method = TRY(choose_reset_method(*system_, function, addresses_of(group)));
        spdlog::info("{} is reset by '{}'", pci::to_string(function), method);
    }
    TRY(bind_to_vfio(*system_, group.members));
    group.state = Group::State::taken;
    return commit(group);
}

Result<> LinuxCustody::take(const pci::Address& function, Purpose purpose) {
    const std::lock_guard lock(changing_);
    if (const auto former = group_with(function)) {
        // Where that does not succeed, what is left is taken over: from its journal the way back is known.
        const auto settled = settle(*former);
        if (!settled) spdlog::warn("{}", settled.error().message());
    }
    if (auto known = group_with(function); known && known->state == Group::State::taken) {
        if (contains(known->wanted, function)) return {};
        if (purpose == Purpose::lending) TRY(choose_reset_method(*system_, function, addresses_of(*known)));
        known->wanted.push_back(function);
        return commit(*known);
    }
    Group group = TRY(prepare(function));
    TRY(commit(group));
    auto changed = change(group, function, purpose);
    if (changed) return {};
    const auto returned = return_all(group);
    if (returned) return changed;
    return fail(changed.error().code(), "{}; and then it could not be put back as it was: {}",
                changed.error().message(), returned.error().message());
}

Result<> LinuxCustody::give_back(const pci::Address& function) {
    const std::lock_guard lock(changing_);
    auto group = group_with(function);
    if (!group) return {};
    if (group->state == Group::State::taken) {
        std::erase(group->wanted, function);
        if (!group->wanted.empty()) return commit(*group);
    }
    TRY(refuse_if_used(vfio_users_of(*system_, addresses_of(*group))));
    return return_all(std::move(*group));
}

bool LinuxCustody::taken(const pci::Address& function) const {
    const auto found = group_with(function);
    return found && found->state == Group::State::taken && contains(found->wanted, function) &&
           driver_of(*system_, function) == vfio_driver;
}

Result<std::vector<std::string>> LinuxCustody::holders(const pci::Address& function) const {
    return holders_of(*system_, TRY(group(function)));
}

Result<std::vector<pci::Address>> LinuxCustody::group(const pci::Address& function) const {
    auto addresses = TRY(iommu_group_of(*system_, function));
    if (is_bridge(*system_, function))
        return fail(Errc::invalid_argument, "{} is a bridge: a machine needs it to reach what is behind it",
                    pci::to_string(function));
    std::erase_if(addresses, [&](const pci::Address& address) { return is_bridge(*system_, address); });
    return addresses;
}

} // namespace

Result<std::unique_ptr<Custody>> Custody::open(std::unique_ptr<System> system,
                                               std::filesystem::path state_file) {
    auto custody = std::make_unique<LinuxCustody>(std::move(system), std::move(state_file));
    TRY(custody->start());
    return custody;
}

Result<std::unique_ptr<Custody>> Custody::open(const Paths& paths, std::filesystem::path state_file) {
    return open(linux_system(paths), std::move(state_file));
}

} // namespace lanepool::local_devices
