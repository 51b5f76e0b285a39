// SPDX-License-Identifier: Apache-2.0
#include "local_devices/child_process.h"
#include "local_devices/system.h"

#include "base/unique_fd.h"
#include "io/replace_file.h"

#include <cerrno>
#include <dirent.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <thread>
#include <unistd.h>

namespace lanepool::local_devices {

namespace {

// An interface with very many VFs says this much about them.
constexpr size_t most_answer_bytes = size_t{256} * 1024;
constexpr auto register_timeout = std::chrono::seconds(5);

Result<std::string> read_all(const std::string& path) {
    // O_NONBLOCK: a file that is not what it should be (a FIFO) does not hold us up.
    const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK));
    if (!fd) return fail_errno(fmt::format("opening {}", path));
    std::string text;
    std::array<char, 4096> part;
    while (true) {
        const ssize_t count = ::read(fd.get(), part.data(), part.size());
        if (count < 0 && errno == EINTR) continue;
        if (count < 0) return fail_errno(fmt::format("reading {}", path));
        if (count == 0) return text;
        if (text.size() + static_cast<size_t>(count) > most_file_bytes)
            return fail(Errc::no_space, "{} has more than {} bytes", path, most_file_bytes);
        text.append(part.data(), static_cast<size_t>(count));
    }
}

Entry::Kind kind_of(const std::string& folder, const dirent& entry) {
    unsigned char type = entry.d_type;
    if (type == DT_UNKNOWN) {
        struct stat status = {};
        if (::lstat((folder + '/' + entry.d_name).c_str(), &status) == 0) type = IFTODT(status.st_mode);
    }
    if (type == DT_DIR) return Entry::Kind::folder;
    return type == DT_LNK ? Entry::Kind::link : Entry::Kind::file;
}

class LinuxSystem final : public System {
  public:
    explicit LinuxSystem(const Paths& paths) : paths_(paths) {}

    Result<std::string> read(const std::string& path) override { return read_all(here(path)); }

    Result<> write(const std::string& path, const std::string& text, io::Duration timeout) override {
        return children_.write(here(path), text, timeout);
    }

    Result<bool> reads_all_ones(const std::string& path) override {
        return children_.reads_all_ones(here(path), register_timeout);
    }

    Result<std::vector<Entry>> list(const std::string& path) override {
        const std::string real = here(path);
        const std::unique_ptr<DIR, int (*)(DIR*)> folder(::opendir(real.c_str()), ::closedir);
        if (!folder) return fail_errno(fmt::format("opening {}", path));
        std::vector<Entry> entries;
        while (const dirent* entry = ::readdir(folder.get())) {
            const std::string_view name = entry->d_name;
            if (name != "." && name != "..") entries.push_back({std::string(name), kind_of(real, *entry)});
        }
        std::ranges::sort(entries, {}, &Entry::name);
        return entries;
    }

    Result<std::string> read_link(const std::string& path) override {
        std::array<char, 4096> text;
        const ssize_t count = ::readlink(here(path).c_str(), text.data(), text.size());
        if (count < 0) return fail_errno(fmt::format("reading the link {}", path));
        return std::string(text.data(), static_cast<size_t>(count));
    }

    bool exists(const std::string& path) override { return ::access(here(path).c_str(), F_OK) == 0; }

    std::optional<DeviceNumber> device_number(const std::string& path) override {
        struct stat status = {};
        if (::stat(here(path).c_str(), &status) != 0) return std::nullopt;
        if (!S_ISBLK(status.st_mode) && !S_ISCHR(status.st_mode)) return std::nullopt;
        return DeviceNumber{S_ISBLK(status.st_mode), major(status.st_rdev), minor(status.st_rdev)};
    }

    bool claimed(const std::string& path) override {
        // For a block device, O_EXCL without O_CREAT asks for it alone (man 2 open).
        const UniqueFd fd(::open(here(path).c_str(), O_RDONLY | O_EXCL | O_NONBLOCK | O_CLOEXEC));
        return !fd && errno == EBUSY;
    }

    Result<> load_module(const std::string& name, io::Duration timeout) override {
        for (const char* program : {"/sbin/modprobe", "/usr/sbin/modprobe", "/bin/modprobe"}) {
            if (::access(program, X_OK) != 0) continue;
            const int status = TRY(children_.run({program, "-q", name}, timeout));
            if (status == 0) return {};
            return fail(Errc::not_found, "`modprobe {}` failed with status {}", name, status);
        }
        return fail(Errc::not_found, "the module {} cannot be loaded: this machine has no modprobe", name);
    }

    Result<> save(const std::filesystem::path& path, const std::string& text) override {
        return io::replace_file(path, text);
    }

    Result<std::optional<std::string>> load(const std::filesystem::path& path) override {
        if (::access(path.c_str(), F_OK) != 0 && errno == ENOENT) return std::nullopt;
        return TRY(read_all(path.string()));
    }

    Result<int> nvme_admin(const std::string& node, nvme_passthru_cmd& command) override {
        const std::string path = here(node);
        const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
        if (!fd) return fail_errno(fmt::format("opening {}", node));
        const int status = ::ioctl(fd.get(), NVME_IOCTL_ADMIN_CMD, &command);
        if (status < 0)
            return fail_errno(fmt::format("NVMe admin command {:#x} to {}", command.opcode, node));
        return status;
    }

    Result<std::vector<std::byte>> route_request(std::span<const std::byte> request) override {
        const UniqueFd fd(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE));
        if (!fd) return fail_errno("opening a netlink socket");
        constexpr timeval patience = {.tv_sec = 10, .tv_usec = 0};
        ::setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
        if (::send(fd.get(), request.data(), request.size(), 0) < 0)
            return fail_errno("sending a netlink request");
        std::vector<std::byte> answer(most_answer_bytes);
        const ssize_t count = ::recv(fd.get(), answer.data(), answer.size(), MSG_TRUNC);
        if (count < 0) return fail_errno("waiting for the answer to a netlink request");
        if (static_cast<size_t>(count) > answer.size())
            return fail(Errc::no_space, "the answer to a netlink request has {} bytes", count);
        answer.resize(static_cast<size_t>(count));
        return answer;
    }

    io::TimePoint now() override { return io::system_clock().now(); }
    void pause(io::Duration duration) override { std::this_thread::sleep_for(duration); }

  private:
    // Where a path of the kernel's lies on this machine.
    std::string here(const std::string& path) const {
        const std::pair<std::string_view, const std::filesystem::path&> roots[] = {
            {"/sys", paths_.sys}, {"/proc", paths_.proc}, {"/dev", paths_.dev}};
        for (const auto& [usual, root] : roots) {
            if (path == usual) return root.string();
            if (path.starts_with(usual) && path[usual.size()] == '/')
                return (root / path.substr(usual.size() + 1)).string();
        }
        return path;
    }

    Paths paths_;
    ChildProcesses children_;
};

} // namespace

std::unique_ptr<System> linux_system(const Paths& paths) { return std::make_unique<LinuxSystem>(paths); }

} // namespace lanepool::local_devices
