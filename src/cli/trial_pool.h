// SPDX-License-Identifier: Apache-2.0
//
// A trial's bench that is the real pool: asked as an operator asks it, and as a program of the device's host.
#pragma once

#include "cli/context.h"
#include "lanepool/session.h"
#include "pci/types.h"
#include "qualify/trial_bench.h"

#include <optional>

namespace lanepool::cli {

struct TrialSubject {
    std::string name; // HOST/DEVICE
    uint64_t fdid = 0;
    uint32_t class_code = 0;
    std::optional<pci::Address> address; // on this machine's buses; none: it is on none
    std::string agent;                   // the application socket; empty: the default
};

class TrialPool final : public qualify::TrialBench {
  public:
    // CONTEXT must outlive it. From now on SIGINT and SIGTERM ask for the trial's end, instead of ending the
    // process.
    static Result<std::unique_ptr<TrialPool>> create(const Context& context, TrialSubject subject);
    ~TrialPool() override;

    bool is_drive() const override;
    bool has_host() const override { return subject_.address.has_value(); }
    Result<qualify::TrialState> look() override;
    Result<> restore() override;
    Result<> leave_local() override;
    Result<> reset() override;
    Result<std::string> host_driver() override;
    Result<std::unique_ptr<qualify::TrialLoan>> borrow() override;
    Result<std::unique_ptr<qualify::TrialBorrower>> start_borrower(uint64_t seed) override;
    void pause() override;
    bool cancelled() const override;
    void progress(const std::string& doing) override;

  private:
    TrialPool(const Context& context, TrialSubject subject, Session session);

    const Context& context_;
    const TrialSubject subject_;
    Session session_;
    int64_t said_ms_; // when something was last shown
};

inline constexpr uint32_t nvme_class = 0x010802;

} // namespace lanepool::cli
