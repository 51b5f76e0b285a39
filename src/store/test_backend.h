// SPDX-License-Identifier: Apache-2.0
//
// For tests: where a store lives while it is opened and closed.
#pragma once

#include "base/temporary_folder.h"
#include "store/sqlite_store.h"

#include <cstdlib>
#include <gtest/gtest.h>

namespace lanepool::store::test {

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
