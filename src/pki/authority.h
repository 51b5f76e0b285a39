// SPDX-License-Identifier: Apache-2.0
//
// A CA in a folder, for the controllers, agents and people of one site:
//
//   ca.key       its key, readable by its owner alone
//   ca.pem       its certificate: what all others trust
//   crl.pem      whom it has revoked; written anew by each revocation
//   index.json   what it has issued
//   issued/      NAME.key and NAME.pem: a certificate followed by the CA's
//
// All are replaced as a whole, so that a crash leaves the old or the new one. One command at a time works on
// a folder. Times are Unix times, handed in.
#pragma once

#include "base/unique_fd.h"
#include "pki/index.h"

#include <filesystem>
#include <string>
#include <vector>

namespace lanepool::pki {

inline constexpr int ca_days = 3650;
inline constexpr int default_days = 365;
inline constexpr int most_days = 3650;

class Authority {
  public:
    // Makes a CA in FOLDER, which is made, too, if it is not there. Errors: already_exists, io,
    // invalid_argument.
    static Result<> init(const std::filesystem::path& folder, const std::string& name, int64_t now_s);
    // Errors: not_found, busy (another command works on it), protocol (its files are broken).
    static Result<Authority> open(const std::filesystem::path& folder);

    // A key and a certificate for HOLDER, good for DAYS or until the CA ends. An agent without a host gets
    // its own name as host, a controller without DNS names and addresses its own name as DNS name. Errors:
    // invalid_argument, already_exists, permission_denied (others can read the CA's key), failed_precondition
    // (the CA has expired).
    Result<Issued> issue(Holder holder, int days, int64_t now_s);
    // A new certificate for the key of the one that NAME has. The old one stays good for as long as it says.
    // Errors: as issue(), and not_found.
    Result<Issued> renew(const std::string& name, int days, int64_t now_s);
    // Revokes the certificate with a serial number, or all of a name that are not expired. What is revoked
    // already is not an error. Gives what is revoked now by these words. Errors: as issue(), and not_found.
    Result<std::vector<Issued>> revoke(const std::string& name_or_serial, int64_t now_s);

    const std::vector<Issued>& issued() const { return index_.issued; }
    std::filesystem::path key_path(const std::string& name) const {
        return folder_ / "issued" / (name + ".key");
    }
    std::filesystem::path chain_path(const std::string& name) const {
        return folder_ / "issued" / (name + ".pem");
    }

  private:
    Authority(std::filesystem::path folder, UniqueFd lock, CertificatePtr certificate, Index index);
    // The key, once it is known that nobody else can have read it, and that the CA may sign.
    Result<KeyPtr> signing_key(int64_t now_s) const;
    Result<Issued> sign(Holder holder, EVP_PKEY* public_key, int days, int64_t now_s, EVP_PKEY* key);
    Result<> store_index();
    Result<> store_crl(int64_t now_s, EVP_PKEY* key);
    // Writes the list again where it is not the index's: a command was interrupted.
    Result<> mend_crl(int64_t now_s, EVP_PKEY* key);
    const Issued* newest(const std::string& name) const;

    std::filesystem::path folder_;
    UniqueFd lock_;
    CertificatePtr certificate_;
    Index index_;
};

} // namespace lanepool::pki
