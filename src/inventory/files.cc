// SPDX-License-Identifier: Apache-2.0
#include "inventory/files.h"

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <dirent.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace lanepool::inventory {

namespace {

constexpr size_t longest_link = 4096;

UniqueFd open_folder(const std::filesystem::path& path) {
    return UniqueFd(::open(path.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
}

bool has_own_links(std::string_view prefix) { return prefix == "/etc/" || prefix == "/lib/"; }

Kind kind_of(int folder, const dirent& entry) {
    if (entry.d_type == DT_LNK) return Kind::link;
    if (entry.d_type == DT_DIR) return Kind::folder;
    if (entry.d_type != DT_UNKNOWN) return Kind::file;
    struct stat status {};
    if (::fstatat(folder, entry.d_name, &status, AT_SYMLINK_NOFOLLOW) != 0) return Kind::file;
    return S_ISLNK(status.st_mode) ? Kind::link : S_ISDIR(status.st_mode) ? Kind::folder : Kind::file;
}

} // namespace

Roots Roots::saved_in(const std::filesystem::path& folder) {
    return {folder / "sys", folder / "proc", folder / "etc", folder / "dev", folder / "lib", {}};
}

DiskFiles::DiskFiles(const Roots& roots)
    : roots_{{{"/sys/", open_folder(roots.sys)},
              {"/proc/", open_folder(roots.proc)},
              {"/etc/", open_folder(roots.etc)},
              {"/dev/", open_folder(roots.dev)},
              {"/lib/", open_folder(roots.lib)}}} {
    for (auto& root : roots_)
        root.confined = !has_own_links(root.prefix);
}

UniqueFd DiskFiles::open(const std::string& path, int flags) const {
    const auto root = std::ranges::find_if(roots_, [&](const Root& each) {
        return path.starts_with(each.prefix) && path.size() > each.prefix.size();
    });
    if (root == roots_.end() || !root->folder) return {};
    const char* rest = path.c_str() + root->prefix.size();
    if (root->confined) {
        open_how how{};
        how.flags = static_cast<unsigned>(flags | O_CLOEXEC);
        how.resolve = RESOLVE_IN_ROOT;
        const long fd = ::syscall(SYS_openat2, root->folder.get(), rest, &how, sizeof how);
        // Old kernels and strict sandboxes do not have it; the tree is then trusted as the machine's own is.
        if (fd >= 0 || (errno != ENOSYS && errno != EPERM)) return UniqueFd(static_cast<int>(fd));
    }
    return UniqueFd(::openat(root->folder.get(), rest, flags | O_CLOEXEC));
}

std::optional<std::string> DiskFiles::read(const std::string& path, size_t most_bytes) {
    // Without O_NONBLOCK a FIFO in a tree from somebody else would keep us for ever.
    const UniqueFd fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY);
    struct stat status {};
    if (!fd || ::fstat(fd.get(), &status) != 0 || !S_ISREG(status.st_mode)) return std::nullopt;
    std::string text;
    std::array<char, 4096> piece{};
    while (text.size() < most_bytes) {
        const auto count = ::read(fd.get(), piece.data(), std::min(piece.size(), most_bytes - text.size()));
        if (count < 0 && errno == EINTR) continue;
        if (count < 0 && text.empty()) return std::nullopt;
        if (count <= 0) break;
        text.append(piece.data(), static_cast<size_t>(count));
    }
    return text;
}

std::optional<std::string> DiskFiles::link(const std::string& path) {
    const UniqueFd fd = open(path, O_PATH | O_NOFOLLOW);
    if (!fd) return std::nullopt;
    std::string text(longest_link, '\0');
    const auto length = ::readlinkat(fd.get(), "", text.data(), text.size());
    if (length <= 0) return std::nullopt;
    text.resize(static_cast<size_t>(length));
    return text;
}

std::vector<Name> DiskFiles::list(const std::string& path, size_t most) {
    std::vector<Name> names;
    UniqueFd fd = open(path, O_RDONLY | O_DIRECTORY | O_NONBLOCK);
    if (!fd) return names;
    DIR* folder = ::fdopendir(fd.get());
    if (!folder) return names;
    fd.release();
    while (const dirent* entry = ::readdir(folder)) {
        const std::string_view name = entry->d_name;
        if (name == "." || name == "..") continue;
        if (names.size() == most) break;
        names.push_back({std::string(name), kind_of(::dirfd(folder), *entry)});
    }
    ::closedir(folder);
    std::ranges::sort(names, {}, &Name::name);
    return names;
}

bool DiskFiles::exists(const std::string& path) { return static_cast<bool>(open(path, O_PATH | O_NOFOLLOW)); }

std::optional<std::string> follow(Files& files, const std::string& path) {
    const auto text = files.link(path);
    if (!text || text->empty() || text->front() == '/') return std::nullopt;
    const auto target =
        (std::filesystem::path(path).parent_path() / *text).lexically_normal().generic_string();
    const std::string root = path.substr(0, path.find('/', 1) + 1); // "/sys/"
    return target.starts_with(root) && target.find('\0') == std::string::npos ? std::optional(target)
                                                                              : std::nullopt;
}

std::string link_name(Files& files, const std::string& path) {
    const auto text = files.link(path);
    return text ? printable(text->substr(text->rfind('/') + 1)) : std::string();
}

std::string read_word(Files& files, const std::string& path, size_t most_bytes) {
    return printable(trim(files.read(path, most_bytes).value_or("")), most_bytes);
}

std::optional<uint64_t> read_number(Files& files, const std::string& path) {
    const auto text = files.read(path, 64);
    return text ? to_number(trim(*text)) : std::nullopt;
}

std::optional<uint64_t> to_number(std::string_view text) {
    const int base = text.starts_with("0x") ? 16 : 10;
    if (base == 16) text.remove_prefix(2);
    uint64_t value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, base);
    if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
    return value;
}

std::string_view trim(std::string_view text) {
    constexpr std::string_view blanks{" \t\r\n\0", 5};
    const auto first = text.find_first_not_of(blanks);
    if (first == std::string_view::npos) return {};
    return text.substr(first, text.find_last_not_of(blanks) - first + 1);
}

std::vector<std::string_view> split(std::string_view text, char separator) {
    std::vector<std::string_view> parts;
    while (!text.empty()) {
        const auto end = text.find(separator);
        parts.push_back(text.substr(0, end));
        if (end == std::string_view::npos) break;
        text.remove_prefix(end + 1);
    }
    return parts;
}

std::vector<std::string_view> words_of(std::string_view text) {
    std::vector<std::string_view> words;
    constexpr std::string_view blanks = " \t\r\n";
    for (auto at = text.find_first_not_of(blanks); at != std::string_view::npos;) {
        const auto end = text.find_first_of(blanks, at);
        words.push_back(text.substr(at, end == std::string_view::npos ? end : end - at));
        at = text.find_first_not_of(blanks, end);
    }
    return words;
}

std::string printable(std::string_view text, size_t most_bytes) {
    std::string result;
    for (const char c : text.substr(0, most_bytes))
        result += c >= ' ' && c <= '~' ? c : '?';
    return result;
}

} // namespace lanepool::inventory
