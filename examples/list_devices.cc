// SPDX-License-Identifier: Apache-2.0
//
// Lists the devices of the pool; borrows one and reads who it is:
//
//     list_devices                    all of them
//     list_devices --class 010802     those of a PCI class, in hexadecimal: NVMe drives
//     list_devices FDID               borrows that one for a moment, by the number in front of each line
//
//     --agent SOCKET     the agent of this program's host (else $LANEPOOL_AGENT, or the usual place)
//     --shared           borrow it beside others that say so, too, instead of alone
//
// Built outside of this tree:  c++ -std=c++20 list_devices.cc $(pkg-config --cflags --libs lanepool-smartio)
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <lanepool/smartio.h>

namespace {

struct Arguments {
    lanepool::SessionOptions session;
    lanepool::DeviceFilter filter;
    lanepool::Sharing sharing = lanepool::Sharing::exclusive;
    std::optional<uint64_t> fdid;
};

unsigned long long number(uint64_t value) { return value; } // for printf

lanepool::Result<> list(lanepool::Session& session, const lanepool::DeviceFilter& filter) {
    for (const auto& device : TRY(lanepool::Device::list(session, filter)))
        std::printf("%llx: %s, %04x:%04x, class %06x, %s, on %s (node %u), %s%s%s\n", number(device.fdid),
                    device.model.empty() ? device.name.c_str() : device.model.c_str(), device.vendor_id,
                    device.device_id, device.class_code, device.kind.c_str(), device.host.c_str(),
                    device.node, device.state.c_str(), device.borrower.empty() ? "" : " to ",
                    device.borrower.c_str());
    return {};
}

lanepool::Result<> show(lanepool::Session& session, uint64_t fdid, lanepool::Sharing sharing) {
    // It is this program's until `device` is destroyed, or the program ends in whatever way.
    auto device = TRY(lanepool::Device::borrow(session, fdid, sharing, std::chrono::seconds(30)));
    const auto& is = device.identity();
    std::printf("%llx: %04x:%04x revision %02x, class %06x, subsystem %04x:%04x, loan %llu\n",
                number(device.fdid()), is.vendor_id, is.device_id, is.revision, is.class_code,
                is.subsystem_vendor_id, is.subsystem_id, number(device.loan()));
    for (unsigned i = 0; i < 6; ++i) {
        if (!device.bar_size_bytes(i)) continue;
        auto bar = TRY(device.bar(i));
        // Registers that are memory are read by a load; others by a call, which takes longer.
        uint32_t first = 0;
        if (bar.mappable()) {
            const auto registers = TRY(bar.map({.access = lanepool::Access::read_only}));
            first = *reinterpret_cast<const volatile uint32_t*>(registers.data());
        } else {
            first = static_cast<uint32_t>(TRY(bar.read(0, 4)));
        }
        std::printf("  BAR %u: %llu bytes, %s, begins with %08x\n", i, number(bar.size_bytes()),
                    bar.mappable() ? "can be mapped" : "by calls only", first);
    }
    return device.give_back();
}

lanepool::Result<> run(const Arguments& arguments) {
    auto session = TRY(lanepool::Session::open(arguments.session));
    if (arguments.fdid) return show(session, *arguments.fdid, arguments.sharing);
    return list(session, arguments.filter);
}

std::optional<Arguments> parse(int argc, char** argv) {
    Arguments arguments;
    for (int i = 1; i < argc; ++i) {
        const bool more = i + 1 < argc;
        if (!std::strcmp(argv[i], "--agent") && more)
            arguments.session.socket = argv[++i];
        else if (!std::strcmp(argv[i], "--class") && more)
            arguments.filter.class_code = static_cast<uint32_t>(std::strtoul(argv[++i], nullptr, 16));
        else if (!std::strcmp(argv[i], "--shared"))
            arguments.sharing = lanepool::Sharing::shared;
        else if (argv[i][0] != '-' && !arguments.fdid)
            arguments.fdid = std::strtoull(argv[i], nullptr, 16);
        else
            return {};
    }
    return arguments;
}

} // namespace

int main(int argc, char** argv) {
    const auto arguments = parse(argc, argv);
    if (!arguments) {
        std::fprintf(stderr, "usage: %s [--agent SOCKET] [--class CLASS] [--shared] [FDID]\n", argv[0]);
        return 2;
    }
    if (const auto done = run(*arguments); !done) {
        std::fprintf(stderr, "%s: %s\n", argv[0], done.error().message().c_str());
        return 1;
    }
    return 0;
}
