// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "base/result.h"

#include <string>
#include <string_view>
#include <unordered_set>

namespace lanepool::pki {

// The serial numbers that a CA has revoked.
class RevocationList {
  public:
    RevocationList(uint64_t number, std::unordered_set<std::string> serials)
        : number_(number), serials_(std::move(serials)) {}

    // SERIAL: lower-case hexadecimal, as PeerIdentity has it.
    bool revoked(const std::string& serial) const { return serials_.contains(serial); }
    size_t size() const { return serials_.size(); }
    // Grows with each list of a CA.
    uint64_t number() const { return number_; }

  private:
    uint64_t number_;
    std::unordered_set<std::string> serials_;
};

// Reads a list, of at most 64 MiB of PEM, and checks that the CA in CA_PEM has signed it. Errors: protocol.
Result<RevocationList> load_crl(std::string_view crl_pem, std::string_view ca_pem);

// For a single question; who asks again and again keeps the list.
Result<bool> is_revoked(const std::string& serial, std::string_view crl_pem, std::string_view ca_pem);

} // namespace lanepool::pki
