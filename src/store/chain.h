// SPDX-License-Identifier: Apache-2.0
//
// The audit trail is a chain: the hash of each entry is SHA-256 of the hash before it and of the entry.
// Nobody can change, take out, put in or reorder an entry without all the hashes from there on being others.
// docs/store.md gives the bytes, so that a trail can be verified without this program.
#pragma once

#include "base/result.h"
#include "pool/records.h"

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace lanepool::store {

using Hash = std::array<uint8_t, 32>;

// Before the first entry: 32 zero bytes.
inline constexpr Hash no_hash{};

std::string hex(const Hash& hash);
// io: BYTES are not 32.
Result<Hash> hash_from(std::string_view bytes);
inline std::string_view bytes_of(const Hash& hash) {
    return {reinterpret_cast<const char*>(hash.data()), hash.size()};
}

// The bytes of ENTRY that are hashed; of no library, and for ever.
std::string canonical(const pool::AuditEntry& entry);
// The hash of ENTRY, after an entry of the hash BEFORE.
Hash chained(const Hash& before, const pool::AuditEntry& entry);

// An entry as it is stored.
struct ChainedEntry {
    pool::AuditEntry entry;
    Hash hash{};

    bool operator==(const ChainedEntry&) const = default;
};

// An end of the trail: an entry, or the place before the first one (sequence 0 and no_hash in a trail that
// has never forgotten anything).
struct ChainEnd {
    uint64_t sequence = 0;
    Hash hash{};

    bool operator==(const ChainEnd&) const = default;
};

// What is stored of a trail beside its entries.
struct ChainEnds {
    ChainEnd start;             // the last one that has been forgotten
    ChainEnd head;              // the last one
    uint64_t next_sequence = 1; // as the counters have it
};

// What a verification has found to be in order.
struct AuditCheck {
    uint64_t entries = 0;
    uint64_t first_sequence = 0; // 0: there are none
    uint64_t last_sequence = 0;
    Hash head{}; // of the last entry; keep it elsewhere, and it proves later that nothing has been rewritten

    bool operator==(const AuditCheck&) const = default;
};

// Verifies a trail piece by piece, so that a long one holds nobody up and may grow meanwhile.
class ChainCheck {
  public:
    explicit ChainCheck(const ChainEnd& start) : start_(start), last_(start) {}

    // The next ones, in their order. io: the message names the first sequence that does not fit.
    Result<> add(const std::vector<ChainedEntry>& entries);
    // Where the next ones begin: after this one.
    uint64_t last_sequence() const { return last_.sequence; }
    uint64_t entries() const { return last_.sequence - start_.sequence; }
    // There are no more. ENDS: as they are now. io: it does not end where it should.
    Result<AuditCheck> finish(const ChainEnds& ends) const;

  private:
    ChainEnd start_;
    ChainEnd last_;
};

} // namespace lanepool::store
