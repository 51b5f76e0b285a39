// SPDX-License-Identifier: Apache-2.0
//
// A session's devices: what is neither memory nor a mapping (session_device_memory.cc).
#include "application/host.h"
#include "application/session.h"
#include "session/protocol.h"

#include <algorithm>
#include <array>
#include <bit>
#include <climits>
#include <unistd.h>

namespace lanepool::application {

using session::Json;
using session::Message;

namespace {

constexpr size_t max_requesters = 8;

// Of an interrupt somebody else writes to it: a pipe or a socket would let him wait.
bool is_eventfd(const UniqueFd& fd) {
    std::array<char, 64> target{};
    const auto path = fmt::format("/proc/self/fd/{}", fd.get());
    const auto length = ::readlink(path.c_str(), target.data(), target.size());
    return length > 0 &&
           std::string_view(target.data(), static_cast<size_t>(length)) == "anon_inode:[eventfd]";
}

Fields fields_of(const PoolDevice& device) {
    return {
        {"fdid", device.fdid},           {"name", device.name},           {"host", device.host},
        {"node", device.node},           {"state", device.state},         {"reason", device.reason},
        {"vendor_id", device.vendor_id}, {"device_id", device.device_id}, {"class_code", device.class_code},
        {"kind", device.kind},           {"model", device.model},         {"serial", device.serial},
        {"borrower", device.borrower}};
}

std::string hexadecimal(std::span<const std::byte> bytes) {
    std::string text;
    for (const std::byte byte : bytes)
        text += fmt::format("{:02x}", static_cast<unsigned>(byte));
    return text;
}

} // namespace

// ---- Borrowing and giving back

Result<> Session::device_list(Message&, Reply reply) {
    Controller* controller = host_.devices().controller();
    if (!controller) return fail(Errc::not_supported, "this host's agent borrows no devices");
    controller->list([reply = std::move(reply)](const Result<std::vector<PoolDevice>>& devices) {
        if (!devices) return reply(tl::unexpected<Error>(devices.error()));
        Json list = Json::array();
        for (const auto& device : *devices)
            list.push_back(fields_of(device));
        reply(Answer{{{"devices", std::move(list)}}, {}});
    });
    return {};
}

Result<> Session::device_borrow(Message& call, Reply reply) {
    Controller::Wish wish;
    wish.fdid = TRY(session::get_number(call.body, "fdid"));
    wish.shared = !TRY(session::get_flag(call.body, "exclusive", false));
    wish.user = user_;
    const auto timeout_ms = std::min<uint64_t>(TRY(session::get_number(call.body, "timeout_ms")), INT_MAX);
    wish.deadline = host_.fabric().loop.clock().now() + std::chrono::milliseconds(timeout_ms);
    if (devices_.size() >= session::max_devices)
        return fail(Errc::no_space, "the session has {} devices, which is the limit", devices_.size());
    const uint64_t handle = new_handle();
    const std::weak_ptr weak = self_;
    DeviceUse::Events events;
    events.ready = [weak, handle](Result<> result) {
        if (const auto self = weak.lock()) (*self)->device_ready(handle, std::move(result));
    };
    events.lost = [weak, handle](const std::string& reason) {
        if (const auto self = weak.lock()) (*self)->device_lost(handle, reason);
    };
    events.due = [weak, handle](uint64_t due_us, const std::string& reason) {
        if (const auto self = weak.lock())
            (*self)->event(
                {{"event", "device_due"}, {"device", handle}, {"due_us", due_us}, {"reason", reason}}, {});
    };
    auto use = TRY(host_.devices().borrow(wish, std::move(events)));
    Device& device = devices_[handle];
    device.use = std::move(use);
    device.borrowed = std::move(reply);
    device.deadline = host_.fabric().loop.at(wish.deadline, [this, handle, timeout_ms] {
        const auto late = devices_.extract(handle);
        host_.devices().abandon({late.mapped().use}, user_, {});
        late.mapped().borrowed(fail(Errc::timeout, "the device was not ready in {} ms", timeout_ms));
    });
    return {};
}

void Session::device_ready(uint64_t handle, Result<> result) {
    const auto found = devices_.find(handle);
    if (found == devices_.end()) return;
    const auto reply = std::exchange(found->second.borrowed, nullptr);
    found->second.deadline.reset();
    if (!result) {
        devices_.erase(found);
        return reply(tl::unexpected(std::move(result).error()));
    }
    reply(describe(handle, *found->second.use));
}

Session::Answer Session::describe(uint64_t handle, const DeviceUse& use) const {
    const auto& device = use.device();
    Json bars = Json::array();
    for (const auto& bar : device.bars())
        bars.push_back(Fields{{"size", bar.size_bytes}, {"mapped", bar.whole() != nullptr}});
    const auto config = device.config();
    return Answer{{{"device", handle},
                   {"loan", use.loan().id},
                   {"node", use.order().lender.value},
                   {"due_us", use.loan().due_us},
                   {"config", hexadecimal(config.first(std::min<size_t>(config.size(), 64)))},
                   {"bars", std::move(bars)},
                   {"interrupts", device.interrupts()}},
                  {}};
}

// Its connections and mappings.
void Session::forget_device(uint64_t handle) {
    for (auto& [id, mapped] : mappings_)
        if (mapped.device == handle) count_map(mapped, false);
    std::erase_if(mappings_, [&](const auto& entry) { return entry.second.device == handle; });
    for (auto& [id, held] : connections_)
        if (held.device == handle && held.window) host_.fabric().errands.dispose(std::move(held.window));
    std::erase_if(connections_, [&](const auto& entry) { return entry.second.device == handle; });
    devices_.erase(handle);
}

void Session::device_lost(uint64_t handle, const std::string& reason) {
    unmap(of_others(handle), [] {});
    forget_device(handle);
    event({{"event", "device_lost"}, {"device", handle}, {"reason", reason}}, {});
}

Result<> Session::device_return(Message& call, Reply reply) {
    const auto found = TRY(get_handle(call.body, "device", devices_));
    if (found->second.borrowed) return fail(Errc::not_found, "the session has no such device");
    const auto use = found->second.use;
    const uint64_t handle = found->first;
    unmap(of_others(handle), [this, self = std::weak_ptr(self_), handle, use, reply = std::move(reply)] {
        if (!self.lock()) return;
        forget_device(handle);
        host_.devices().give_back(use, user_,
                                  [reply](Result<> done) { reply(done.map([] { return Answer{}; })); });
    });
    return {};
}

Result<std::shared_ptr<DeviceUse>> Session::usable_device(const Json& body) {
    const auto use = TRY(get_handle(body, "device", devices_))->second.use;
    if (!use->usable()) return fail(Errc::not_found, "the session has no such device");
    return use;
}

// ---- Registers and interrupts

namespace {
struct Register {
    unsigned bar = 0;
    uint64_t offset = 0;
    unsigned width = 0;
};
Result<Register> register_of(const Json& body) {
    const auto bar = TRY(session::get_number(body, "bar"));
    const auto width = TRY(session::get_number(body, "width"));
    if (bar >= pci::bar_count) return fail(Errc::out_of_range, "a device has no BAR {}", bar);
    if (width > 8 || !std::has_single_bit(width))
        return fail(Errc::invalid_argument, "a register of {} bytes: 1, 2, 4 or 8 can be", width);
    const auto offset = TRY(session::get_number(body, "offset"));
    if (offset % width != 0)
        return fail(Errc::invalid_argument, "offset {:#x} is no place for a register of {} bytes", offset,
                    width);
    return Register{static_cast<unsigned>(bar), offset, static_cast<unsigned>(width)};
}
} // namespace

Result<> Session::register_read(Message& call, Reply reply) {
    const auto use = TRY(usable_device(call.body));
    const auto at = TRY(register_of(call.body));
    use->read(at.bar, at.offset, at.width,
              [reply = std::move(reply)](const Result<std::vector<std::byte>>& data) {
                  if (!data) return reply(tl::unexpected<Error>(data.error()));
                  uint64_t value = 0;
                  for (size_t i = std::min<size_t>(data->size(), 8); i-- > 0;)
                      value = value << 8 | static_cast<uint64_t>((*data)[i]);
                  reply(Answer{{{"value", value}}, {}});
              });
    return {};
}

Result<> Session::register_write(Message& call, Reply reply) {
    const auto use = TRY(usable_device(call.body));
    const auto at = TRY(register_of(call.body));
    const auto value = TRY(session::get_number(call.body, "value"));
    if (at.width < 8 && value >> (8 * at.width) != 0)
        return fail(Errc::invalid_argument, "{:#x} has more than {} bytes", value, at.width);
    std::array<std::byte, 8> bytes;
    for (size_t i = 0; i < bytes.size(); ++i)
        bytes[i] = static_cast<std::byte>(value >> (8 * i));
    use->write(at.bar, at.offset, std::span(bytes).first(at.width),
               [reply = std::move(reply)](Result<> done) { reply(done.map([] { return Answer{}; })); });
    return {};
}

Result<> Session::device_interrupt(Message& call, Reply reply) {
    const auto use = TRY(usable_device(call.body));
    const auto vector = TRY(get_number32(call.body, "vector"));
    if (call.fds.size() > 1) return fail(Errc::invalid_argument, "a vector has one eventfd");
    UniqueFd eventfd;
    if (!call.fds.empty()) eventfd = std::move(call.fds.front());
    if (eventfd && !is_eventfd(eventfd)) return fail(Errc::invalid_argument, "the descriptor is no eventfd");
    use->set_interrupt(vector, std::move(eventfd), [reply = std::move(reply)](Result<> done) {
        reply(done.map([] { return Answer{}; }));
    });
    return {};
}

// ---- What may send through the adapter

Result<> Session::requester_register(Message& call, Reply reply) {
    const auto bus = TRY(session::get_number(call.body, "bus"));
    const auto devfn = TRY(session::get_number(call.body, "devfn"));
    if (bus > 0xff || devfn > 0xff)
        return fail(Errc::invalid_argument, "a requester's bus and devfn are numbers of 8 bits");
    if (requesters_.size() >= max_requesters)
        return fail(Errc::no_space, "the session has {} requesters, which is the limit", requesters_.size());
    const pci::RequesterId id{static_cast<uint16_t>(bus << 8 | devfn)};
    host_.fabric().errands.run(
        [&adapter = host_.fabric().adapter, id] { return adapter.add_requester(id); },
        [this, self = std::weak_ptr(self_), reply = std::move(reply)](Result<ntb::Adapter::Requester> added) {
            if (!self.lock()) return;
            if (!added) return reply(tl::unexpected(std::move(added).error()));
            const uint64_t handle = new_handle();
            requesters_.emplace(handle, std::move(*added));
            reply(Answer{{{"requester", handle}}, {}});
        });
    return {};
}

Result<> Session::requester_unregister(Message& call, Reply reply) {
    const auto found = TRY(get_handle(call.body, "requester", requesters_));
    auto& errands = host_.fabric().errands;
    errands.dispose(std::move(found->second));
    requesters_.erase(found);
    errands.flush([reply = std::move(reply)] { reply(Answer{}); });
    return {};
}

} // namespace lanepool::application
