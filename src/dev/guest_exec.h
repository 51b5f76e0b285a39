// SPDX-License-Identifier: Apache-2.0
//
// Runs commands in a guest over its exec channel (docs/guest.md).
#pragma once

#include "base/result.h"
#include "base/unique_fd.h"
#include "io/clock.h"

#include <filesystem>
#include <string>

namespace lanepool::dev {

struct ExecResult {
    int status = 0;         // as a shell's: 128 + n for signal n
    std::string output;     // stdout and stderr
    bool truncated = false; // there was more output than the channel carries
    bool timed_out = false;
};

// One client of one guest's channel; the guest hears one at a time. For one thread.
class GuestExec {
  public:
    // Connects and waits until the guest answers, at most TIMEOUT: long enough for a boot. Errors: not_found
    // or unavailable (no guest), timeout (not booted, or somebody else's command is still running).
    static Result<GuestExec> connect(const std::filesystem::path& socket, io::Duration timeout);

    // Runs COMMAND by `sh -c`, for at most TIMEOUT (0: as long as it takes).
    Result<ExecResult> run(const std::string& command, io::Duration timeout);

  private:
    explicit GuestExec(UniqueFd socket) : socket_(std::move(socket)) {}
    Result<> send_line(const std::string& line);
    Result<std::string> read_line(io::TimePoint deadline);

    UniqueFd socket_;
    std::string input_;
    unsigned next_id_ = 1;
};

// What a shell takes for one word.
std::string shell_word(const std::string& text);

// RFC 4648 section 4, as the channel carries commands and output.
std::string base64_encode(std::string_view data);
Result<std::string> base64_decode(std::string_view text);

} // namespace lanepool::dev
