// SPDX-License-Identifier: Apache-2.0
#include "agent/qmp.h"

#include "io/unix_socket.h"

#include <array>
#include <poll.h>

namespace lanepool::agent {

namespace {
constexpr size_t max_line_bytes = 1 << 20;
constexpr size_t max_events = 256;
} // namespace

Result<std::unique_ptr<Qmp>> Qmp::connect(const std::filesystem::path& path, io::Duration timeout) {
    auto qmp = std::unique_ptr<Qmp>(new Qmp(TRY(io::connect_unix(path))));
    const auto deadline = io::system_clock().now() + timeout;
    const Json greeting = TRY(qmp->receive(deadline));
    if (!greeting.contains("QMP")) return fail(Errc::protocol, "{} is not a QEMU monitor", path.string());
    TRY(qmp->execute("qmp_capabilities", Json::object(), timeout));
    return qmp;
}

Result<Json> Qmp::receive(io::TimePoint deadline) {
    while (true) {
        if (const auto end = input_.find('\n'); end != std::string::npos) {
            const Json message = Json::parse(
                input_.begin(), input_.begin() + static_cast<std::ptrdiff_t>(end), nullptr, false);
            input_.erase(0, end + 1);
            if (!message.is_object())
                return fail(Errc::protocol, "the guest's monitor sent something that is no JSON object");
            return message;
        }
        if (input_.size() > max_line_bytes)
            return fail(Errc::protocol, "the guest's monitor sent a line of more than {} bytes",
                        max_line_bytes);
        const auto left =
            std::chrono::ceil<std::chrono::milliseconds>(deadline - io::system_clock().now()).count();
        pollfd ready{socket_.get(), POLLIN, 0};
        if (left <= 0 || ::poll(&ready, 1, static_cast<int>(left)) == 0)
            return fail(Errc::timeout, "the guest's monitor does not answer");
        std::array<std::byte, 4096> buffer;
        const auto received = TRY(io::receive(socket_.get(), buffer));
        if (received.bytes == 0) return fail(Errc::disconnected, "the guest has gone");
        input_.append(reinterpret_cast<const char*>(buffer.data()), received.bytes);
    }
}

Result<Json> Qmp::execute(std::string_view command, const Json& arguments, io::Duration timeout) {
    const auto deadline = io::system_clock().now() + timeout;
    const std::string line = Json{{"execute", command}, {"arguments", arguments}}.dump() + "\n";
    auto data = std::as_bytes(std::span(line));
    while (!data.empty())
        data = data.subspan(TRY(io::send(socket_.get(), data)));
    while (true) {
        Json message = TRY(receive(deadline));
        if (message.contains("event")) {
            if (events_.size() == max_events) events_.pop_front();
            events_.push_back(std::move(message));
        } else if (message.contains("return")) {
            return message["return"];
        } else if (message.contains("error")) {
            return fail(Errc::failed_precondition, "QEMU refuses {}: {}", command,
                        message["error"].value("desc", "without a reason"));
        } else {
            return fail(Errc::protocol, "the guest's monitor answered {} with neither return nor error",
                        command);
        }
    }
}

Result<Json> Qmp::wait_event(std::string_view name, const std::function<bool(const Json&)>& wanted,
                             io::Duration timeout) {
    const auto deadline = io::system_clock().now() + timeout;
    while (true) {
        while (!events_.empty()) {
            const Json event = std::move(events_.front());
            events_.pop_front();
            const Json data = event.value("data", Json::object());
            if (event.value("event", "") == name && wanted(data)) return data;
        }
        Json message = TRY(receive(deadline));
        if (message.contains("event")) events_.push_back(std::move(message));
    }
}

} // namespace lanepool::agent
