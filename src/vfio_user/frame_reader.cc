// SPDX-License-Identifier: Apache-2.0
#include "vfio_user/frame_reader.h"

#include "io/unix_socket.h"

namespace lanepool::vfio_user {

std::span<std::byte> FrameReader::wanted() {
    if (!header_complete()) return header_bytes().subspan(filled_bytes_);
    return std::span(message_.payload).subspan(filled_bytes_ - sizeof(wire::Header));
}

Result<> FrameReader::filled(size_t count, std::vector<UniqueFd> fds, bool fds_lost) {
    const bool had_header = header_complete();
    filled_bytes_ += count;
    message_.fds_lost |= fds_lost;
    if (fds.size() > io::max_descriptors - message_.fds.size())
        return fail(Errc::protocol, "more than {} descriptors came with one message", io::max_descriptors);
    for (auto& fd : fds)
        message_.fds.push_back(std::move(fd));
    if (!had_header && header_complete()) {
        TRY(wire::check(message_.header));
        message_.payload.resize(message_.header.size_bytes - sizeof(wire::Header));
    }
    return {};
}

std::optional<Message> FrameReader::take() {
    if (!header_complete() || filled_bytes_ < message_.header.size_bytes) return std::nullopt;
    filled_bytes_ = 0;
    return std::exchange(message_, Message{});
}

} // namespace lanepool::vfio_user
