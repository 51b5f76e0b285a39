// SPDX-License-Identifier: Apache-2.0
//
// Where a machine is read from: files by the paths that they have on it ("/sys/bus/pci/devices"), on this
// machine, in a saved tree of another one, or in memory. Nothing here fails: what cannot be read is not
// there.
#pragma once

#include "base/unique_fd.h"

#include <array>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace lanepool::inventory {

enum class Kind { file, folder, link };

struct Name {
    std::string name;
    Kind kind = Kind::file;
    bool operator==(const Name&) const = default;
};

// A path given to these is absolute and has no link, "." or ".." in it: see follow().
class Files {
  public:
    virtual ~Files() = default;
    // At most MOST_BYTES from its start; absent: no file, not permitted, or an error.
    virtual std::optional<std::string> read(const std::string& path, size_t most_bytes) = 0;
    // The text of a symbolic link.
    virtual std::optional<std::string> link(const std::string& path) = 0;
    // In a folder, by name; at most MOST of them.
    virtual std::vector<Name> list(const std::string& path, size_t most) = 0;
    virtual bool exists(const std::string& path) = 0;
};

struct Roots {
    std::filesystem::path sys = "/sys", proc = "/proc", etc = "/etc", dev = "/dev", lib = "/lib";
    std::filesystem::path ids; // pci.ids; empty: where distributions have it, on this machine

    // FOLDER/sys, FOLDER/proc, ...: a tree that was saved there.
    static Roots saved_in(const std::filesystem::path& folder);
};

// The files of a disk. Links inside of a root cannot lead out of it; /etc and /lib are followed as they are.
class DiskFiles : public Files {
  public:
    explicit DiskFiles(const Roots& roots);
    std::optional<std::string> read(const std::string& path, size_t most_bytes) override;
    std::optional<std::string> link(const std::string& path) override;
    std::vector<Name> list(const std::string& path, size_t most) override;
    bool exists(const std::string& path) override;

  private:
    struct Root {
        std::string prefix; // "/sys/"
        UniqueFd folder;    // none: not there
        bool confined = true;
    };
    UniqueFd open(const std::string& path, int flags) const;

    std::array<Root, 5> roots_;
};

// Where the link at PATH leads, as an absolute path without "..", inside of the same root; absent: there is
// no link, or it leads out of it.
std::optional<std::string> follow(Files& files, const std::string& path);
// What the link at PATH leads to, by its last name: "../../bus/pci/drivers/nvme" gives "nvme".
std::string link_name(Files& files, const std::string& path);

// A short attribute without white space at its ends and without what is not printable; empty: not there.
std::string read_word(Files& files, const std::string& path, size_t most_bytes = 256);
// Decimal, or hexadecimal with 0x.
std::optional<uint64_t> read_number(Files& files, const std::string& path);
std::optional<uint64_t> to_number(std::string_view text);
std::string_view trim(std::string_view text);
std::vector<std::string_view> split(std::string_view text, char separator);
std::vector<std::string_view> words_of(std::string_view text);
// At most MOST_BYTES; what is not printable ASCII becomes '?'.
std::string printable(std::string_view text, size_t most_bytes = 256);

} // namespace lanepool::inventory
