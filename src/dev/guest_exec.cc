// SPDX-License-Identifier: Apache-2.0
#include "dev/guest_exec.h"

#include "io/unix_socket.h"

#include <algorithm>
#include <array>
#include <poll.h>
#include <sstream>
#include <unistd.h>

namespace lanepool::dev {

namespace {

using namespace std::chrono_literals;

constexpr std::string_view alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
// 1 MiB of output in base64, and some words.
constexpr size_t max_line_bytes = (1 << 20) * 4 / 3 + 4096;

} // namespace

std::string shell_word(const std::string& text) {
    std::string word = "'";
    for (const char c : text)
        word += c == '\'' ? std::string("'\\''") : std::string(1, c);
    return word + "'";
}

std::string base64_encode(std::string_view data) {
    std::string text;
    text.reserve((data.size() + 2) / 3 * 4);
    for (size_t i = 0; i < data.size(); i += 3) {
        const size_t count = std::min<size_t>(3, data.size() - i);
        uint32_t group = 0;
        for (size_t j = 0; j < 3; ++j)
            group = group << 8 | (j < count ? static_cast<uint8_t>(data[i + j]) : 0u);
        for (size_t j = 0; j < 4; ++j)
            text += j <= count ? alphabet[group >> (18 - 6 * j) & 63] : '=';
    }
    return text;
}

Result<std::string> base64_decode(std::string_view text) {
    while (!text.empty() && text.back() == '=')
        text.remove_suffix(1);
    std::string data;
    uint32_t group = 0;
    unsigned bits = 0;
    for (const char c : text) {
        const auto value = alphabet.find(c);
        if (value == std::string_view::npos)
            return fail(Errc::protocol, "the guest sent text that is not base64");
        group = group << 6 | static_cast<uint32_t>(value);
        bits += 6;
        if (bits < 8) continue;
        bits -= 8;
        data += static_cast<char>(group >> bits & 0xff);
    }
    return data;
}

Result<> GuestExec::send_line(const std::string& line) {
    auto data = std::as_bytes(std::span(line));
    while (!data.empty())
        data = data.subspan(TRY(io::send(socket_.get(), data)));
    return {};
}

Result<std::string> GuestExec::read_line(io::TimePoint deadline) {
    while (true) {
        if (const auto end = input_.find('\n'); end != std::string::npos) {
            std::string line = input_.substr(0, end);
            input_.erase(0, end + 1);
            return line;
        }
        if (input_.size() > max_line_bytes)
            return fail(Errc::protocol, "the guest sent a line of more than {} bytes", max_line_bytes);
        const auto left =
            std::chrono::ceil<std::chrono::milliseconds>(deadline - io::system_clock().now()).count();
        pollfd ready{socket_.get(), POLLIN, 0};
        if (left <= 0 || ::poll(&ready, 1, static_cast<int>(std::min<int64_t>(left, 1'000'000))) == 0)
            return fail(Errc::timeout, "the guest does not answer");
        std::array<std::byte, 65536> buffer;
        const auto received = TRY(io::receive(socket_.get(), buffer));
        if (received.bytes == 0) return fail(Errc::disconnected, "the guest has gone");
        input_.append(reinterpret_cast<const char*>(buffer.data()), received.bytes);
    }
}

Result<GuestExec> GuestExec::connect(const std::filesystem::path& socket, io::Duration timeout) {
    GuestExec exec(TRY(io::connect_unix(socket)));
    const auto deadline = io::system_clock().now() + timeout;
    while (true) {
        const std::string id = fmt::format("{}.{}", ::getpid(), exec.next_id_++);
        TRY(exec.send_line("\nhello " + id + "\n"));
        const auto attempt = std::min(deadline, io::system_clock().now() + 500ms);
        while (true) {
            auto line = exec.read_line(attempt);
            if (!line && line.error().code() != Errc::timeout) return tl::unexpected(line.error());
            if (!line) break;
            if (line->starts_with("ready " + id + " ")) return exec;
        }
        if (io::system_clock().now() >= deadline)
            return fail(Errc::timeout,
                        "the guest behind {} does not answer: it has not booted, or another command is still "
                        "running in it",
                        socket.string());
    }
}

Result<ExecResult> GuestExec::run(const std::string& command, io::Duration timeout) {
    const std::string id = fmt::format("{}.{}", ::getpid(), next_id_++);
    const auto limit_ms = std::chrono::ceil<std::chrono::milliseconds>(timeout).count();
    TRY(send_line(fmt::format("exec {} {} {}\n", id, limit_ms, base64_encode(command))));
    // The guest keeps the time-out; a guest that has stopped altogether is noticed a little later.
    const auto deadline = timeout > io::Duration(0) ? io::system_clock().now() + timeout + 10s
                                                    : io::system_clock().now() + 24h * 365;
    while (true) {
        std::istringstream words(TRY(read_line(deadline)));
        std::string what, whose;
        words >> what >> whose;
        if (whose != id) continue; // the rest of an earlier client's
        if (what == "error") {
            std::string text;
            words >> text;
            return fail(Errc::invalid_argument, "the guest refuses the command: {}",
                        TRY(base64_decode(text)));
        }
        if (what != "done") continue;
        ExecResult result;
        std::string note, output;
        if (!(words >> result.status >> note >> output))
            return fail(Errc::protocol, "the guest's answer is incomplete");
        if (output != "-") result.output = TRY(base64_decode(output));
        result.truncated = note == "truncated";
        result.timed_out = note == "timeout";
        return result;
    }
}

} // namespace lanepool::dev
