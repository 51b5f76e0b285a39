// SPDX-License-Identifier: Apache-2.0
//
// What stands behind an Adapter and everything that was made from it. It outlives the Adapter as long as
// somebody holds a window or an export, but then it is dead: the function is gone and every use says so.
#pragma once

#include "ntb/adapter.h"
#include "ntb/control_tables.h"
#include "ntb/event_words.h"
#include "ntb/exports.h"
#include "ntb/interrupts.h"
#include "ntb/links.h"
#include "ntb/messages.h"
#include "ntb/probe.h"
#include "ntb/relays.h"
#include "ntb/wide_access.h"

#include <memory>
#include <shared_mutex>

namespace lanepool::ntb {

class AdapterState {
  public:
    static Result<std::shared_ptr<AdapterState>> create(std::unique_ptr<pci::Function> function,
                                                        AdapterEvents events);

    // Stops events, takes everything back and lets the function go.
    void shut_down();

    // Calls USE with the parts below while the function is kept. Errors: disconnected when it is gone. When
    // USE returns that, the adapter is looked at: it may have been another device that has gone.
    template <class Use>
    auto with(Use use) -> decltype(use()) {
        const std::shared_lock lock(life_);
        if (!function_) return fail(Errc::disconnected, "the adapter was shut down");
        auto result = use();
        if (!result && result.error().code() == Errc::disconnected) check_gone();
        return result;
    }

    const Identity& identity() const { return identity_; }
    // Only inside with(), or while the Adapter is known to be there.
    pci::Function& function() { return *function_; }
    ControlTables& tables() { return *tables_; }
    Exports& exports() { return *exports_; }
    Links& links() { return *links_; }
    Messages& messages() { return *messages_; }
    EventWords& event_words() { return event_words_; }
    Relays& relays() { return *relays_; }
    WideAccess& window_bars() { return *window_bars_; }

    // Fails with `unavailable` unless the links of both ends are up. PARTITION is not the own one.
    Result<> check_link(Partition partition);

  private:
    AdapterState() = default;
    void check_gone();

    std::shared_mutex life_; // exclusively held while the function goes
    Identity identity_;
    EventWords event_words_;
    std::unique_ptr<Links> links_;
    std::unique_ptr<Messages> messages_;
    std::unique_ptr<ControlTables> tables_;
    std::unique_ptr<Exports> exports_;
    std::unique_ptr<Interrupts> interrupts_;
    std::unique_ptr<Relays> relays_;          // on the loop of interrupts_
    std::unique_ptr<WideAccess> window_bars_; // keeps parts of the function mapped
    std::unique_ptr<pci::Function> function_; // destroyed first: it calls report_gone()
};

} // namespace lanepool::ntb
