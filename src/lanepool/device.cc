// SPDX-License-Identifier: Apache-2.0
#include "lanepool/device.h"

#include "lanepool/states.h"

#include <algorithm>
#include <charconv>
#include <limits>

namespace lanepool {

namespace client {

namespace {
constexpr uint32_t max_vectors = 2048; // of MSI-X (PCI Local Bus Specification 3.0, 6.8.2)
constexpr unsigned max_width = 8;

template <class T>
Result<T> number_of(const Json& body, const char* field) {
    const uint64_t value = TRY(session::get_number(body, field));
    if (value > std::numeric_limits<T>::max())
        return fail(Errc::protocol, "field '{}' is {:#x}, too much", field, value);
    return static_cast<T>(value);
}

Result<DeviceInfo> info_of(const Json& body) {
    if (!body.is_object()) return fail(Errc::protocol, "a device that is not an object");
    DeviceInfo info;
    info.fdid = TRY(session::get_number(body, "fdid"));
    info.name = TRY(session::get_text(body, "name"));
    info.host = TRY(session::get_text(body, "host"));
    info.node = TRY(get_u32(body, "node"));
    info.state = TRY(session::get_text(body, "state"));
    info.reason = TRY(session::get_text(body, "reason"));
    info.vendor_id = TRY(number_of<uint16_t>(body, "vendor_id"));
    info.device_id = TRY(number_of<uint16_t>(body, "device_id"));
    info.class_code = TRY(get_u32(body, "class_code"));
    info.kind = TRY(session::get_text(body, "kind"));
    info.model = TRY(session::get_text(body, "model"));
    info.serial = TRY(session::get_text(body, "serial"));
    info.borrower = TRY(session::get_text(body, "borrower"));
    return info;
}

template <class T>
bool fits(const std::optional<T>& wanted, const T& is) {
    return !wanted || *wanted == is;
}
bool fits(const std::string& wanted, const std::string& is) { return wanted.empty() || wanted == is; }
bool fits(const DeviceFilter& filter, const DeviceInfo& info) {
    return fits(filter.fdid, info.fdid) && fits(filter.vendor_id, info.vendor_id) &&
           fits(filter.device_id, info.device_id) && fits(filter.class_code, info.class_code) &&
           fits(filter.node, info.node) && fits(filter.kind, info.kind) && fits(filter.serial, info.serial);
}

Result<DeviceIdentity> identity_of(const Json& body) {
    const std::string text = TRY(session::get_text(body, "config"));
    DeviceIdentity identity;
    if (text.size() != 2 * identity.config.size())
        return fail(Errc::protocol, "a configuration space of {} digits, {} are needed", text.size(),
                    2 * identity.config.size());
    for (size_t i = 0; i < identity.config.size(); ++i) {
        uint8_t byte = 0;
        const char* digits = text.data() + 2 * i;
        if (std::from_chars(digits, digits + 2, byte, 16).ptr != digits + 2)
            return fail(Errc::protocol, "a configuration space with '{}'", text.substr(2 * i, 2));
        identity.config[i] = std::byte{byte};
    }
    const auto byte = [&](size_t at) { return std::to_integer<uint32_t>(identity.config[at]); };
    const auto word = [&](size_t at) { return static_cast<uint16_t>(byte(at) | byte(at + 1) << 8); };
    identity.vendor_id = word(0x00);
    identity.device_id = word(0x02);
    identity.revision = static_cast<uint8_t>(byte(0x08));
    identity.class_code = byte(0x09) | byte(0x0a) << 8 | byte(0x0b) << 16;
    identity.subsystem_vendor_id = word(0x2c);
    identity.subsystem_id = word(0x2e);
    return identity;
}

Result<std::array<uint64_t, 6>> bars_of(const Json& body) {
    std::array<uint64_t, 6> sizes{};
    const auto list = body.find("bars");
    if (list == body.end() || !list->is_array() || list->size() != sizes.size())
        return fail(Errc::protocol, "'bars' must be a list of {}", sizes.size());
    for (size_t i = 0; i < sizes.size(); ++i) {
        if (!(*list)[i].is_object()) return fail(Errc::protocol, "a BAR that is not an object");
        sizes[i] = TRY(session::get_number((*list)[i], "size"));
    }
    return sizes;
}
} // namespace

Result<> DeviceState::take(const Message& answer) {
    loan = TRY(session::get_number(answer.body, "loan"));
    node = TRY(get_u32(answer.body, "node"));
    identity = TRY(identity_of(answer.body));
    bar_bytes = TRY(bars_of(answer.body));
    interrupts = TRY(get_u32(answer.body, "interrupts"));
    if (interrupts > max_vectors) return fail(Errc::protocol, "a device with {} interrupts", interrupts);
    uint64_t none = 0; // unless somebody has said another since
    due_us.compare_exchange_strong(none, TRY(session::get_number(answer.body, "due_us")));
    return {};
}

void DeviceState::on_received(const std::string& event, Message& message) {
    if (event == "device_due") {
        if (const auto due = session::get_number(message.body, "due_us")) due_us = *due;
    } else if (event == "device_lost") {
        const auto reason = session::get_text(message.body, "reason");
        const std::lock_guard lock(mutex);
        lost = true;
        lost_reason = reason ? *reason : "";
    }
}

void DeviceState::on_event(const std::string& event, const Message& message) {
    const auto reason = session::get_text(message.body, "reason");
    if (event == "device_due" && options.on_due) {
        if (const auto due = session::get_number(message.body, "due_us"))
            options.on_due(*due, reason ? *reason : "");
    } else if (event == "device_lost") {
        on_lost(Error(Errc::disconnected, reason ? *reason : "the loan is over"));
    }
}

void DeviceState::on_lost(const Error& why) {
    if (!std::exchange(was_lost, true) && options.on_lost) options.on_lost(why);
}

Result<> DeviceState::usable() {
    {
        const std::lock_guard lock(mutex);
        if (returned) return fail(Errc::failed_precondition, "device {:x} is given back already", fdid);
        if (lost) return fail(Errc::disconnected, "device {:x}: {}", fdid, lost_reason);
    }
    return connection->alive(); // with the agent the loan has gone
}

Result<std::shared_ptr<RemoteState>> DeviceState::connect(const char* name, Json arguments,
                                                          Shrinkable shrinkable) {
    TRY(usable());
    arguments["device"] = handle;
    // No callback: the device's own says it.
    return RemoteState::connect(connection, name, std::move(arguments), Milliseconds(0), shrinkable, nullptr);
}

Result<Message> DeviceState::call(const char* name, Json arguments, CallOptions call_options) {
    TRY(usable());
    arguments["device"] = handle;
    return connection->call(name, std::move(arguments), std::move(call_options));
}

Result<> DeviceState::give_back() {
    {
        const std::lock_guard lock(mutex);
        if (returned) return fail(Errc::failed_precondition, "device {:x} is given back already", fdid);
    }
    TRY(connection->give_back("device_return", "device", handle, false));
    const std::lock_guard lock(mutex);
    returned = true;
    return {};
}

void DeviceState::drop() {
    close();
    (void)give_back();
}

struct DeviceMappingState {
    Result<> unmap() {
        const std::lock_guard lock(mutex);
        if (unmapped) return fail(Errc::failed_precondition, "it is unmapped already");
        TRY(device->connection->give_back("device_unmap", "mapping", handle, false));
        unmapped = true;
        return {};
    }
    void drop() { (void)unmap(); }

    std::shared_ptr<DeviceState> device;
    uint64_t handle = 0;
    uint64_t address = 0;
    uint64_t size_bytes = 0;
    std::mutex mutex; // of what follows
    bool unmapped = false;
};

namespace {
Result<std::shared_ptr<DeviceMappingState>> map(const std::shared_ptr<DeviceState>& device, const char* kind,
                                                uint64_t handle, uint64_t whole_bytes,
                                                const DeviceMapOptions& options) {
    const uint64_t size = TRY(size_of_part(options.offset_bytes, options.size_bytes, whole_bytes));
    if (options.offset_bytes % page_bytes() || size % page_bytes())
        return fail(Errc::invalid_argument, "{:#x} bytes at {:#x}: a device is given whole pages of {} bytes",
                    size, options.offset_bytes, page_bytes());
    const auto answer = TRY(device->call("device_map", {{kind, handle},
                                                        {"offset", options.offset_bytes},
                                                        {"size", size},
                                                        {"read_only", options.access == Access::read_only}}));
    auto state = std::make_shared<DeviceMappingState>();
    state->device = device;
    state->size_bytes = size;
    state->handle = TRY(session::get_number(answer.body, "mapping"));
    const auto address = session::get_number(answer.body, "address");
    if (!address || *address > std::numeric_limits<uint64_t>::max() - size) {
        state->drop();
        return fail(Errc::protocol, "the agent's answer has no address that could be one");
    }
    state->address = *address;
    return state;
}

Json scope_of(uint32_t id, DeviceMemoryScope scope) {
    return {{"segment_id", id}, {"shared", scope == DeviceMemoryScope::all}};
}

// Errors: invalid_argument, out_of_range.
Result<> check_register(uint64_t offset, unsigned width, uint64_t bar_bytes) {
    if (width == 0 || width > max_width || (width & (width - 1)) || offset % width)
        return fail(Errc::invalid_argument, "a register of {} bytes at {:#x}", width, offset);
    TRY(size_of_part(offset, width, bar_bytes));
    return {};
}
} // namespace

} // namespace client

Result<uint64_t> DeviceBar::read(uint64_t offset_bytes, unsigned width) {
    TRY(client::check_register(offset_bytes, width, size_bytes()));
    const auto answer =
        TRY(device_->call("register_read", {{"bar", index_}, {"offset", offset_bytes}, {"width", width}}));
    const uint64_t value = TRY(session::get_number(answer.body, "value"));
    if (width < client::max_width && value >> (8 * width))
        return fail(Errc::protocol, "a register of {} bytes with the value {:#x}", width, value);
    return value;
}

Result<> DeviceBar::write(uint64_t offset_bytes, unsigned width, uint64_t value) {
    TRY(client::check_register(offset_bytes, width, size_bytes()));
    if (width < client::max_width && value >> (8 * width))
        return fail(Errc::invalid_argument, "{:#x} does not fit into a register of {} bytes", value, width);
    TRY(device_->call("register_write",
                      {{"bar", index_}, {"offset", offset_bytes}, {"width", width}, {"value", value}}));
    return {};
}

DeviceMapping::DeviceMapping(std::shared_ptr<client::DeviceMappingState> state) : state_(std::move(state)) {}
DeviceMapping::DeviceMapping(DeviceMapping&&) noexcept = default;
DeviceMapping& DeviceMapping::operator=(DeviceMapping&& other) noexcept {
    if (this != &other) client::replace(state_, std::move(other.state_));
    return *this;
}
DeviceMapping::~DeviceMapping() { client::replace(state_); }
uint64_t DeviceMapping::address() const { return state_->address; }
uint64_t DeviceMapping::size_bytes() const { return state_->size_bytes; }
Result<> DeviceMapping::unmap() { return state_->unmap(); }

Device::Device(std::shared_ptr<client::DeviceState> state) : state_(std::move(state)) {}
Device::Device(Device&&) noexcept = default;
Device& Device::operator=(Device&& other) noexcept {
    if (this != &other) client::replace(state_, std::move(other.state_));
    return *this;
}
Device::~Device() { client::replace(state_); }

Result<std::vector<DeviceInfo>> Device::list(Session& session, const DeviceFilter& filter) {
    const auto answer = TRY(session.connection()->call("device_list", client::Json::object()));
    const auto list = answer.body.find("devices");
    if (list == answer.body.end() || !list->is_array())
        return fail(Errc::protocol, "the agent's answer has no list of devices");
    std::vector<DeviceInfo> devices;
    for (const auto& entry : *list) {
        auto info = TRY(client::info_of(entry));
        if (client::fits(filter, info)) devices.push_back(std::move(info));
    }
    return devices;
}

Result<Device> Device::borrow(Session& session, uint64_t fdid, Sharing sharing,
                              std::chrono::milliseconds timeout, BorrowOptions options) {
    auto state = std::make_shared<client::DeviceState>(std::move(options));
    state->connection = session.connection();
    state->fdid = fdid;
    state->sharing = sharing;
    const auto answer = TRY(state->connection->call("device_borrow",
                                                    {{"fdid", fdid},
                                                     {"exclusive", sharing == Sharing::exclusive},
                                                     {"timeout_ms", client::timeout_ms(timeout)}},
                                                    {.wait = timeout, .target = state}));
    state->handle = TRY(session::get_number(answer.body, "device"));
    if (auto taken = state->take(answer); !taken) {
        state->drop();
        return tl::unexpected(taken.error().within("the agent's answer"));
    }
    return Device(std::move(state));
}

uint64_t Device::fdid() const { return state_->fdid; }
uint64_t Device::loan() const { return state_->loan; }
uint32_t Device::node() const { return state_->node; }
Sharing Device::sharing() const { return state_->sharing; }
uint64_t Device::due_us() const { return state_->due_us; }
const DeviceIdentity& Device::identity() const { return state_->identity; }
uint32_t Device::interrupts() const { return state_->interrupts; }

uint64_t Device::bar_size_bytes(unsigned index) const {
    return index < state_->bar_bytes.size() ? state_->bar_bytes[index] : 0;
}

Result<DeviceBar> Device::bar(unsigned index) {
    if (index >= state_->bar_bytes.size()) return fail(Errc::out_of_range, "BAR {}: there are 0 to 5", index);
    if (!state_->bar_bytes[index])
        return fail(Errc::not_found, "device {:x} has no BAR {}", state_->fdid, index);
    auto bar = TRY(state_->connect("device_bar", {{"bar", index}}, client::Shrinkable::yes));
    return DeviceBar(std::move(bar), state_, index);
}

Result<> Device::create_memory(uint32_t id, uint64_t size_bytes, DeviceMemoryScope scope) {
    auto arguments = client::scope_of(id, scope);
    arguments["size"] = size_bytes;
    TRY(state_->call("device_segment_create", std::move(arguments)));
    return {};
}

Result<DeviceMemory> Device::connect_memory(uint32_t id, DeviceMemoryScope scope) {
    auto memory = TRY(state_->connect("device_segment", client::scope_of(id, scope), client::Shrinkable::no));
    return DeviceMemory(std::move(memory), id);
}

Result<> Device::remove_memory(uint32_t id, DeviceMemoryScope scope) {
    TRY(state_->call("device_segment_remove", client::scope_of(id, scope)));
    return {};
}

Result<DeviceMapping> Device::map(const Segment& segment, const DeviceMapOptions& options) {
    const uint64_t handle = TRY(segment.state()->usable());
    return DeviceMapping(TRY(client::map(state_, "segment", handle, segment.state()->size_bytes, options)));
}

Result<DeviceMapping> Device::map(const RemoteMemory& memory, const DeviceMapOptions& options) {
    const uint64_t handle = TRY(memory.state()->usable());
    return DeviceMapping(TRY(client::map(state_, "connection", handle, memory.size_bytes(), options)));
}

Result<> Device::set_interrupt(uint32_t vector, const UniqueFd& eventfd) {
    client::CallOptions call;
    if (eventfd) call.fds.push_back(eventfd.get());
    TRY(state_->call("device_interrupt", {{"vector", vector}}, std::move(call)));
    return {};
}

Result<> Device::give_back() { return state_->give_back(); }

} // namespace lanepool
