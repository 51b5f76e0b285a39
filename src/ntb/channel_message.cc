// SPDX-License-Identifier: Apache-2.0
#include "ntb/channel_message.h"

#include "base/endian.h"
#include "ntb/channel.h"
#include "ntb/ring.h"

#include <algorithm>
#include <cstring>

namespace lanepool::ntb {

namespace {
struct MessageHeader {
    le16 type;
    le16 kind;
    le32 reserved;
    le64 id;
};
static_assert(sizeof(MessageHeader) + max_channel_body_bytes <= max_record_bytes);
constexpr size_t max_error_text_bytes = 1024;
} // namespace

std::vector<std::byte> encode_message(MessageType type, uint16_t kind, uint64_t id,
                                      std::span<const std::byte> body) {
    MessageHeader header{};
    header.type = static_cast<uint16_t>(type);
    header.kind = kind;
    header.id = id;
    std::vector<std::byte> record(sizeof header + body.size());
    std::memcpy(record.data(), &header, sizeof header);
    std::copy(body.begin(), body.end(), record.begin() + sizeof header);
    return record;
}

Result<ChannelMessage> decode_message(std::span<const std::byte> record) {
    MessageHeader header;
    if (record.size() < sizeof header || record.size() > sizeof header + max_channel_body_bytes)
        return fail(Errc::protocol, "a channel message of {} bytes", record.size());
    std::memcpy(&header, record.data(), sizeof header);
    ChannelMessage message;
    message.type = static_cast<MessageType>(uint16_t{header.type});
    if (message.type != MessageType::request && message.type != MessageType::answer &&
        message.type != MessageType::error)
        return fail(Errc::protocol, "a channel message of type {}", uint16_t{header.type});
    message.kind = header.kind;
    message.id = header.id;
    const auto body = record.subspan(sizeof header);
    message.body.assign(body.begin(), body.end());
    return message;
}

// name NUL text
std::vector<std::byte> encode_error(const Error& error) {
    std::string text(name(error.code()));
    text += '\0';
    text += error.message().substr(0, max_error_text_bytes);
    const auto bytes = std::as_bytes(std::span(text));
    return {bytes.begin(), bytes.end()};
}

Error decode_error(std::span<const std::byte> body) {
    const std::string text(reinterpret_cast<const char*>(body.data()),
                           std::min(body.size(), 2 * max_error_text_bytes));
    const size_t end = text.find('\0');
    const std::string code_name = text.substr(0, end);
    std::string message = end == std::string::npos ? "" : text.substr(end + 1);
    // A peer's words end up in our logs and on terminals.
    std::replace_if(
        message.begin(), message.end(), [](unsigned char c) { return c < 0x20 || c == 0x7f; }, ' ');
    for (int i = 0; i <= static_cast<int>(Errc::internal); ++i)
        if (const auto code = static_cast<Errc>(i); name(code) == code_name) return {code, message};
    return {Errc::internal, message};
}

} // namespace lanepool::ntb
