// SPDX-License-Identifier: Apache-2.0
//
// Who somebody is by the certificate that he shows, and whether it still counts.
#pragma once

#include "api/tls_files.h"
#include "controller/peer.h"
#include "io/clock.h"
#include "pki/file.h"
#include "pki/revocation.h"

#include <map>
#include <memory>
#include <mutex>

namespace lanepool::controller {

class Certificates {
  public:
    // CA: the CA's certificate; CRL: its list of revoked certificates, or empty: none are. Errors: not_found,
    // protocol, naming the file.
    static Result<std::unique_ptr<Certificates>> create(const io::Clock& clock, std::filesystem::path ca,
                                                        std::filesystem::path crl);

    // PEM: what TLS has verified. permission_denied: revoked, expired, or nobody. From any thread.
    Result<Peer> peer_of(std::string_view pem) const;
    // Whether who was let in may still be. permission_denied: not. From any thread.
    Result<> check(const pki::PeerIdentity& identity) const;

    // Reads the list again where it, or the CA, is another one than before. A wrong one does not count, and
    // the one before does. From one thread.
    void refresh();

  private:
    Certificates(const io::Clock& clock, std::filesystem::path ca, std::filesystem::path crl)
        : clock_(clock), ca_(std::move(ca)), crl_(std::move(crl)) {}
    Result<std::shared_ptr<const pki::RevocationList>> read() const;
    std::shared_ptr<const pki::RevocationList> revoked() const;
    Result<pki::PeerIdentity> identity_of(std::string_view pem) const;

    const io::Clock& clock_;
    const std::filesystem::path ca_;
    const std::filesystem::path crl_;
    pki::FileStamp ca_stamp_;
    pki::FileStamp crl_stamp_;
    mutable std::mutex mutex_; // of the following
    std::shared_ptr<const pki::RevocationList> revoked_;
    // What has been read already, by PEM: OpenSSL takes as long for one as the whole rest of a call.
    mutable std::map<std::string, pki::PeerIdentity, std::less<>> read_;
};

} // namespace lanepool::controller
