// SPDX-License-Identifier: Apache-2.0
//
// What a site allows: who a caller is, what he may do, which rule lets him borrow a device and on which
// terms.
#pragma once

#include "base/result.h"
#include "pool/input.h"
#include "pool/records.h"
#include "pool/site.h"

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>

namespace lanepool::pool {

inline constexpr int32_t highest_priority = 1000; // and the lowest is -1000
// The rule of a loan that the owner of the pool asked for. No rule of a site has such a name.
inline constexpr std::string_view owners_rule = "(owner)";

// A caller as the site knows him.
struct Who {
    std::string user;
    std::string tenant;
    Role role = Role::user;
    bool owner = false;              // no rule and no limit is for him
    std::optional<Role> certified{}; // he shows a certificate of this role
    std::string agent_of{};          // as in Caller

    // As he is written down.
    std::string full_name() const { return agent_of.empty() ? user : user + "@" + agent_of; }
    bool may_act_as(Role least) const { return owner || role >= least; }
};

// Never changes: a changed site is another Policy. Pointers into it are valid as long as it is.
class Policy {
  public:
    explicit Policy(Site site);
    Policy(const Policy&) = delete;
    Policy& operator=(const Policy&) = delete;

    const Site& site() const { return site_; }

    // Somebody whom the site does not know is a user without a tenant; with a certificate, what that says. A
    // certificate never makes more of somebody than the site does that names him, nor the site more than the
    // certificate: either can be taken back without the other.
    Who who(const Caller& caller) const;
    // As whoever asked for LOAN, and without his role.
    Who requester(const Loan& loan) const;
    // permission_denied: an agent asks in his name, and it is not for a loan of its kind and host.
    Result<> check_agent(const Who& who, AccessModel model, const std::string& host,
                         std::string_view what) const;
    // permission_denied: he may not do WHAT ("drain hosts and devices").
    Result<> check_role(const Who& who, Role least, std::string_view what) const;
    // permission_denied: WHAT ("return") of a loan of another tenant takes an operator.
    Result<> check_tenant(const Who& who, const Loan& loan, std::string_view what) const;

    // Null where the site says nothing about it.
    const HostRule* host(std::string_view name) const;
    bool lends(std::string_view host) const;
    bool borrows(std::string_view host) const;
    // 0: no limit.
    uint32_t most_loans(const std::string& tenant) const;
    bool is_in(std::string_view device_class, const Device& device) const;
    // The first that names a class of the device; without one, the rule that is everybody's.
    const FailureRule& failure_rule(const Device& device) const;

    // The rule that lets him borrow this device for this host. permission_denied names the rule that is
    // against it, or those that would allow something to him; failed_precondition names what the device
    // lacks.
    Result<const Rule*> admit(const Who& who, const std::string& host, const Device& device) const;
    // Seconds, 0 for no due time. out_of_range names the rule and its limit.
    Result<int64_t> duration_s(const Who& who, const Rule& rule, std::optional<int64_t> asked) const;
    Result<int32_t> priority(const Who& who, const Rule& rule, std::optional<int32_t> asked) const;
    // permission_denied: RULE does not let him borrow in this mode; it names those that it does. None is
    // always allowed.
    Result<> check_dma(const Who& who, const Rule& rule, DmaMode asked) const;
    // What HOST's own kernel borrows in: ASKED, or if that is none the first that RULE allows and the host
    // offers. failed_precondition names what the host offers.
    Result<DmaMode> dma(const Who& who, const Rule& rule, const Host& host, DmaMode asked) const;
    // The rule that let LOAN in; where it is there no more, what holds without rules.
    const Rule& rule_of(const Loan& loan) const;

    // What has changed from BEFORE to this, in one line, for the audit trail.
    std::string changes_since(const Policy& before) const;

  private:
    const Rule* rule_for(const Who& who, const std::string& host, const Device& device) const;
    std::string allowances(const Who& who) const;

    const Site site_;
    const Rule everything_; // where no rule says anything
    const FailureRule ordinary_;
    std::map<std::string, const User*, std::less<>> users_;
    std::map<std::string, const Tenant*, std::less<>> tenants_;
    std::map<std::string, const HostRule*, std::less<>> hosts_;
    std::map<std::string, const DeviceClass*, std::less<>> classes_;
    std::map<std::string, const Rule*, std::less<>> rules_;
};

} // namespace lanepool::pool
