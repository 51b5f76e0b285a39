// SPDX-License-Identifier: Apache-2.0
//
// For tests: one end of a connection that says whatever the test wants, right or wrong.
#pragma once

#include "io/unix_socket.h"
#include "vfio_user/capabilities.h"
#include "vfio_user/frame_reader.h"

#include <gtest/gtest.h>
#include <sys/socket.h>

namespace lanepool::vfio_user::testing {

class RawPeer {
  public:
    explicit RawPeer(UniqueFd socket) : socket_(std::move(socket)) {
        const timeval limit{10, 0}; // a test fails instead of hanging
        ::setsockopt(socket_.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
        ::setsockopt(socket_.get(), SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    }
    static RawPeer connect(const std::filesystem::path& path) { return RawPeer(*io::connect_unix(path)); }

    bool send_bytes(std::span<const std::byte> bytes, std::span<const int> fds = {}) {
        while (!bytes.empty()) {
            const auto sent = io::send(socket_.get(), bytes, fds);
            if (!sent) return false;
            bytes = bytes.subspan(*sent);
            fds = {};
        }
        return true;
    }
    bool send(wire::Command command, std::initializer_list<std::span<const std::byte>> parts,
              std::span<const int> fds = {}, uint32_t flags = 0, uint16_t id = 7) {
        return send_bytes(wire::encode_command(command, id, parts, flags), fds);
    }
    // Answers MESSAGE.
    bool reply(const Message& message, std::initializer_list<std::span<const std::byte>> parts,
               std::span<const int> fds = {}, uint32_t error = 0) {
        wire::Header header = message.header;
        header.flags = wire::flags::reply | (error ? wire::flags::error : 0);
        header.error = error;
        return send_bytes(wire::encode(header, parts), fds);
    }

    // The next message; nothing when the other side has closed.
    std::optional<Message> receive() {
        while (true) {
            auto received = io::receive(socket_.get(), reader_.wanted());
            if (!received || received->bytes == 0) return std::nullopt;
            if (!reader_.filled(received->bytes, std::move(received->fds))) return std::nullopt;
            if (auto message = reader_.take()) return message;
        }
    }
    bool closed_by_peer() { return !receive(); }

    // The errno of the answer to a command, 0 for success, -1 when the connection ended.
    int call(wire::Command command, std::initializer_list<std::span<const std::byte>> parts,
             std::span<const int> fds = {}) {
        if (!send(command, parts, fds)) return -1;
        answer_ = receive();
        if (!answer_ || !answer_->header.is_reply()) return -1;
        EXPECT_EQ(answer_->header.id, 7);
        EXPECT_EQ(answer_->header.command, static_cast<uint16_t>(command));
        if ((answer_->header.flags & wire::flags::error) == 0) return 0;
        EXPECT_TRUE(answer_->payload.empty());
        return static_cast<int>(answer_->header.error);
    }
    Message& answer() { return *answer_; }

    // As a client.
    int negotiate(const std::string& json = R"({"capabilities":{"max_msg_fds":8}})") {
        const wire::Version version{0, 1};
        return call(wire::Command::version,
                    {wire::bytes_of(version), std::as_bytes(std::span(json.c_str(), json.size() + 1))});
    }

    void close() { socket_.reset(); }
    int fd() const { return socket_.get(); }

  private:
    UniqueFd socket_;
    FrameReader reader_;
    std::optional<Message> answer_;
};

} // namespace lanepool::vfio_user::testing
