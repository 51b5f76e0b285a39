// SPDX-License-Identifier: Apache-2.0
#include "admin/server.h"
#include "io/unix_socket.h"

#include <algorithm>
#include <poll.h>

namespace lanepool::admin {

namespace {

constexpr size_t max_answer_bytes = 16 << 20;

Result<> wait_for(int socket, short events, io::TimePoint deadline) {
    const auto left = std::max(io::Duration(0), deadline - io::system_clock().now());
    const timespec limit{static_cast<time_t>(left.count() / 1'000'000'000), left.count() % 1'000'000'000};
    pollfd state{socket, events, 0};
    const int ready = ::ppoll(&state, 1, &limit, nullptr);
    if (ready < 0 && errno != EINTR) return fail_errno("waiting for an answer");
    if (ready == 0) return fail(Errc::timeout, "there was no answer in time");
    return {};
}

Result<> send_all(const UniqueFd& socket, std::string_view request, io::TimePoint deadline) {
    while (!request.empty()) {
        TRY(wait_for(socket.get(), POLLOUT, deadline));
        request.remove_prefix(TRY(io::send(socket.get(), std::as_bytes(std::span(request)))));
    }
    return {};
}

Result<std::string> exchange(const UniqueFd& socket, std::string_view request, io::TimePoint deadline) {
    const auto sent = send_all(socket, request, deadline);
    // A server that has no place for us says so at once, and has closed before it was asked.
    if (!sent && sent.error().code() != Errc::disconnected) return tl::unexpected<Error>(sent.error());
    std::string answer;
    std::vector<std::byte> buffer(64 << 10);
    while (true) {
        TRY(wait_for(socket.get(), POLLIN, deadline));
        const auto received = TRY(io::receive(socket.get(), buffer));
        if (received.bytes == 0)
            return fail(Errc::disconnected, "the connection was closed before an answer came");
        answer.append(reinterpret_cast<const char*>(buffer.data()), received.bytes);
        if (const auto end = answer.find('\n'); end != std::string::npos) return answer.substr(0, end);
        if (answer.size() > max_answer_bytes)
            return fail(Errc::protocol, "the answer has more than {} bytes", max_answer_bytes);
    }
}

} // namespace

Result<Json> call(const std::filesystem::path& path, const Json& request, io::Duration timeout) {
    const auto deadline = io::system_clock().now() + timeout;
    const auto socket = TRY(io::connect_unix(path));
    const std::string line = request.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
    auto text = exchange(socket, line, deadline);
    if (!text) return tl::unexpected<Error>(text.error().within(path.string()));
    Json answer = Json::parse(*text, nullptr, /*allow_exceptions=*/false);
    if (!answer.is_object() || !answer.contains("ok") || !answer["ok"].is_boolean())
        return fail(Errc::protocol, "{} answered something that is no answer", path.string());
    if (!answer["ok"].get<bool>()) {
        const auto text_of = [&](const char* key) {
            const auto found = answer.find(key);
            return found != answer.end() && found->is_string() ? found->get<std::string>() : std::string();
        };
        return tl::unexpected<Error>(
            Error(code_named(text_of("code")).value_or(Errc::internal), text_of("error")));
    }
    answer.erase("ok");
    return answer;
}

} // namespace lanepool::admin
