// SPDX-License-Identifier: Apache-2.0
#include "pki/file.h"

#include "base/unique_fd.h"

#include <cerrno>
#include <fcntl.h>
#include <optional>
#include <sys/stat.h>
#include <unistd.h>

namespace lanepool::pki {

namespace {

// AND_THEN: it is a key.
Result<std::string> read(const std::filesystem::path& path, size_t most_bytes, Links links,
                         std::optional<std::string_view> and_then) {
    // Nobody is to be waited for where it is a pipe.
    const int flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK | (links == Links::refuse ? O_NOFOLLOW : 0);
    const UniqueFd fd(::open(path.c_str(), flags));
    if (!fd) return fail_errno(fmt::format("opening {}", path.string()));
    struct stat status {};
    if (::fstat(fd.get(), &status) != 0) return fail_errno(fmt::format("looking at {}", path.string()));
    if (!S_ISREG(status.st_mode)) return fail(Errc::protocol, "{} is no file", path.string());
    if (and_then && (status.st_mode & 077) != 0)
        return fail(Errc::permission_denied,
                    "{} can be read or written by others (mode {:o}); chmod 600 it, and if somebody may have "
                    "read it, {}",
                    path.string(), status.st_mode & 0777, *and_then);
    if (static_cast<size_t>(status.st_size) > most_bytes)
        return fail(Errc::protocol, "{} has {} bytes; at most {} are taken", path.string(), status.st_size,
                    most_bytes);
    std::string text(static_cast<size_t>(status.st_size), '\0');
    for (size_t done = 0; done < text.size();) {
        const ssize_t count = ::read(fd.get(), text.data() + done, text.size() - done);
        if (count < 0 && errno == EINTR) continue;
        if (count < 0) return fail_errno(fmt::format("reading {}", path.string()));
        if (count == 0) return fail(Errc::io, "{} became shorter while it was read", path.string());
        done += static_cast<size_t>(count);
    }
    return text;
}

} // namespace

Result<std::string> read_file(const std::filesystem::path& path, size_t most_bytes, Links links) {
    return read(path, most_bytes, links, std::nullopt);
}

Result<std::string> read_private_file(const std::filesystem::path& path, std::string_view and_then,
                                      Links links) {
    return read(path, most_pem_bytes, links, and_then);
}

FileStamp stamp_of(const std::filesystem::path& path) {
    struct stat status {};
    if (::stat(path.c_str(), &status) != 0) return {};
    return {status.st_ino, status.st_size,
            int64_t{status.st_ctim.tv_sec} * 1'000'000'000 + status.st_ctim.tv_nsec};
}

} // namespace lanepool::pki
