// SPDX-License-Identifier: Apache-2.0
#include "store/chain.h"

#include <array>
#include <memory>
#include <openssl/evp.h>

namespace lanepool::store {

namespace {

constexpr uint8_t canonical_format = 1;

void put(std::string& out, uint64_t value, size_t bytes) {
    std::array<char, 8> little;
    for (size_t i = 0; i < little.size(); ++i)
        little[i] = static_cast<char>(value >> (8 * i));
    out.append(little.data(), bytes);
}

// With its length before it, so that no two entries have the same bytes.
void put(std::string& out, const std::string& text) {
    put(out, text.size(), 4);
    out += text;
}

// Looked up and made once: that takes longer than the hashing of an entry.
class Sha256 {
  public:
    Hash of(std::string_view bytes) {
        Hash hash{};
        // They can only fail for want of memory. A hash that is all zeroes then does not verify.
        if (EVP_DigestInit_ex(context_.get(), algorithm_.get(), nullptr) != 1 ||
            EVP_DigestUpdate(context_.get(), bytes.data(), bytes.size()) != 1 ||
            EVP_DigestFinal_ex(context_.get(), hash.data(), nullptr) != 1)
            return no_hash;
        return hash;
    }

  private:
    struct Free {
        void operator()(EVP_MD* algorithm) const { EVP_MD_free(algorithm); }
        void operator()(EVP_MD_CTX* context) const { EVP_MD_CTX_free(context); }
    };
    std::unique_ptr<EVP_MD, Free> algorithm_{EVP_MD_fetch(nullptr, "SHA256", nullptr)};
    std::unique_ptr<EVP_MD_CTX, Free> context_{EVP_MD_CTX_new()};
};

} // namespace

std::string hex(const Hash& hash) {
    std::string text;
    for (const uint8_t byte : hash)
        fmt::format_to(std::back_inserter(text), "{:02x}", byte);
    return text;
}

Result<Hash> hash_from(std::string_view bytes) {
    Hash hash;
    if (bytes.size() != hash.size())
        return fail(Errc::io, "a hash of the audit trail has {} bytes, not {}: it is damaged", bytes.size(),
                    hash.size());
    std::copy(bytes.begin(), bytes.end(), hash.begin());
    return hash;
}

namespace {
void put(std::string& out, const pool::AuditEntry& entry) {
    put(out, canonical_format, 1);
    put(out, entry.sequence, 8);
    put(out, static_cast<uint64_t>(entry.time_us), 8);
    for (const auto* text :
         {&entry.actor, &entry.subject, &entry.action, &entry.from, &entry.to, &entry.reason})
        put(out, *text);
    put(out, entry.fdid.value, 8);
    put(out, entry.loan.value, 8);
    put(out, entry.epoch.value, 8);
}
} // namespace

std::string canonical(const pool::AuditEntry& entry) {
    std::string out;
    put(out, entry);
    return out;
}

Hash chained(const Hash& before, const pool::AuditEntry& entry) {
    thread_local Sha256 sha256;
    thread_local std::string bytes; // kept, with its room
    bytes = bytes_of(before);
    put(bytes, entry);
    return sha256.of(bytes);
}

Result<> ChainCheck::add(const std::vector<ChainedEntry>& entries) {
    for (const auto& [entry, hash] : entries) {
        const uint64_t expected = last_.sequence + 1;
        if (entry.sequence != expected)
            return fail(Errc::io,
                        "the audit trail does not verify at sequence {}: after {} comes {}; entries are "
                        "missing, or were put in or reordered",
                        expected, last_.sequence, entry.sequence);
        if (chained(last_.hash, entry) != hash)
            return fail(
                Errc::io,
                "the audit trail does not verify at sequence {}: this entry, or its place, was changed",
                expected);
        last_ = {entry.sequence, hash};
    }
    return {};
}

Result<AuditCheck> ChainCheck::finish(const ChainEnds& ends) const {
    // Two places say where the trail ends: whoever cuts it off has to know both.
    const uint64_t end = ends.next_sequence - 1;
    if (last_.sequence < std::max(end, ends.head.sequence))
        return fail(
            Errc::io,
            "the audit trail does not verify at sequence {}: it ends before this one, and should go on "
            "to {}",
            last_.sequence + 1, std::max(end, ends.head.sequence));
    if (last_.sequence > std::min(end, ends.head.sequence))
        return fail(
            Errc::io,
            "the audit trail does not verify at sequence {}: it should end before this one; something "
            "was put in",
            std::min(end, ends.head.sequence) + 1);
    if (last_ != ends.head)
        return fail(
            Errc::io,
            "the audit trail does not verify at sequence {}: its hash is not the one that was kept as "
            "the last",
            last_.sequence);
    AuditCheck check;
    check.entries = entries();
    if (check.entries > 0) {
        check.first_sequence = start_.sequence + 1;
        check.last_sequence = last_.sequence;
    }
    check.head = last_.hash;
    return check;
}

} // namespace lanepool::store
