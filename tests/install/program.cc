// SPDX-License-Identifier: Apache-2.0
//
// A program as others write it; outside.py builds it with what is installed, and runs it where no agent is.
#include <cstdio>
#include <lanepool/smartio.h>
#include <vector>

static lanepool::Result<> use_everything(lanepool::Session& session) {
    using namespace std::chrono_literals;
    auto segment = TRY(lanepool::Segment::create(session, {.size_bytes = 4096, .id = 4}));
    TRY(segment.set_available(true));
    auto remote = TRY(lanepool::RemoteSegment::connect(session, session.node(), 4, 1s));
    const auto view = TRY(remote.map());
    TRY(view.copy_to(0, std::vector<std::byte>(100)));
    auto interrupt = TRY(lanepool::Interrupt::create(session));
    auto trigger = TRY(lanepool::RemoteInterrupt::connect(session, session.node(), interrupt.number(), 1s));
    TRY(trigger.trigger());
    TRY(interrupt.wait(1s));
    for (const auto& found : TRY(lanepool::Device::list(session, {.class_code = 0x010802}))) {
        auto device = TRY(lanepool::Device::borrow(session, found.fdid, lanepool::Sharing::exclusive, 10s));
        const auto mapping = TRY(device.map(segment));
        std::printf("%llx\n", static_cast<unsigned long long>(mapping.address()));
    }
    return {};
}

int main() {
    auto session = lanepool::Session::open();
    if (session) return use_everything(*session) ? 0 : 1;
    std::printf("%s\n", session.error().message().c_str());
    return session.error().code() == lanepool::Errc::not_found ? 0 : 1;
}
