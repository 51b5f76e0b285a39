// SPDX-License-Identifier: Apache-2.0
#include "pki/authority.h"

#include "io/replace_file.h"
#include "pki/file.h"
#include "pki/revocation.h"

#include <algorithm>
#include <cerrno>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#include <utility>

namespace lanepool::pki {

namespace {

namespace fs = std::filesystem;

constexpr int64_t day_s = 86400;
constexpr int64_t clock_difference_s = 300; // that hosts may have from one another
// A new list must not stop a host whose clock is slow from trusting everybody who is not on it: it is dated
// back.
constexpr int64_t crl_difference_s = day_s;

// In a CA's own folder nothing is somewhere else.
Result<std::string> read(const fs::path& path) { return read_file(path, most_crl_bytes, Links::refuse); }

bool is_there(const fs::path& path) {
    std::error_code error;
    return fs::symlink_status(path, error).type() != fs::file_type::not_found;
}

Result<UniqueFd> lock(const fs::path& folder) {
    const fs::path path = folder / "lock";
    UniqueFd fd(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
    if (!fd) return fail_errno(fmt::format("opening {}", path.string()));
    if (::flock(fd.get(), LOCK_EX | LOCK_NB) != 0) {
        if (errno == EWOULDBLOCK)
            return fail(Errc::busy, "another command works on {}; try again when it has ended",
                        folder.string());
        return fail_errno(fmt::format("locking {}", path.string()));
    }
    return fd;
}

Result<> make_folder(const fs::path& path) {
    if (::mkdir(path.c_str(), 0700) != 0 && errno != EEXIST)
        return fail_errno(fmt::format("making {}", path.string()));
    return {};
}

Result<> check_days(int days) {
    if (days >= 1 && days <= most_days) return {};
    return fail(Errc::invalid_argument, "a certificate cannot be good for {} days; ask for 1 to {}", days,
                most_days);
}

// What has been issued and is to be lived with: the caller's words stay in his folder alone.
void remove_quietly(const fs::path& path) {
    std::error_code error;
    fs::remove(path, error);
}

} // namespace

Authority::Authority(fs::path folder, UniqueFd lock, CertificatePtr certificate, Index index)
    : folder_(std::move(folder)), lock_(std::move(lock)), certificate_(std::move(certificate)),
      index_(std::move(index)) {}

Result<> Authority::init(const fs::path& folder, const std::string& name, int64_t now_s) {
    if (!is_name(name))
        return fail(Errc::invalid_argument,
                    "'{}' is no name: it takes 1 to 63 letters, digits, '.', '_' and '-', the first a letter "
                    "or digit",
                    name);
    TRY(make_folder(folder));
    UniqueFd held = TRY(lock(folder));
    for (const auto* file : {"ca.key", "ca.pem", "crl.pem", "index.json", "issued"})
        if (is_there(folder / file))
            return fail(Errc::already_exists,
                        "there is a {} already, and nothing is overwritten; name another folder",
                        (folder / file).string());
    const auto key = TRY(make_key());
    auto certificate = TRY(make_ca_certificate(
        key.get(), name, TRY(make_serial()), {now_s - clock_difference_s, now_s + int64_t{ca_days} * day_s}));
    const std::string certificate_pem = TRY(to_pem(certificate.get()));
    Authority authority(folder, std::move(held), std::move(certificate), {});
    TRY(make_folder(folder / "issued"));
    TRY(authority.store_crl(now_s, key.get()));
    TRY(io::replace_file(folder / "ca.pem", certificate_pem));
    // Last: without it there is no CA.
    return io::replace_file(folder / "ca.key", TRY(to_pem(key.get())));
}

Result<Authority> Authority::open(const fs::path& folder) {
    if (!is_there(folder / "ca.pem") || !is_there(folder / "index.json"))
        return fail(Errc::not_found, "there is no CA in {}; make one with 'lanepool pki init {}'",
                    folder.string(), folder.string());
    UniqueFd held = TRY(lock(folder));
    auto certificate = TRY(read_certificate(TRY(read(folder / "ca.pem")), (folder / "ca.pem").string()));
    auto index = TRY(parse_index(TRY(read(folder / "index.json")), (folder / "index.json").string()));
    return Authority(folder, std::move(held), std::move(certificate), std::move(index));
}

Result<KeyPtr> Authority::signing_key(int64_t now_s) const {
    const fs::path path = folder_ / "ca.key";
    const std::string pem = TRY(read_private_file(path, "make a new CA", Links::refuse));
    auto key = TRY(read_key(pem, path.string()));
    if (X509_check_private_key(certificate_.get(), key.get()) != 1)
        return fail_openssl(
            Errc::protocol,
            fmt::format("{} is not the key of ca.pem; take both from one backup", path.string()));
    const int64_t until_s = TRY(unix_time_s(X509_get0_notAfter(certificate_.get())));
    if (now_s >= until_s)
        return fail(
            Errc::failed_precondition,
            "the CA in {} has expired; make a new one in another folder, and give everybody its ca.pem",
            folder_.string());
    return key;
}

const Issued* Authority::newest(const std::string& name) const {
    const auto found = std::find_if(index_.issued.rbegin(), index_.issued.rend(), [&](const Issued& each) {
        return each.holder.name == name && !each.revoked();
    });
    return found == index_.issued.rend() ? nullptr : &*found;
}

Result<> Authority::store_index() { return io::replace_file(folder_ / "index.json", to_text(index_)); }

// The index goes first: if the list is lost on the way, it is written anew from the index, and nothing is
// forgiven.
Result<> Authority::store_crl(int64_t now_s, EVP_PKEY* key) {
    ++index_.crl_number;
    TRY(store_index());
    std::vector<RevokedSerial> revoked;
    for (const auto& issued : index_.issued)
        if (issued.revoked()) revoked.push_back({issued.serial, issued.revoked_s});
    const auto crl =
        TRY(make_crl(revoked, index_.crl_number, now_s - crl_difference_s, {certificate_.get(), key}));
    return io::replace_file(folder_ / "crl.pem", TRY(to_pem(crl.get())));
}

Result<> Authority::mend_crl(int64_t now_s, EVP_PKEY* key) {
    const auto crl = read(folder_ / "crl.pem");
    const auto ca = TRY(to_pem(certificate_.get()));
    const auto list = crl ? load_crl(*crl, ca) : tl::unexpected<Error>(crl.error());
    if (list && list->number() == index_.crl_number) return {};
    return store_crl(now_s, key);
}

Result<Issued> Authority::sign(Holder holder, EVP_PKEY* public_key, int days, int64_t now_s, EVP_PKEY* key) {
    TRY(mend_crl(now_s, key));
    const int64_t ca_until_s = TRY(unix_time_s(X509_get0_notAfter(certificate_.get())));
    Issued issued{std::move(holder),
                  TRY(make_serial()),
                  {now_s - clock_difference_s, std::min(now_s + days * day_s, ca_until_s)},
                  0};
    const auto certificate = TRY(make_certificate(issued.holder, public_key, issued.serial, issued.validity,
                                                  {certificate_.get(), key}));
    const std::string chain = TRY(to_pem(certificate.get())) + TRY(to_pem(certificate_.get()));
    // A certificate that is not in the index could never be revoked, so the index is on the disk first.
    index_.issued.push_back(issued);
    TRY(store_index());
    TRY(io::replace_file(chain_path(issued.holder.name), chain));
    return issued;
}

Result<Issued> Authority::issue(Holder holder, int days, int64_t now_s) {
    if (holder.role == Role::agent && holder.host.empty()) holder.host = holder.name;
    if (holder.role == Role::controller && holder.dns.empty() && holder.ip.empty())
        holder.dns.push_back(holder.name);
    TRY(check(holder));
    TRY(check_days(days));
    if (index_.issued.size() >= most_issued)
        return fail(Errc::no_space,
                    "the CA in {} has issued {} certificates, and takes no more; make a new one",
                    folder_.string(), most_issued);
    if (newest(holder.name))
        return fail(Errc::already_exists,
                    "'{}' has a certificate; renew it with 'lanepool pki renew {}', or revoke it first",
                    holder.name, holder.name);
    for (const auto& path : {key_path(holder.name), chain_path(holder.name)})
        if (is_there(path))
            return fail(Errc::already_exists,
                        "there is a {} already, and nothing is overwritten; move it away", path.string());
    const auto ca_key = TRY(signing_key(now_s));
    const auto key = TRY(make_key());
    const fs::path path = key_path(holder.name);
    TRY(io::replace_file(path, TRY(to_pem(key.get()))));
    auto issued = sign(std::move(holder), key.get(), days, now_s, ca_key.get());
    if (!issued) remove_quietly(path); // so that it can be tried again
    return issued;
}

Result<Issued> Authority::renew(const std::string& name, int days, int64_t now_s) {
    TRY(check_days(days));
    const auto* current = newest(name);
    if (!current)
        return fail(Errc::not_found, "'{}' has no certificate that is not revoked; issue one", name);
    const auto ca_key = TRY(signing_key(now_s));
    const std::string path = chain_path(name).string();
    const std::string chain = TRY(read(path));
    const auto certificate = TRY(read_certificate(chain, path));
    // The file may have been put there by somebody else: only a key that this CA has once certified is
    // certified again.
    const auto identity = identity_of(chain);
    if (X509_verify(certificate.get(), X509_get0_pubkey(certificate_.get())) != 1 || !identity ||
        identity->name != name)
        return fail_openssl(
            Errc::protocol,
            fmt::format("{} is not what this CA has issued to '{}'; revoke it and issue it anew", path,
                        name));
    return sign(current->holder, X509_get0_pubkey(certificate.get()), days, now_s, ca_key.get());
}

Result<std::vector<Issued>> Authority::revoke(const std::string& name_or_serial, int64_t now_s) {
    const auto ca_key = TRY(signing_key(now_s));
    const bool is_serial =
        std::ranges::any_of(index_.issued, [&](const Issued& each) { return each.serial == name_or_serial; });
    std::vector<Issued> meant;
    std::vector<Issued> already;
    for (auto& each : index_.issued) {
        if ((is_serial ? each.serial : each.holder.name) != name_or_serial) continue;
        if (!each.revoked() && !is_serial && each.validity.not_after_s <= now_s) continue;
        auto& list = each.revoked() ? already : meant;
        if (!each.revoked()) each.revoked_s = now_s;
        list.push_back(each);
    }
    // Said again, perhaps since the first time did not come to its end: then the list is written again.
    if (meant.empty()) meant = std::move(already);
    if (meant.empty())
        return fail(Errc::not_found,
                    "'{}' has no certificate that is not expired; 'lanepool pki ls' lists them all",
                    name_or_serial);
    TRY(store_crl(now_s, ca_key.get()));
    for (const auto& each : meant) {
        if (newest(each.holder.name)) continue;
        remove_quietly(key_path(each.holder.name)); // worth nothing any more, and in the way of a new one
        remove_quietly(chain_path(each.holder.name));
    }
    return meant;
}

} // namespace lanepool::pki
