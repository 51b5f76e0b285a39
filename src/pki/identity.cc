// SPDX-License-Identifier: Apache-2.0
#include "pki/identity.h"

#include "pki/openssl.h"

#include <algorithm>

namespace lanepool::pki {

namespace {

constexpr std::string_view scheme = "lanepool:";
constexpr std::string_view host_kind = "host";

// As it stands there, octet by octet: what has a zero in it is not the same as what ends there.
std::string_view octets(const ASN1_STRING* string) {
    return {reinterpret_cast<const char*>(ASN1_STRING_get0_data(string)),
            static_cast<size_t>(ASN1_STRING_length(string))};
}

Result<std::string> only_entry(const X509_NAME* subject, int nid, std::string_view what) {
    const int at = X509_NAME_get_index_by_NID(subject, nid, -1);
    if (at < 0 || X509_NAME_get_index_by_NID(subject, nid, at) >= 0)
        return fail(Errc::protocol,
                    "the certificate's subject does not have one {}; use one of 'lanepool pki issue'", what);
    return std::string(octets(X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at))));
}

// Takes lanepool:KIND/NAME into IDENTITY; each kind may be there once.
Result<> take_uri(std::string_view uri, PeerIdentity& identity) {
    const auto slash = uri.find('/');
    const std::string_view kind = uri.substr(0, slash);
    const std::string_view name =
        slash == std::string_view::npos ? std::string_view() : uri.substr(slash + 1);
    const auto role = role_named(kind);
    if (!is_name(name) || (!role && kind != host_kind))
        return fail(Errc::protocol,
                    "the certificate has an alternative name of lanepool that is not lanepool:ROLE/NAME");
    std::string& place = role ? identity.name : identity.host;
    if (!place.empty())
        return fail(Errc::protocol, "the certificate says twice who it is; use one of 'lanepool pki issue'");
    place = name;
    if (role) identity.role = *role;
    return {};
}

Result<> read_alternative_names(const X509* certificate, PeerIdentity& identity) {
    int state = 0;
    const NamesPtr names(
        static_cast<GENERAL_NAMES*>(X509_get_ext_d2i(certificate, NID_subject_alt_name, &state, nullptr)));
    // -1: there are none; -2: there are several extensions of them.
    if (!names)
        return fail(Errc::protocol,
                    "the certificate has no readable alternative names; use one of 'lanepool pki issue'");
    for (int i = 0; i < sk_GENERAL_NAME_num(names.get()); ++i) {
        const auto* entry = sk_GENERAL_NAME_value(names.get(), i);
        if (entry->type != GEN_URI) continue;
        auto uri = octets(entry->d.uniformResourceIdentifier);
        if (!uri.starts_with(scheme)) continue;
        uri.remove_prefix(scheme.size());
        TRY(take_uri(uri, identity));
    }
    return {};
}

bool is_alphanumeric(char c) {
    return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
}

} // namespace

std::string_view name(Role role) {
    switch (role) {
    case Role::admin:
        return "admin";
    case Role::operator_:
        return "operator";
    case Role::user:
        return "user";
    case Role::agent:
        return "agent";
    case Role::controller:
        return "controller";
    }
    return "unknown";
}

std::optional<Role> role_named(std::string_view text) {
    const auto* found = std::ranges::find(roles, text, [](Role role) { return name(role); });
    return found == roles.end() ? std::nullopt : std::optional(*found);
}

bool is_name(std::string_view text) {
    return !text.empty() && text.size() <= 63 && is_alphanumeric(text.front()) &&
           std::ranges::all_of(text,
                               [](char c) { return is_alphanumeric(c) || c == '.' || c == '_' || c == '-'; });
}

Result<PeerIdentity> identity_of(std::string_view pem_chain) {
    const auto certificate = TRY(read_certificate(pem_chain, "what the peer has shown"));
    if (X509_check_ca(certificate.get()) != 0)
        return fail(Errc::protocol,
                    "the certificate is that of a CA, and names nobody; use one of 'lanepool pki issue'");
    PeerIdentity identity;
    TRY(read_alternative_names(certificate.get(), identity));
    if (identity.name.empty())
        return fail(
            Errc::protocol,
            "the certificate has no alternative name lanepool:ROLE/NAME; use one of 'lanepool pki issue'");
    if ((identity.role == Role::agent) == identity.host.empty())
        return fail(Errc::protocol,
                    "the certificate names a host for somebody who is no agent, or none for an agent");
    const auto* subject = X509_get_subject_name(certificate.get());
    const std::string common_name = TRY(only_entry(subject, NID_commonName, "common name"));
    const std::string unit = TRY(only_entry(subject, NID_organizationalUnitName, "organizational unit"));
    if (common_name != identity.name || unit != fmt::format("lanepool {}", name(identity.role)))
        return fail(Errc::protocol,
                    "the certificate's subject is somebody else than its alternative name {}/{}",
                    name(identity.role), identity.name);
    identity.serial = TRY(serial_text(X509_get0_serialNumber(certificate.get())));
    identity.not_after_s = TRY(unix_time_s(X509_get0_notAfter(certificate.get())));
    return identity;
}

} // namespace lanepool::pki
