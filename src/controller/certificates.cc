// SPDX-License-Identifier: Apache-2.0
#include "controller/certificates.h"

#include <spdlog/spdlog.h>

namespace lanepool::controller {

namespace {
constexpr size_t most_read = 4096; // kept; then they are read anew

std::optional<pool::Role> role_of_person(pki::Role role) {
    switch (role) {
    case pki::Role::user:
        return pool::Role::user;
    case pki::Role::operator_:
        return pool::Role::operator_;
    case pki::Role::admin:
        return pool::Role::admin;
    case pki::Role::agent:
    case pki::Role::controller:
        break;
    }
    return std::nullopt;
}
} // namespace

Result<std::unique_ptr<Certificates>> Certificates::create(const io::Clock& clock, std::filesystem::path ca,
                                                           std::filesystem::path crl) {
    std::unique_ptr<Certificates> certificates(new Certificates(clock, std::move(ca), std::move(crl)));
    if (certificates->crl_.empty()) {
        spdlog::warn("no certificate can be revoked: --tls-crl does not name a list");
        return certificates;
    }
    certificates->ca_stamp_ = pki::stamp_of(certificates->ca_);
    certificates->crl_stamp_ = pki::stamp_of(certificates->crl_);
    certificates->revoked_ = TRY(certificates->read());
    return certificates;
}

Result<std::shared_ptr<const pki::RevocationList>> Certificates::read() const {
    const std::string ca = TRY(pki::read_file(ca_, pki::most_pem_bytes));
    auto crl = pki::read_file(crl_, pki::most_crl_bytes);
    if (!crl)
        return fail(crl.error().code(), "--tls-crl: {}; it is the crl.pem of the CA's folder",
                    crl.error().message());
    auto list = pki::load_crl(*crl, ca);
    if (!list) return tl::unexpected<Error>(list.error().within(crl_.string()));
    return std::make_shared<const pki::RevocationList>(std::move(*list));
}

std::shared_ptr<const pki::RevocationList> Certificates::revoked() const {
    const std::lock_guard lock(mutex_);
    return revoked_;
}

void Certificates::refresh() {
    if (crl_.empty()) return;
    const auto ca_stamp = pki::stamp_of(ca_);
    const auto crl_stamp = pki::stamp_of(crl_);
    if (ca_stamp == ca_stamp_ && crl_stamp == crl_stamp_) return;
    const bool same_ca = ca_stamp == ca_stamp_;
    auto list = read();
    ca_stamp_ = ca_stamp;
    crl_stamp_ = crl_stamp;
    // One that is older than what is known would let in who has been revoked since.
    if (list && same_ca && (*list)->number() < revoked_->number())
        list = fail(Errc::failed_precondition, "{} is list number {}, and number {} is known already",
                    crl_.string(), (*list)->number(), revoked_->number());
    if (!list) {
        spdlog::error("the new list of revoked certificates does not count, and the one before, number {}, "
                      "does: {}",
                      revoked_->number(), list.error().message());
        return;
    }
    spdlog::info("{} certificates are revoked, by list number {}", (*list)->size(), (*list)->number());
    const std::lock_guard lock(mutex_);
    revoked_ = std::move(*list);
}

Result<> Certificates::check(const pki::PeerIdentity& identity) const {
    constexpr int64_t us_per_s = 1'000'000;
    if (const auto list = revoked(); list && list->revoked(identity.serial))
        return fail(Errc::permission_denied,
                    "the certificate of {} {} (serial number {}) has been revoked; ask for another one",
                    name(identity.role), identity.name, identity.serial);
    if (clock_.unix_time_us() >= identity.not_after_s * us_per_s)
        return fail(Errc::permission_denied,
                    "the certificate of {} {} has expired; `lanepool pki renew {}` makes a new one, which is "
                    "to be put where --tls-cert points to",
                    name(identity.role), identity.name, identity.name);
    return {};
}

Result<pki::PeerIdentity> Certificates::identity_of(std::string_view pem) const {
    {
        const std::lock_guard lock(mutex_);
        if (const auto found = read_.find(pem); found != read_.end()) return found->second;
    }
    auto identity = pki::identity_of(pem);
    if (!identity) return fail(Errc::permission_denied, "{}", identity.error().message());
    const std::lock_guard lock(mutex_);
    if (read_.size() >= most_read) read_.clear();
    read_.emplace(pem, *identity);
    return identity;
}

Result<Peer> Certificates::peer_of(std::string_view pem) const {
    auto identity = TRY(identity_of(pem));
    TRY(check(identity));
    Peer peer;
    peer.caller.user = identity.name;
    // What it is to be used for as a person, if it ever is: nothing.
    peer.caller.certified = role_of_person(identity.role).value_or(pool::Role::user);
    peer.agent_of = identity.host;
    peer.certificate = std::move(identity);
    return peer;
}

} // namespace lanepool::controller
