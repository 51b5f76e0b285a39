// SPDX-License-Identifier: Apache-2.0
//
// What a function is and can do.
#include "inventory/links.h"
#include "inventory/names.h"
#include "inventory/text.h"
#include "pci/address.h"
#include "qualify/subject.h"

#include <algorithm>
#include <fmt/format.h>
#include <fmt/ranges.h>

namespace lanepool::qualify {

namespace {

constexpr uint64_t page_bytes = 4096;

// Another function on the same bus, which a reset of that bus would reset with it.
const inventory::Function* neighbour_of(const Subject& subject) {
    const auto& own = subject.function.address;
    const auto found = std::ranges::find_if(subject.machine.functions, [&](const inventory::Function& other) {
        return other.address != own && other.address.domain == own.domain && other.address.bus == own.bus;
    });
    return found == subject.machine.functions.end() ? nullptr : &*found;
}

bool has(const std::vector<std::string>& methods, std::string_view method) {
    return std::ranges::find(methods, method) != methods.end();
}

bool may_need_io_ports(const inventory::Function& function) {
    // A PCI Express endpoint has to work without them; what is no legacy endpoint does (7.5.1.2.1).
    return function.type != inventory::FunctionType::endpoint;
}

} // namespace

Check check_function(const Subject& subject) {
    const auto& function = subject.function;
    const auto kind = inventory::kind_of(function);
    Check check{"function", Outcome::pass, "it is a function that can be lent", std::string(kind), ""};
    if (function.bridge || kind == "bridge")
        return {check.id, Outcome::fail, "it is a bridge: its machine needs it to reach what is behind it",
                check.evidence, "lend what is below it"};
    if (kind == "ntb")
        return {check.id, Outcome::fail, "it is an adapter, over which others are lent", check.evidence,
                "name a device"};
    return check;
}

Check check_configuration(const Subject& subject) {
    const auto& function = subject.function;
    const auto notes = fmt::format("{}", fmt::join(function.notes, "; "));
    if (!function.answers)
        return {"configuration", Outcome::fail, "it does not answer: its configuration space reads all-ones",
                notes, "bring it out of D3cold, or reseat the card; then look again"};
    if (function.config_broken)
        return {"configuration", Outcome::fail,
                "a chain of capabilities is broken, so that what a borrower may see cannot be told from what "
                "it may not",
                notes, "update the firmware of the device"};
    if (!function.config_complete)
        return {"configuration", Outcome::unknown, "its configuration space could not be read as a whole",
                notes, "run it as root"};
    return {"configuration", Outcome::pass, "its configuration space is whole", "", ""};
}

Check check_sriov(const Subject& subject) {
    const auto& function = subject.function;
    const bool wants_function = subject.model == AccessModel::vf;
    if (function.parent) {
        const auto parent = pci::to_string(*function.parent);
        return {
            "sriov", Outcome::pass,
            wants_function
                ? "it is an SR-IOV function"
                : "it is an SR-IOV function: it is lent by access model vf, also where lending is asked for",
            "parent " + parent, ""};
    }
    if (!function.sriov || function.sriov->total == 0) {
        if (!wants_function) return {"sriov", Outcome::skipped, "it has no SR-IOV", "", ""};
        return {"sriov", Outcome::fail, "it has no SR-IOV", "", "lend it as a whole"};
    }
    const auto evidence = fmt::format("{} of {} functions", function.sriov->enabled, function.sriov->total);
    if (wants_function)
        return {"sriov", Outcome::limits, "its functions are lent, not it itself", evidence,
                function.sriov->enabled == 0
                    ? "create functions first (lanepool functions DEVICE COUNT), and qualify these"
                    : "qualify its functions"};
    if (function.sriov->enabled > 0)
        return {"sriov", Outcome::fail,
                "it is the parent of SR-IOV functions, and stays with its host while it has any", evidence,
                "lend the functions, or remove them first: lanepool functions DEVICE 0"};
    return {"sriov", Outcome::pass, "it has no SR-IOV functions now", evidence, ""};
}

Check check_driver(const Subject& subject) {
    const auto& function = subject.function;
    const auto nodes = fmt::format("{}", fmt::join(function.device_nodes, " "));
    if (function.boot_display)
        return {"driver", Outcome::limits, "the console of its machine is shown on it", nodes,
                "let firmware and kernel use another display, or do without one"};
    if (!function.driver) return {"driver", Outcome::pass, "no driver has it", "", ""};
    if (function.driver->name == "vfio-pci")
        return {"driver", Outcome::pass, "it is with VFIO already", "vfio-pci", ""};
    return {"driver", Outcome::pass,
            "its driver lets go when nobody uses it; who does is looked at before it is taken",
            function.driver->name + (nodes.empty() ? "" : ": " + nodes), ""};
}

Check check_reset(const Subject& subject) {
    const auto& function = subject.function;
    const auto& methods = function.reset_methods;
    const auto evidence = methods.empty() ? std::string("none") : fmt::format("{}", fmt::join(methods, " "));
    const std::string remedy =
        "look for firmware that has function level reset, or put it alone behind a port";
    if (methods.empty())
        return {"reset", Outcome::fail, "the kernel knows no way to reset it, so that it cannot be handed on",
                evidence, remedy};
    if (has(methods, "flr") && function.has_flr == false && function.config_complete && !function.parent)
        return {"reset", Outcome::limits,
                "the kernel offers function level reset, but the device does not say it has it", evidence,
                "see it work: resets are verified each time, and the device is quarantined if one fails"};
    for (const char* good : {"device_specific", "flr", "af_flr", "acpi"})
        if (has(methods, good)) return {"reset", Outcome::pass, "it can be reset alone", evidence, ""};
    const auto* neighbour = neighbour_of(subject);
    if (!neighbour && (has(methods, "bus") || has(methods, "cxl_bus")))
        return {"reset", Outcome::pass, "it is alone on its bus, which can be reset", evidence, ""};
    if (has(methods, "pm"))
        return {"reset", Outcome::limits,
                "it can only be reset by its power state, in which many devices keep some of theirs",
                evidence,
                "see it work: resets are verified each time, and the device is quarantined if one fails"};
    if (neighbour)
        return {"reset", Outcome::fail,
                fmt::format("only its bus can be reset, and {} with it", pci::to_string(neighbour->address)),
                evidence, remedy};
    return {"reset", Outcome::limits, "it has a way to be reset that is not among those known to work",
            evidence,
            "see it work: resets are verified each time, and the device is quarantined if one fails"};
}

Check check_interrupts(const Subject& subject) {
    const auto& function = subject.function;
    if (function.msix_vectors.value_or(0) > 0)
        return {"interrupts", Outcome::pass, "it has MSI-X",
                fmt::format("{} vectors", *function.msix_vectors), ""};
    if (function.msi_vectors.value_or(0) > 0)
        return {"interrupts", Outcome::pass, "it has MSI", fmt::format("{} vectors", *function.msi_vectors),
                ""};
    if (!function.msix_vectors || !function.msi_vectors)
        return {"interrupts", Outcome::unknown, "whether it has MSI could not be read", "", "run it as root"};
    if (function.intx)
        return {"interrupts", Outcome::limits,
                "it has only a level-triggered interrupt, which takes a message for each", "INTx",
                "expect it to be slow, or use its newer firmware or driver if these have MSI"};
    if (subject.model == AccessModel::smartio)
        return {"interrupts", Outcome::limits, "it has no interrupt", "", "let the program poll"};
    return {"interrupts", Outcome::limits, "it has no interrupt: only a driver that polls can use it", "",
            "make sure that the borrower's driver polls"};
}

Check check_bars(const Subject& subject) {
    std::vector<std::string> found, small;
    size_t memory = 0;
    bool ports = false;
    for (size_t i = 0; i < subject.function.bars.size(); ++i) {
        const auto& bar = subject.function.bars[i];
        if (bar.size_bytes == 0) continue;
        found.push_back(fmt::format("BAR {} {}{}", i, inventory::bytes_text(bar.size_bytes),
                                    bar.io ? " of I/O ports" : ""));
        ports = ports || bar.io;
        if (bar.io) continue;
        ++memory;
        if (bar.address == 0)
            return {"bars", Outcome::fail,
                    fmt::format("BAR {} has no address: the firmware did not find room for it", i),
                    found.back(),
                    "allow more memory for devices in the firmware (above 4G decoding), or pci=realloc"};
        if (bar.size_bytes < page_bytes) small.push_back(fmt::format("BAR {}", i));
    }
    const auto evidence = fmt::format("{}", fmt::join(found, ", "));
    if (memory == 0)
        return {"bars", Outcome::fail, "it has no memory BAR, and nothing else can be reached over a fabric",
                evidence, "none"};
    if (memory == small.size() && subject.model == AccessModel::smartio)
        return {"bars", Outcome::limits,
                "its registers are smaller than a page, so that programs cannot map them", evidence,
                "use it by its native driver"};
    if (!small.empty())
        return {
            "bars", Outcome::limits,
            fmt::format("{} is smaller than a page: each access to it is a message", fmt::join(small, ", ")),
            evidence, "expect these accesses to be slow"};
    if (ports && may_need_io_ports(subject.function))
        return {"bars", Outcome::limits, "I/O ports cannot be reached over a fabric", evidence,
                "make sure that the borrower's driver does without them"};
    return {"bars", Outcome::pass, "all of its registers can be reached", evidence, ""};
}

Check check_dma_width(const Subject& subject) {
    const auto& bits = subject.function.dma_bits;
    if (!bits)
        return {"dma_width", Outcome::pass, "no driver has said that its addresses are narrow", "", ""};
    const auto evidence = fmt::format("{} bits", *bits);
    if (*bits < 32)
        return {"dma_width", Outcome::fail,
                "it does not even reach all of the first 4 GiB, where windows lie at best", evidence, "none"};
    if (*bits < 48)
        return {"dma_width", Outcome::limits,
                "its driver asked for narrow addresses: what lies above is copied", evidence,
                "give its borrower little memory, or use a driver that asks for 64 bits"};
    return {"dma_width", Outcome::pass, "it reaches all addresses that windows have", evidence, ""};
}

Check check_link(const Subject& subject) {
    const auto& function = subject.function;
    if (!function.best_link) return {"link", Outcome::skipped, "it has no link of its own", "", ""};
    const auto evidence =
        fmt::format("{}, at best {}", inventory::link_text(function.link),
                    inventory::link_text(inventory::possible_link(subject.machine, function)));
    if (inventory::is_degraded(subject.machine, function))
        return {"link", Outcome::limits, "its link runs below what card and port can do", evidence,
                "reseat the card, clean its contacts, look for other cards that share the lanes; some cards "
                "slow down when idle"};
    return {"link", Outcome::pass, "its link runs as card and port can", evidence, ""};
}

Check check_errors(const Subject& subject) {
    const auto& aer = subject.function.aer;
    if (!aer) return {"errors", Outcome::skipped, "the kernel counts no errors of it", "", ""};
    const auto evidence =
        fmt::format("{} correctable, {} non-fatal, {} fatal", aer->correctable, aer->nonfatal, aer->fatal);
    if (aer->nonfatal > 0 || aer->fatal > 0)
        return {"errors", Outcome::limits, "it has had errors on its link that were not corrected", evidence,
                "see the kernel's log; reseat the card or replace the cable"};
    return {"errors", Outcome::pass, "no error of its link was left uncorrected", evidence, ""};
}

} // namespace lanepool::qualify
