// SPDX-License-Identifier: Apache-2.0
//
// Mutual TLS between machines: everybody shows a certificate of the site's own CA (see pki/authority.h), and
// takes nobody's that is of another.
#pragma once

#include "api/tls_files.h"
#include "base/result.h"
#include "pki/identity.h"

#include <grpcpp/security/credentials.h>
#include <grpcpp/security/server_credentials.h>
#include <memory>

namespace lanepool::api {

// What the three files hold, which fit together: the certificate is of this CA, good at this time, and of
// this key.
struct TlsTexts {
    std::string ca; // in PEM, as are the others
    std::string certificate;
    std::string key;
    pki::PeerIdentity identity; // whose they are
};
// Errors name the file, what is wrong with it and what to do: invalid_argument (a file is not named),
// not_found, permission_denied (others may read the key), protocol (a file is not what it should be, or they
// do not belong together), failed_precondition (expired, or not good yet).
Result<TlsTexts> read_tls_files(const TlsFiles& files, int64_t now_s);

// For channels to controllers. TLS 1.2 or later. The other side must show a controller's certificate, of this
// CA, for the name or address by which it is reached. Files that are renewed are taken up within seconds, for
// new connections. Errors: as read_tls_files().
Result<std::shared_ptr<grpc::ChannelCredentials>> client_credentials(const TlsFiles& files);

// For a controller's addresses. TLS 1.2 or later. Who connects must show a certificate of this CA; who it is,
// and whether it is revoked, is to be looked at with each call. Files that are renewed count from the next
// connection on; where the new ones are wrong, that is logged and the old ones count. Must outlive the server
// that uses them. Errors: as read_tls_files(), and protocol where the certificate is no controller's.
Result<std::shared_ptr<grpc::ServerCredentials>> server_credentials(const TlsFiles& files);

} // namespace lanepool::api
