// SPDX-License-Identifier: Apache-2.0
#include "store/database.h"

#include <cerrno>
#include <fcntl.h>

#include "base/unique_fd.h"

namespace lanepool::store {

Result<bool> Statement::step() {
    const int code = sqlite3_step(statement_.get());
    if (code == SQLITE_ROW) return true;
    // A statement that has ended holds no lock and no argument any more.
    sqlite3_reset(statement_.get());
    if (code == SQLITE_DONE) return false;
    return tl::unexpected<Error>(database_->failure(code));
}

std::string_view Statement::bytes(int column) const {
    const auto* data = static_cast<const char*>(sqlite3_column_blob(statement_.get(), column));
    const int size = sqlite3_column_bytes(statement_.get(), column);
    return data ? std::string_view(data, static_cast<size_t>(size)) : std::string_view();
}

Result<> Statement::failure(int code) const { return tl::unexpected<Error>(database_->failure(code)); }

Result<std::unique_ptr<Database>> Database::open(const std::filesystem::path& path) {
    // Made by hand first: SQLite would make it readable for everybody that the umask lets.
    const UniqueFd file(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
    if (!file) return fail_errno(fmt::format("opening the database {}", path.string()));
    sqlite3* handle = nullptr;
    const int code =
        sqlite3_open_v2(path.c_str(), &handle, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, nullptr);
    // There is a handle also after most failures.
    std::unique_ptr<Database> database(new Database(path, handle));
    if (code != SQLITE_OK) return tl::unexpected<Error>(database->failure(code));
    sqlite3_extended_result_codes(handle, 1);
    // A predecessor that is on its way out needs a moment to let go.
    sqlite3_busy_timeout(handle, 2000);
    return database;
}

Result<std::unique_ptr<Statement>> Database::prepare(const std::string& sql) const {
    sqlite3_stmt* statement = nullptr;
    const int code = sqlite3_prepare_v3(handle_.get(), sql.c_str(), static_cast<int>(sql.size()) + 1,
                                        SQLITE_PREPARE_PERSISTENT, &statement, nullptr);
    if (code != SQLITE_OK) return tl::unexpected<Error>(failure(code));
    return std::unique_ptr<Statement>(new Statement(this, statement));
}

Result<> Database::execute(const char* sql) const {
    const int code = sqlite3_exec(handle_.get(), sql, nullptr, nullptr, nullptr);
    if (code != SQLITE_OK) return tl::unexpected<Error>(failure(code));
    return {};
}

Result<int64_t> Database::pragma(const std::string& name) const {
    const auto statement = TRY(prepare("PRAGMA " + name));
    if (!TRY(statement->step())) return fail(Errc::internal, "the database has no {}", name);
    return statement->integer(0);
}

Error Database::failure(int code) const {
    const std::string file = path_.string();
    const char* message = handle_ ? sqlite3_errmsg(handle_.get()) : sqlite3_errstr(code);
    switch (code & 0xff) {
    case SQLITE_FULL:
        return {Errc::no_space,
                fmt::format("the disk under {} is full: nothing was changed; free some space there and "
                            "try again",
                            file)};
    case SQLITE_READONLY:
        return {Errc::permission_denied,
                fmt::format("{} cannot be written ({}): nothing was changed; make it writable and try again",
                            file, message)};
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return {Errc::busy,
                fmt::format("{} is in use by another process: only one controller may have it", file)};
    case SQLITE_CORRUPT:
        return {
            Errc::io,
            fmt::format("{} is damaged ({}): restore an earlier copy of it, or move it away to start with "
                        "an empty pool",
                        file, message)};
    case SQLITE_NOTADB:
        return {Errc::failed_precondition,
                fmt::format("{} is no database of lanepool ({}): name another folder, or move the file away",
                            file, message)};
    case SQLITE_CANTOPEN:
        return {Errc::permission_denied,
                fmt::format("{} cannot be opened: {}; look at the permissions of its folder", file, message)};
    case SQLITE_NOMEM:
        return {Errc::no_space, fmt::format("no memory for the database {}", file)};
    case SQLITE_IOERR:
        return {
            Errc::io,
            fmt::format("reading or writing {} failed ({}, code {}): nothing was changed; look at its disk",
                        file, message, code)};
    default:
        return {Errc::internal, fmt::format("the database {} says: {} (code {})", file, message, code)};
    }
}

} // namespace lanepool::store
