// SPDX-License-Identifier: Apache-2.0
//
// Adds this very program to a whole host's file system, as an archive behind that of the image: the kernel
// unpacks one after the other, a later one over an earlier one. The program comes with the libraries that it
// has loaded; those then also serve the programs of the image, which are at most as new.
#pragma once

#include "base/result.h"

#include <filesystem>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace lanepool::dev {

// A newc archive, as Documentation/driver-api/early-userspace/buffer-format.rst of Linux describes it.
class Archive {
  public:
    // NAME: an absolute path, whose folders are made, too; MODE: its permissions. DATA below 4 GiB.
    void add(std::string_view name, std::string_view data, unsigned mode);
    // All of it; after this it is empty.
    std::string finish();

  private:
    void entry(std::string_view name, unsigned mode, std::string_view data);
    void pad();

    std::string bytes_;
    std::set<std::string, std::less<>> folders_;
    uint32_t inode_ = 0;
};

// What of an x86-64 ELF file is loaded when it runs: without debug information and symbols, which are most of
// what a compiler writes. Errors: protocol (it is none, or its headers name what is not in it).
Result<std::string> loadable_part(std::string_view elf);

struct Library {
    std::filesystem::path source; // on this machine
    std::filesystem::path target; // in the host
};
// Those that this process has loaded, the loader, and the C library's other parts, which must be of one
// build.
std::vector<Library> own_libraries();

// Writes to TARGET the initramfs IMAGE, followed by the program at PROGRAM, this process's own, as
// /usr/bin/lanepool, with own_libraries(); and by the file MODULE as /usr/lib/lanepool/lanepool_bridge.ko
// where it is not empty.
Result<> write_initramfs(const std::filesystem::path& target, const std::filesystem::path& image,
                         const std::filesystem::path& program, const std::filesystem::path& module);

} // namespace lanepool::dev
