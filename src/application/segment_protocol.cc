// SPDX-License-Identifier: Apache-2.0
#include "application/segment_protocol.h"

#include "application/segment_wire.h"
#include "base/packed.h"

#include <algorithm>
#include <cstring>

namespace lanepool::application {

namespace {

template <class T>
Result<T> head(std::span<const std::byte> body) {
    return packed_head<T>(body, "a segment message");
}

Result<> check_rest(size_t bytes, size_t expected) {
    if (bytes != expected)
        return fail(Errc::protocol, "a segment message has {} bytes where {} are expected", bytes, expected);
    return {};
}

Result<Shown> from_wire(const wire::Shown& fields) {
    if (fields.size_bytes > max_shown_bytes)
        return fail(Errc::protocol, "{} bytes are shown: more than the {} that can be",
                    static_cast<uint64_t>(fields.size_bytes), max_shown_bytes);
    TRY(Range<BusAddress>::create({fields.address}, fields.size_bytes));
    return Shown{{fields.address}, fields.size_bytes};
}

} // namespace

Result<SegmentRequest> segment_request(uint16_t kind) {
    if (kind < first_segment_kind || kind > static_cast<uint16_t>(SegmentRequest::gone))
        return fail(Errc::not_supported, "segment request {:#x} is not known here: is the other agent newer?",
                    kind);
    return static_cast<SegmentRequest>(kind);
}

std::vector<std::byte> encode(const Connect& connect) {
    const auto user = std::string_view(connect.user).substr(0, max_user_bytes);
    std::vector<std::byte> out;
    append_packed(out, wire::Connect{connect.connection, connect.number,
                                     connect.data ? wire::connect_data : uint16_t{0},
                                     static_cast<uint16_t>(user.size())});
    const auto bytes = std::as_bytes(std::span(user));
    out.insert(out.end(), bytes.begin(), bytes.end());
    return out;
}

Result<Connect> decode_connect(std::span<const std::byte> body) {
    const auto fields = TRY(head<wire::Connect>(body));
    const auto user = body.subspan(sizeof fields);
    if (fields.flags > wire::connect_data)
        return fail(Errc::protocol, "a flag of a segment message is not known: {:#x}",
                    static_cast<uint16_t>(fields.flags));
    if (fields.user_bytes > max_user_bytes) return fail(Errc::protocol, "a user's name is too long");
    TRY(check_rest(user.size(), fields.user_bytes));
    Connect connect{fields.connection, fields.number, fields.flags == wire::connect_data, {}};
    for (const std::byte byte : user) {
        const auto character = static_cast<unsigned char>(byte);
        if (character < 0x20 || character == 0x7f)
            return fail(Errc::protocol, "a user's name has a control character");
        connect.user.push_back(static_cast<char>(character));
    }
    return connect;
}

std::vector<std::byte> encode(const Shown& shown) {
    std::vector<std::byte> out;
    append_packed(out, wire::Shown{shown.address.value, shown.size_bytes});
    return out;
}

Result<Shown> decode_shown(std::span<const std::byte> body) {
    TRY(check_rest(body.size(), sizeof(wire::Shown)));
    return from_wire(TRY(head<wire::Shown>(body)));
}

std::vector<std::byte> encode(const ShownInterrupt& shown) {
    std::vector<std::byte> out;
    append_packed(out,
                  wire::ShownInterrupt{shown.event.value, {shown.ring.address.value, shown.ring.size_bytes}});
    return out;
}

Result<ShownInterrupt> decode_shown_interrupt(std::span<const std::byte> body) {
    TRY(check_rest(body.size(), sizeof(wire::ShownInterrupt)));
    const auto fields = TRY(head<wire::ShownInterrupt>(body));
    TRY(Range<BusAddress>::create({fields.event_address}, 4));
    ShownInterrupt shown{{fields.event_address}, {}};
    if (fields.ring.size_bytes != 0)
        shown.ring = TRY(from_wire(fields.ring));
    else if (fields.ring.address != 0)
        return fail(Errc::protocol, "a ring of no size has an address");
    return shown;
}

std::vector<std::byte> encode_ids(std::span<const uint64_t> ids) {
    ids = ids.first(std::min(ids.size(), max_ids));
    std::vector<std::byte> out;
    append_packed(out, wire::Ids{static_cast<uint32_t>(ids.size()), 0});
    for (const uint64_t id : ids)
        append_packed(out, le64(id));
    return out;
}

Result<std::vector<uint64_t>> decode_ids(std::span<const std::byte> body) {
    const auto fields = TRY(head<wire::Ids>(body));
    const auto rest = body.subspan(sizeof fields);
    if (fields.count > max_ids || fields.reserved != 0)
        return fail(Errc::protocol, "a list of {} connections", static_cast<uint32_t>(fields.count));
    TRY(check_rest(rest.size(), fields.count * sizeof(le64)));
    std::vector<uint64_t> ids;
    for (size_t i = 0; i < fields.count; ++i)
        ids.push_back(TRY(head<le64>(rest.subspan(i * sizeof(le64)))));
    return ids;
}

} // namespace lanepool::application
