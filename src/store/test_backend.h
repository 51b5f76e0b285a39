// SPDX-License-Identifier: Apache-2.0
//
// For tests: where a store lives while it is opened and closed.
#pragma once

#include "store/sqlite_store.h"

#include <cstdlib>
#include <gtest/gtest.h>

namespace lanepool::store::test {

class TemporaryFolder {
  public:
    TemporaryFolder() {
        std::string pattern = (std::filesystem::temp_directory_path() / "lanepool-store-XXXXXX").string();
        path_ = ::mkdtemp(pattern.data());
    }
    ~TemporaryFolder() { std::filesystem::remove_all(path_); }
    TemporaryFolder(const TemporaryFolder&) = delete;
    TemporaryFolder& operator=(const TemporaryFolder&) = delete;
    const std::filesystem::path& path() const { return path_; }

  private:
    std::filesystem::path path_;
};

class Backend {
  public:
    virtual ~Backend() = default;
    // The store that lives here. Only one at a time.
    virtual std::unique_ptr<Store> open(uint64_t audit_kept = 1000) = 0;
};

class SqliteBackend final : public Backend {
  public:
    std::unique_ptr<Store> open(uint64_t audit_kept) override {
        auto store = SqliteStore::open(folder_.path(), audit_kept);
        EXPECT_TRUE(store) << store.error().message();
        return store ? std::move(*store) : nullptr;
    }

  private:
    TemporaryFolder folder_;
};

} // namespace lanepool::store::test
