// SPDX-License-Identifier: Apache-2.0
#include "io/replace_file.h"

#include "base/unique_fd.h"

#include <cerrno>
#include <fcntl.h>
#include <unistd.h>

namespace lanepool::io {

namespace {
Result<> write_all(int fd, std::string_view text, const std::filesystem::path& path) {
    while (!text.empty()) {
        const ssize_t count = ::write(fd, text.data(), text.size());
        if (count < 0 && errno == EINTR) continue;
        if (count < 0) return fail_errno(fmt::format("writing {}", path.string()));
        text.remove_prefix(static_cast<size_t>(count));
    }
    return {};
}
} // namespace

Result<> replace_file(const std::filesystem::path& path, std::string_view text) {
    const std::filesystem::path temporary = path.string() + ".new";
    const UniqueFd fd(::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
    if (!fd) return fail_errno(fmt::format("creating {}", temporary.string()));
    TRY(write_all(fd.get(), text, temporary));
    if (::fsync(fd.get()) != 0) return fail_errno(fmt::format("flushing {}", temporary.string()));
    if (::rename(temporary.c_str(), path.c_str()) != 0)
        return fail_errno(fmt::format("replacing {}", path.string()));
    const auto folder_path = path.has_parent_path() ? path.parent_path() : std::filesystem::path(".");
    const UniqueFd folder(::open(folder_path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!folder || ::fsync(folder.get()) != 0)
        return fail_errno(fmt::format("flushing the folder of {}", path.string()));
    return {};
}

} // namespace lanepool::io
