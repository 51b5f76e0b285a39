// SPDX-License-Identifier: Apache-2.0
//
// For tests: a file system for SQLite that is the usual one, until told to fail.
#pragma once

#include <cstring>
#include <sqlite3.h>
#include <vector>

namespace lanepool::store {

class Faults {
  public:
    // While it lives, databases that are opened go through the faults.
    class Scope {
      public:
        Scope();
        ~Scope();
        Scope(const Scope&) = delete;
        Scope& operator=(const Scope&) = delete;
    };

    void writes_fail_with(int code) { fail_after(0, code); }
    // COUNT more writes and syncs go well.
    void fail_after(int count, int code) {
        good_ = count;
        code_ = code;
        hit_ = false;
    }
    void clear() {
        code_ = SQLITE_OK;
        hit_ = false;
    }
    bool hit() const { return hit_; }

    int next() {
        if (code_ == SQLITE_OK) return SQLITE_OK;
        if (good_ > 0) {
            --good_;
            return SQLITE_OK;
        }
        hit_ = true;
        return code_;
    }

  private:
    int code_ = SQLITE_OK;
    int good_ = 0;
    bool hit_ = false;
};

inline Faults& faults() {
    static Faults instance;
    return instance;
}

namespace detail {

struct FaultyFile {
    sqlite3_file base;
    sqlite3_file* real;
};
inline sqlite3_file* real(sqlite3_file* file) { return reinterpret_cast<FaultyFile*>(file)->real; }

// Version 1 is enough: a database that is locked exclusively needs no shared memory for its WAL.
inline const sqlite3_io_methods& methods() {
    static const sqlite3_io_methods table = [] {
        sqlite3_io_methods m{};
        m.iVersion = 1;
        m.xClose = [](sqlite3_file* f) {
            const int code = real(f)->pMethods->xClose(real(f));
            sqlite3_free(real(f));
            return code;
        };
        m.xRead = [](sqlite3_file* f, void* p, int n, sqlite3_int64 at) {
            return real(f)->pMethods->xRead(real(f), p, n, at);
        };
        m.xWrite = [](sqlite3_file* f, const void* p, int n, sqlite3_int64 at) {
            if (const int code = faults().next()) return code;
            return real(f)->pMethods->xWrite(real(f), p, n, at);
        };
        m.xTruncate = [](sqlite3_file* f, sqlite3_int64 n) {
            return real(f)->pMethods->xTruncate(real(f), n);
        };
        m.xSync = [](sqlite3_file* f, int flags) {
            if (const int code = faults().next()) return code;
            return real(f)->pMethods->xSync(real(f), flags);
        };
        m.xFileSize = [](sqlite3_file* f, sqlite3_int64* n) {
            return real(f)->pMethods->xFileSize(real(f), n);
        };
        m.xLock = [](sqlite3_file* f, int how) { return real(f)->pMethods->xLock(real(f), how); };
        m.xUnlock = [](sqlite3_file* f, int how) { return real(f)->pMethods->xUnlock(real(f), how); };
        m.xCheckReservedLock = [](sqlite3_file* f, int* out) {
            return real(f)->pMethods->xCheckReservedLock(real(f), out);
        };
        m.xFileControl = [](sqlite3_file* f, int op, void* p) {
            return real(f)->pMethods->xFileControl(real(f), op, p);
        };
        m.xSectorSize = [](sqlite3_file* f) { return real(f)->pMethods->xSectorSize(real(f)); };
        m.xDeviceCharacteristics = [](sqlite3_file* f) {
            return real(f)->pMethods->xDeviceCharacteristics(real(f));
        };
        return m;
    }();
    return table;
}

inline sqlite3_vfs& faulty_vfs() {
    static sqlite3_vfs vfs = [] {
        sqlite3_vfs* usual = sqlite3_vfs_find("unix");
        sqlite3_vfs made = *usual;
        made.zName = "faulty";
        made.pAppData = usual;
        made.szOsFile = sizeof(FaultyFile);
        made.xOpen = [](sqlite3_vfs* self, const char* name, sqlite3_file* file, int flags, int* out) {
            auto* below = static_cast<sqlite3_vfs*>(self->pAppData);
            auto* opened = static_cast<sqlite3_file*>(sqlite3_malloc(below->szOsFile));
            std::memset(opened, 0, static_cast<size_t>(below->szOsFile));
            file->pMethods = nullptr;
            const int code = below->xOpen(below, name, opened, flags, out);
            if (code != SQLITE_OK) {
                sqlite3_free(opened);
                return code;
            }
            reinterpret_cast<FaultyFile*>(file)->real = opened;
            file->pMethods = &methods();
            return SQLITE_OK;
        };
        return made;
    }();
    return vfs;
}

} // namespace detail

inline Faults::Scope::Scope() { sqlite3_vfs_register(&detail::faulty_vfs(), 1); }
inline Faults::Scope::~Scope() {
    sqlite3_vfs_unregister(&detail::faulty_vfs());
    sqlite3_vfs_register(sqlite3_vfs_find("unix"), 1);
}

} // namespace lanepool::store
