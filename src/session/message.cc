// SPDX-License-Identifier: Apache-2.0
#include "session/message.h"

#include "io/unix_socket.h"

namespace lanepool::session {

Result<> send(int socket, const Json& body, const std::vector<int>& fds) {
    // Texts may hold what a device or a peer said of itself, in any encoding.
    const std::string text = body.dump(-1, ' ', false, Json::error_handler_t::replace);
    if (text.size() > max_message_bytes)
        return fail(Errc::no_space, "a message of {} bytes, at most {} can go", text.size(),
                    max_message_bytes);
    TRY(io::send(socket, std::as_bytes(std::span(text)), fds)); // a packet goes as a whole
    return {};
}

Result<Message> receive(int socket) {
    std::string text(max_message_bytes, '\0');
    auto received = TRY(io::receive(socket, std::as_writable_bytes(std::span(text))));
    if (received.bytes == 0) return fail(Errc::disconnected, "the other side has closed the connection");
    if (received.truncated || received.fds_truncated)
        return fail(Errc::protocol, "a message of over {} bytes or {} descriptors", max_message_bytes,
                    max_message_fds);
    text.resize(received.bytes);
    Message message{Json::parse(text, nullptr, false), std::move(received.fds)};
    if (!message.body.is_object()) return fail(Errc::protocol, "a message that is not a JSON object");
    return message;
}

namespace {
const Json* find(const Json& body, const char* field) {
    const auto found = body.find(field);
    return found == body.end() ? nullptr : &*found;
}
} // namespace

Result<uint64_t> get_number(const Json& body, const char* field) {
    const Json* value = find(body, field);
    if (!value || !value->is_number_integer() || (!value->is_number_unsigned() && value->get<int64_t>() < 0))
        return fail(Errc::protocol, "field '{}' must be a number from 0 on", field);
    return value->get<uint64_t>();
}

Result<uint64_t> get_number(const Json& body, const char* field, uint64_t fallback) {
    if (!find(body, field)) return fallback;
    return get_number(body, field);
}

Result<bool> get_flag(const Json& body, const char* field, bool fallback) {
    const Json* value = find(body, field);
    if (!value) return fallback;
    if (!value->is_boolean()) return fail(Errc::protocol, "field '{}' must be true or false", field);
    return value->get<bool>();
}

Result<std::string> get_text(const Json& body, const char* field) {
    const Json* value = find(body, field);
    if (!value || !value->is_string()) return fail(Errc::protocol, "field '{}' must be a text", field);
    const auto& text = value->get_ref<const std::string&>();
    if (text.size() > 4096) return fail(Errc::protocol, "field '{}' has {} bytes", field, text.size());
    return text;
}

} // namespace lanepool::session
