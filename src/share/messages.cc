// SPDX-License-Identifier: Apache-2.0
#include "share/messages.h"

#include "session/message.h"

#include <limits>

namespace lanepool::sharing {

namespace {
using session::Json;

std::vector<std::byte> encode(const Json& body) {
    // Reasons may hold what a device said of itself, in any encoding.
    const std::string text = body.dump(-1, ' ', false, Json::error_handler_t::replace);
    const auto bytes = std::as_bytes(std::span(text));
    return {bytes.begin(), bytes.end()};
}

Result<Json> decode(std::span<const std::byte> message) {
    const auto* text = reinterpret_cast<const char*>(message.data());
    auto body = Json::parse(text, text + message.size(), nullptr, false);
    if (!body.is_object()) return fail(Errc::protocol, "a message that is not a JSON object");
    const uint64_t version = TRY(session::get_number(body, "version"));
    if (version != message_version)
        return fail(Errc::not_supported, "a message of version {}; this is version {}: use the same release",
                    version, message_version);
    return body;
}

template <class T>
Result<T> get(const Json& body, const char* field, uint64_t least = 0) {
    const uint64_t value = TRY(session::get_number(body, field));
    if (value < least || value > std::numeric_limits<T>::max())
        return fail(Errc::protocol, "field '{}' is {}", field, value);
    return static_cast<T>(value);
}
} // namespace

std::vector<std::byte> encode(const Request& request) {
    Json body{
        {"version", message_version}, {"token", request.token}, {"ask", request.join ? "join" : "leave"}};
    if (const auto& join = request.join) {
        body["reply"] = join->reply;
        body["segment"] = join->segment;
        body["depth"] = join->depth;
        body["submission"] = join->submission.value;
        body["completion"] = join->completion.value;
    }
    return encode(body);
}

std::vector<std::byte> encode(const Answer& answer) {
    Json body{{"version", message_version}, {"token", answer.token}, {"ok", answer.outcome.has_value()}};
    if (!answer.outcome) {
        body["code"] = std::string(name(answer.outcome.error().code()));
        body["error"] = answer.outcome.error().message().substr(0, 1024);
    } else if (const auto& joined = *answer.outcome) {
        body["generation"] = joined->generation;
        body["slot"] = joined->slot;
        body["queue"] = joined->queue;
        body["weight"] = joined->weight;
        body["nsid"] = joined->nsid;
        body["first_block"] = joined->first_block;
        body["blocks"] = joined->blocks;
        body["read_only"] = joined->read_only;
    }
    return encode(body);
}

Result<Request> decode_request(std::span<const std::byte> message) {
    const auto body = TRY(decode(message));
    Request request;
    request.token = TRY(session::get_number(body, "token"));
    const auto ask = TRY(session::get_text(body, "ask"));
    if (ask == "leave") return request;
    if (ask != "join") return fail(Errc::not_supported, "nothing can be asked by '{}'", ask.substr(0, 32));
    Join join;
    join.reply = TRY(get<uint32_t>(body, "reply"));
    join.segment = TRY(get<uint32_t>(body, "segment"));
    join.depth = TRY(get<uint16_t>(body, "depth", 1));
    join.submission = {TRY(session::get_number(body, "submission"))};
    join.completion = {TRY(session::get_number(body, "completion"))};
    request.join = join;
    return request;
}

Result<Answer> decode_answer(std::span<const std::byte> message) {
    const auto body = TRY(decode(message));
    Answer answer{TRY(session::get_number(body, "token")), std::nullopt};
    if (!TRY(session::get_flag(body, "ok", false))) {
        const auto code = code_named(TRY(session::get_text(body, "code")));
        answer.outcome = fail(code.value_or(Errc::internal), "{}", TRY(session::get_text(body, "error")));
        return answer;
    }
    if (!body.contains("generation")) return answer;
    Joined joined;
    joined.generation = TRY(get<uint64_t>(body, "generation", 1));
    joined.slot = TRY(get<uint32_t>(body, "slot"));
    joined.queue = TRY(get<uint16_t>(body, "queue", 1));
    joined.weight = TRY(get<uint16_t>(body, "weight", 1));
    joined.nsid = TRY(get<uint32_t>(body, "nsid", 1));
    joined.first_block = TRY(session::get_number(body, "first_block"));
    joined.blocks = TRY(get<uint64_t>(body, "blocks", 1));
    joined.read_only = TRY(session::get_flag(body, "read_only", false));
    answer.outcome = joined;
    return answer;
}

} // namespace lanepool::sharing
