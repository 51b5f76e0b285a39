// SPDX-License-Identifier: Apache-2.0
//
// For tests: records in which every field has a value of its own, and none its default. A field that is
// added to a record does not compile here until it is filled, and then has to come back from the stores.
#pragma once

#include "pool/records.h"

namespace lanepool::store::test {

class Filler {
  public:
    explicit Filler(uint64_t seed) : next_(seed) {}

    template <class... Fields>
    void operator()(Fields&... fields) {
        (fill(fields), ...);
    }

  private:
    void fill(std::string& text) { text = fmt::format("text {} \xff", ++next_); }
    void fill(bool& flag) { flag = !flag; }
    void fill(uint32_t& number) { number = static_cast<uint32_t>(UINT32_MAX - ++next_); }
    void fill(int32_t& number) { number = static_cast<int32_t>(INT32_MIN + static_cast<int64_t>(++next_)); }
    void fill(uint64_t& number) { number = UINT64_MAX - ++next_; }
    void fill(int64_t& number) { number = INT64_MIN + static_cast<int64_t>(++next_); }
    template <class Tag>
    void fill(pool::Id<Tag>& id) {
        fill(id.value);
    }
    void fill(std::vector<std::string>& texts) {
        texts.resize(2);
        (*this)(texts[0], texts[1]);
    }
    void fill(pool::DeviceState& state) { state = pool::DeviceState::quarantined; }
    void fill(pool::LoanState& state) { state = pool::LoanState::quiescing; }
    void fill(pool::StepKind& kind) { kind = pool::StepKind::sanitize; }
    void fill(pool::AccessModel& model) { model = pool::AccessModel::smartio; }
    void fill(pool::DmaMode& mode) { mode = pool::DmaMode::iommu; }
    void fill(std::vector<pool::DmaMode>& modes) { modes = {pool::DmaMode::iommu, pool::DmaMode::direct}; }
    void fill(pool::StepTime& time) {
        auto& [step, duration] = time;
        (*this)(step, duration);
    }
    void fill(std::vector<pool::StepTime>& times) {
        times.resize(2);
        (*this)(times[0], times[1]);
    }
    void fill(pool::DeviceIdentity& identity) {
        auto& [a, b, c, d, e, f, g, h] = identity;
        (*this)(a, b, c, d, e, f, g, h);
    }
    void fill(pool::Selector& selector) {
        auto& [a, b, c, d, e, f, g] = selector;
        (*this)(a, b, c, d, e, f, g);
    }

    uint64_t next_;
};

// Every field of a record.
inline void fill(pool::Host& host, uint64_t seed) {
    auto& [a, b, c, d, e, f, g, h, i, j, k, l, m] = host;
    Filler{seed}(a, b, c, d, e, f, g, h, i, j, k, l, m);
}
inline void fill(pool::Device& device, uint64_t seed) {
    auto& [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, t, u, v, w] = device;
    Filler{seed}(a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, t, u, v, w);
}
inline void fill(pool::Loan& loan, uint64_t seed) {
    auto& [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, t, u, v, w, x, y, z, aa, bb, cc, dd, ee,
           ff, gg, hh, ii, jj, kk, ll, mm, nn] = loan;
    Filler{seed}(a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, t, u, v, w, x, y, z, aa, bb, cc, dd,
                 ee, ff, gg, hh, ii, jj, kk, ll, mm, nn);
}
inline void fill(pool::Step& step, uint64_t seed) {
    auto& [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o] = step;
    Filler{seed}(a, b, c, d, e, f, g, h, i, j, k, l, m, n, o);
}
inline void fill(pool::Usage& usage, uint64_t seed) {
    auto& [a, b, c] = usage;
    Filler{seed}(a, b, c);
}
inline void fill(pool::Counters& counters, uint64_t seed) {
    auto& [a, b, c, d] = counters;
    Filler{seed}(a, b, c, d);
}
inline void fill(pool::AuditEntry& entry, uint64_t seed) {
    auto& [a, b, c, d, e, f, g, h, i, j, k] = entry;
    Filler{seed}(a, b, c, d, e, f, g, h, i, j, k);
}

// RECORD as it comes back: what is not stored is as in a new one.
inline pool::Host as_stored(pool::Host host) {
    host.up = false;
    host.borrower_grace_steady_us = host.lender_grace_steady_us = 0;
    return host;
}
inline pool::Loan as_stored(pool::Loan loan) {
    loan.due_steady_us = loan.warn_steady_us = 0;
    loan.wait_until_steady_us = loan.crash_steady_us = 0;
    return loan;
}
inline pool::Step as_stored(pool::Step step) {
    step.sent_steady_us = step.deadline_steady_us = 0;
    return step;
}
template <class Record>
Record as_stored(Record record) {
    return record;
}

template <class Record>
Record filled(uint64_t seed = 0) {
    Record record;
    fill(record, seed);
    return as_stored(record);
}

// An entry of the trail with this sequence.
inline pool::AuditEntry entry(uint64_t sequence) {
    auto made = filled<pool::AuditEntry>(sequence);
    made.sequence = sequence;
    return made;
}

// Loan NUMBER, with everything around it and one entry of the trail, whose sequence is NUMBER too.
inline pool::Outcome outcome(uint64_t number = 1) {
    pool::Outcome made;
    made.hosts.push_back(filled<pool::Host>());
    made.hosts[0].name = "store";
    made.devices.push_back(filled<pool::Device>());
    made.devices[0].fdid = {0x80000};
    made.devices[0].loan = {number};
    made.loans.push_back(filled<pool::Loan>());
    made.loans[0].id = {number};
    made.steps.push_back(filled<pool::Step>());
    made.steps[0].id = {number};
    made.usage.push_back(filled<pool::Usage>());
    made.counters = {{0x80001}, {number + 1}, {number + 1}, number + 1};
    made.audit.push_back(entry(number));
    return made;
}

} // namespace lanepool::store::test
