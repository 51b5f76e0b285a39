// SPDX-License-Identifier: Apache-2.0
//
// A machine's files in memory: recorded from a reading (what `lanepool inventory --save` writes is exactly
// what was read), or made up by a test.
#pragma once

#include "base/result.h"
#include "inventory/files.h"

#include <map>

namespace lanepool::inventory {

class Tree : public Files {
  public:
    void add_file(const std::string& path, std::string content);
    void add_link(const std::string& path, std::string target);
    void add_folder(const std::string& path);
    void remove(const std::string& path); // and all below it
    size_t bytes() const { return bytes_; }
    size_t entries() const { return entries_.size(); }

    // Below FOLDER, which is made, and must be empty where it exists. Errors: already_exists, io.
    Result<> write(const std::filesystem::path& folder) const;

    std::optional<std::string> read(const std::string& path, size_t most_bytes) override;
    std::optional<std::string> link(const std::string& path) override;
    std::vector<Name> list(const std::string& path, size_t most) override;
    bool exists(const std::string& path) override;

  private:
    struct Entry {
        Kind kind = Kind::file;
        std::string text;
    };
    void add(const std::string& path, Entry entry);

    std::map<std::string, Entry> entries_;
    size_t bytes_ = 0;
};

// Reads from FILES, and keeps what it has read in TREE, up to MOST_BYTES in all. Both outlive it.
class RecordingFiles : public Files {
  public:
    RecordingFiles(Files& files, Tree& tree, size_t most_bytes)
        : files_(files), tree_(tree), most_bytes_(most_bytes) {}
    std::optional<std::string> read(const std::string& path, size_t most_bytes) override;
    std::optional<std::string> link(const std::string& path) override;
    std::vector<Name> list(const std::string& path, size_t most) override;
    bool exists(const std::string& path) override;
    bool full() const { return full_; }

  private:
    bool has_room();

    Files& files_;
    Tree& tree_;
    size_t most_bytes_;
    bool full_ = false;
};

} // namespace lanepool::inventory
