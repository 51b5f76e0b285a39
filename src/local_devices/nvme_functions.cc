// SPDX-License-Identifier: Apache-2.0
#include "local_devices/nvme_functions.h"

#include "local_devices/pci_tree.h"
#include "pci/address.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <cstring>

namespace lanepool::local_devices {

namespace {

using namespace std::chrono_literals;

// NVM Express Base Specification 2.0: 5.17 Identify, 5.20 Namespace Attachment, 5.29 Virtualization
// Management.
constexpr uint8_t identify = 0x06, namespace_attachment = 0x15, virtualization_management = 0x1c;
enum class Cns : uint8_t {
    controller = 0x01,
    allocated_namespaces = 0x10,
    controllers_of_namespace = 0x12,
    primary_capabilities = 0x14,
    secondary_controllers = 0x15
};
enum class Resource : uint32_t { queues = 0, interrupts = 1 };
enum class Action : uint32_t { primary_share = 1, offline = 7, assign = 8, online = 9 };

constexpr uint32_t command_timeout_ms = 10'000;
constexpr auto reset_timeout = 70s;
constexpr auto look_again = 50ms;
constexpr unsigned least_queues = 2; // the admin queue, and one for input and output
constexpr unsigned least_interrupts = 1;
constexpr size_t most_secondaries = 127; // what one list holds

using Page = std::array<uint8_t, 4096>;

uint16_t word(const Page& page, size_t offset) {
    return static_cast<uint16_t>(page[offset] | page[offset + 1] << 8);
}
uint32_t double_word(const Page& page, size_t offset) {
    return word(page, offset) | static_cast<uint32_t>(word(page, offset + 2)) << 16;
}

// One kind of flexible resource, in the fields of the primary's capabilities.
struct Share {
    unsigned total = 0;   // flexible ones
    unsigned primary = 0; // of those, with the primary
    unsigned most = 0;    // for one secondary
    unsigned granularity = 1;
    // For each of COUNT.
    unsigned of(unsigned count) const {
        const unsigned part = std::min(total / std::max(count, 1U), most == 0 ? total : most);
        return part - part % std::max(granularity, 1U);
    }
};

struct Secondary {
    uint16_t id = 0;
    bool online = false;
    unsigned function = 0; // VF number, from 1
};

class Primary {
  public:
    Primary(System& system, std::string node) : system_(system), node_(std::move(node)) {}

    Result<Page> ask(Cns cns, uint16_t controller = 0, uint32_t namespace_id = 0) {
        Page page = {};
        nvme_passthru_cmd command = {};
        command.opcode = identify;
        command.nsid = namespace_id;
        command.cdw10 = static_cast<uint32_t>(cns) | static_cast<uint32_t>(controller) << 16;
        TRY(send(command, page, fmt::format("Identify {:#x}", static_cast<unsigned>(cns))));
        return page;
    }

    Result<> manage(Action action, uint16_t controller, Resource resource = Resource::queues,
                    unsigned amount = 0) {
        Page none = {};
        nvme_passthru_cmd command = {};
        command.opcode = virtualization_management;
        command.cdw10 = static_cast<uint32_t>(action) | static_cast<uint32_t>(resource) << 8 |
                        static_cast<uint32_t>(controller) << 16;
        command.cdw11 = amount;
        return send(command, none,
                    fmt::format("Virtualization Management {} for controller {} ({} of resource {})",
                                static_cast<unsigned>(action), controller, amount,
                                static_cast<unsigned>(resource)));
    }

    Result<> attach(uint32_t namespace_id, uint16_t controller, bool attached) {
        Page list = {1, 0, static_cast<uint8_t>(controller), static_cast<uint8_t>(controller >> 8)};
        nvme_passthru_cmd command = {};
        command.opcode = namespace_attachment;
        command.nsid = namespace_id;
        command.cdw10 = attached ? 0 : 1;
        return send(command, list,
                    fmt::format("{} namespace {} {} controller {}", attached ? "attaching" : "detaching",
                                namespace_id, attached ? "to" : "from", controller));
    }

    Result<Share> share(Resource resource) {
        const Page page = TRY(ask(Cns::primary_capabilities));
        const size_t base = resource == Resource::queues ? 32 : 64;
        return Share{double_word(page, base), word(page, base + 8), word(page, base + 12),
                     word(page, base + 14)};
    }

    Result<std::vector<Secondary>> secondaries() {
        const Page page = TRY(ask(Cns::secondary_controllers));
        std::vector<Secondary> list;
        for (size_t i = 0; i < std::min<size_t>(page[0], most_secondaries); ++i) {
            const size_t entry = 32 + i * 32;
            list.push_back({word(page, entry), (page[entry + 4] & 1) != 0, word(page, entry + 8)});
        }
        return list;
    }

    Result<Secondary> secondary_of(unsigned function) {
        for (const auto& secondary : TRY(secondaries()))
            if (secondary.function == function) return secondary;
        return fail(Errc::io, "{} does not say which controller its VF {} is", node_, function);
    }

    const std::string& node() const { return node_; }

  private:
    Result<> send(nvme_passthru_cmd& command, Page& page, const std::string& what) {
        command.timeout_ms = command_timeout_ms;
        if (command.opcode != virtualization_management) {
            command.addr = reinterpret_cast<uintptr_t>(page.data());
            command.data_len = static_cast<uint32_t>(page.size());
        }
        const int status = TRY(system_.nvme_admin(node_, command));
        if (status != 0)
            return fail(Errc::io, "{}: the drive refuses '{}' with status {:#x}", node_, what, status);
        return {};
    }

    System& system_;
    const std::string node_;
};

struct Abilities {
    bool virtualization = false, namespaces = false;
};

// Optional Admin Command Support of the Identify Controller data.
Result<Abilities> abilities_of(Primary& primary) {
    const uint16_t commands = word(TRY(primary.ask(Cns::controller)), 256);
    return Abilities{(commands & 1 << 7) != 0, (commands & 1 << 3) != 0};
}

Result<> wait_until_live(System& system, const std::string& node, io::TimePoint deadline) {
    const std::string state = fmt::format("/sys/class/nvme/{}/state", last_name(node));
    while (text_of(system, state) != "live") {
        if (system.now() >= deadline)
            return fail(Errc::timeout, "{} has not come back from a reset: it is '{}'", node,
                        text_of(system, state));
        system.pause(look_again);
    }
    return {};
}

std::vector<uint16_t> controllers_in(const Page& page) {
    std::vector<uint16_t> controllers;
    const size_t count = std::min<size_t>(word(page, 0), page.size() / 2 - 1);
    for (size_t i = 0; i < count; ++i)
        controllers.push_back(word(page, 2 + i * 2));
    return controllers;
}

Result<> keep_namespaces_apart(Primary& primary, uint16_t controller, bool manageable) {
    const Page allocated = TRY(primary.ask(Cns::allocated_namespaces));
    uint32_t nobodys = 0;
    bool has_own = false;
    for (size_t offset = 0; offset + 4 <= allocated.size(); offset += 4) {
        const uint32_t id = double_word(allocated, offset);
        if (id == 0) break;
        const auto users = controllers_in(TRY(primary.ask(Cns::controllers_of_namespace, 0, id)));
        if (users.empty() && nobodys == 0) nobodys = id;
        if (std::ranges::find(users, controller) == users.end()) continue;
        if (users.size() == 1) {
            has_own = true;
            continue;
        }
        if (!manageable)
            return fail(
                Errc::failed_precondition,
                "{}: controller {} reaches namespace {}, which others use, and the drive has no way to "
                "detach it",
                primary.node(), controller, id);
        TRY(primary.attach(id, controller, false));
    }
    if (!has_own && nobodys != 0 && manageable) TRY(primary.attach(nobodys, controller, true));
    return {};
}

} // namespace

std::optional<std::string> nvme_node_of(System& system, const pci::Address& parent) {
    const auto entries = system.list(attribute(parent, "nvme"));
    if (!entries || entries->empty()) return std::nullopt;
    return "/dev/" + entries->front().name;
}

Result<> make_room_for_secondaries(System& system, const pci::Address& parent, unsigned count,
                                   io::TimePoint deadline) {
    const auto node = nvme_node_of(system, parent);
    if (!node || count == 0) return {};
    Primary primary(system, *node);
    if (!TRY(abilities_of(primary)).virtualization) return {};
    const Share queues = TRY(primary.share(Resource::queues));
    const Share interrupts = TRY(primary.share(Resource::interrupts));
    if (queues.of(count) < least_queues || interrupts.of(count) < least_interrupts)
        return fail(
            Errc::no_space,
            "{} has {} queues and {} interrupts for its VFs, which is not enough for {}: each takes {} "
            "and {}",
            *node, queues.total, interrupts.total, count, least_queues, least_interrupts);
    if (queues.primary == 0 && interrupts.primary == 0) return {};
    // It takes effect with the primary's next reset; other resets than that of the function do not do with
    // every drive.
    const uint16_t id = word(TRY(primary.ask(Cns::controller)), 78);
    TRY(primary.manage(Action::primary_share, id, Resource::queues, 0));
    TRY(primary.manage(Action::primary_share, id, Resource::interrupts, 0));
    TRY(system.write(attribute(parent, "reset"), "1", reset_timeout));
    TRY(wait_until_live(system, *node, deadline));
    if (TRY(primary.share(Resource::queues)).primary != 0)
        return fail(Errc::io, "{} keeps the queues for its VFs to itself, also after a reset", *node);
    return {};
}

Result<> bring_secondaries_online(System& system, const pci::Address& parent, unsigned count) {
    const auto node = nvme_node_of(system, parent);
    if (!node) return {};
    Primary primary(system, *node);
    if (!TRY(abilities_of(primary)).virtualization) return {};
    for (unsigned index = 0; index < count; ++index)
        if (!TRY(primary.secondary_of(index + 1)).online)
            TRY(bring_secondary_online(system, parent, index, count));
    return {};
}

Result<> bring_secondary_online(System& system, const pci::Address& parent, unsigned index, unsigned count) {
    const auto node = nvme_node_of(system, parent);
    if (!node)
        return fail(Errc::failed_precondition, "{} is not with the driver nvme, which its VFs need",
                    pci::to_string(parent));
    Primary primary(system, *node);
    const auto abilities = TRY(abilities_of(primary));
    if (!abilities.virtualization) return {};
    const auto secondary = TRY(primary.secondary_of(index + 1));
    if (secondary.online) TRY(primary.manage(Action::offline, secondary.id));
    TRY(keep_namespaces_apart(primary, secondary.id, abilities.namespaces));
    for (const auto resource : {Resource::queues, Resource::interrupts})
        TRY(primary.manage(Action::assign, secondary.id, resource, TRY(primary.share(resource)).of(count)));
    TRY(primary.manage(Action::online, secondary.id));
    if (!TRY(primary.secondary_of(index + 1)).online)
        return fail(Errc::io, "{}: its VF {} has not come online", *node, index);
    return {};
}

} // namespace lanepool::local_devices
