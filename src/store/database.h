// SPDX-License-Identifier: Apache-2.0
//
// SQLite with results instead of codes. Of one thread.
#pragma once

#include "base/result.h"

#include <cstdint>
#include <filesystem>
#include <memory>
#include <sqlite3.h>
#include <string>
#include <string_view>

namespace lanepool::store {

class Database;

// An argument of a statement that is bytes, not a text.
struct Blob {
    std::string_view bytes;
};

// A prepared statement. Arguments are bound by bind(), rows come by step().
class Statement {
  public:
    // Starts over: forgets rows and takes ARGUMENTS for ?1, ?2, ... Texts must live until the last step.
    template <class... Arguments>
    Result<> bind(const Arguments&... arguments) {
        sqlite3_reset(statement_.get());
        int index = 0;
        int code = SQLITE_OK;
        ((code = code == SQLITE_OK ? bind_one(++index, arguments) : code), ...);
        if (code != SQLITE_OK) return failure(code);
        return {};
    }
    // Whether there is a row.
    Result<bool> step();
    // To its end; there are no rows to read.
    template <class... Arguments>
    Result<> run(const Arguments&... arguments) {
        TRY(bind(arguments...));
        while (TRY(step()))
            ;
        return {};
    }
    // Ends the reading: a statement that has rows left holds up the end of its transaction.
    void reset() { sqlite3_reset(statement_.get()); }

    // Of the row at hand, from column 0.
    int64_t integer(int column) const { return sqlite3_column_int64(statement_.get(), column); }
    uint64_t number(int column) const { return static_cast<uint64_t>(integer(column)); }
    std::string text(int column) const { return std::string(bytes(column)); }
    // Valid until the next step.
    std::string_view bytes(int column) const;

  private:
    friend class Database;
    struct Finalize {
        void operator()(sqlite3_stmt* statement) const { sqlite3_finalize(statement); }
    };
    Statement(const Database* database, sqlite3_stmt* statement)
        : database_(database), statement_(statement) {}
    int bind_one(int index, int64_t value) { return sqlite3_bind_int64(statement_.get(), index, value); }
    // SQLite's integers are signed; the bits come back as they were.
    int bind_one(int index, uint64_t value) { return bind_one(index, static_cast<int64_t>(value)); }
    int bind_one(int index, uint32_t value) { return bind_one(index, int64_t{value}); }
    int bind_one(int index, int32_t value) { return bind_one(index, int64_t{value}); }
    int bind_one(int index, bool value) { return bind_one(index, int64_t{value}); }
    int bind_one(int index, std::string_view value) {
        return sqlite3_bind_text64(statement_.get(), index, value.data() ? value.data() : "", value.size(),
                                   SQLITE_STATIC, SQLITE_UTF8);
    }
    int bind_one(int index, const Blob& value) {
        return sqlite3_bind_blob64(statement_.get(), index, value.bytes.data() ? value.bytes.data() : "",
                                   value.bytes.size(), SQLITE_STATIC);
    }
    int bind_one(int index, const std::string& value) { return bind_one(index, std::string_view(value)); }
    Result<> failure(int code) const;

    const Database* database_;
    std::unique_ptr<sqlite3_stmt, Finalize> statement_;
};

class Database {
  public:
    // Makes the file if there is none (mode 0600).
    static Result<std::unique_ptr<Database>> open(const std::filesystem::path& path);

    Result<std::unique_ptr<Statement>> prepare(const std::string& sql) const;
    // One or several statements without arguments.
    Result<> execute(const char* sql) const;
    Result<> execute(const std::string& sql) const { return execute(sql.c_str()); }
    Result<int64_t> pragma(const std::string& name) const;

    // What CODE means for this file, in words: what, why, what to do.
    Error failure(int code) const;
    const std::filesystem::path& path() const { return path_; }

  private:
    struct Close {
        void operator()(sqlite3* handle) const { sqlite3_close_v2(handle); }
    };
    Database(std::filesystem::path path, sqlite3* handle) : path_(std::move(path)), handle_(handle) {}
    std::filesystem::path path_;
    std::unique_ptr<sqlite3, Close> handle_;
};

} // namespace lanepool::store
