// SPDX-License-Identifier: Apache-2.0
#include "controllers/trail_check.h"

namespace lanepool::controllers_test {

Result<std::vector<std::string>> TrailCheck::run(api::Client& client) {
    problems_.clear();
    // What was acknowledged before the trail is read has to be in it.
    const auto acknowledged = journal_.acknowledged_from(acknowledged_);
    TRY(read(client));
    for (const auto& entry : acknowledged)
        compare(entry);
    acknowledged_ += acknowledged.size();
    for (const auto& performed : journal_.performed_from(performed_)) {
        take(performed);
        ++performed_;
    }
    return problems_;
}

Result<> TrailCheck::read(api::Client& client) {
    grpc::ClientContext context;
    client.prepare(context);
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(30));
    v1::EventsRequest request;
    request.set_after_sequence(sequence_);
    const auto reader = client.pool().Events(&context, request);
    v1::AuditEntry entry;
    while (reader->Read(&entry))
        take(entry);
    return api::from_status(reader->Finish());
}

void TrailCheck::take(const v1::AuditEntry& entry) {
    if (entry.sequence() != sequence_ + 1)
        wrong("after entry {} of the trail comes {}", sequence_, entry.sequence());
    sequence_ = entry.sequence();
    ++entries_;
    if (entry.loan_id() != 0 && entry.action() == "borrow") loans_[entry.loan_id()].borrowed = true;
    if (entry.action() == "renewed") ++loans_[entry.loan_id()].renewed;
    if (entry.action() == "transition" && entry.subject().starts_with("loan:")) take_transition(entry);
    if (entry.fdid() != 0 && entry.action().ends_with("-sent")) {
        auto& device = devices_[entry.fdid()];
        if (entry.epoch() < device.epoch)
            wrong("entry {}: {} with epoch {} after {}", entry.sequence(), entry.action(), entry.epoch(),
                  device.epoch);
        device.epoch = std::max(device.epoch, entry.epoch());
    }
}

void TrailCheck::take_transition(const v1::AuditEntry& entry) {
    auto& loan = loans_[entry.loan_id()];
    const std::string& to = entry.to();
    loan.active = loan.active || to == "active";
    loan.going = loan.going || to == "quiescing" || to == "detaching" || to == "resetting";
    loan.ended = loan.ended || to == "returned" || to == "failed";
    if (entry.fdid() == 0) return;
    auto& holder = devices_[entry.fdid()].holder;
    if (to == "preparing") {
        if (holder != 0)
            wrong("entry {}: loan {} gets device {:x}, which loan {} has", entry.sequence(), entry.loan_id(),
                  entry.fdid(), holder);
        holder = entry.loan_id();
    }
    if (loan.ended && holder == entry.loan_id()) holder = 0;
}

void TrailCheck::compare(const Acknowledged& entry) {
    auto& loan = loans_[entry.loan];
    switch (entry.what) {
    case Ack::borrowed:
        if (!loan.borrowed) wrong("loan {} was granted, and the trail does not know it", entry.loan);
        break;
    case Ack::active:
        if (!loan.active) wrong("loan {} was active, and the trail does not know that", entry.loan);
        break;
    case Ack::returning:
        if (!loan.going && !loan.ended)
            wrong("the return of loan {} was accepted, and is not done", entry.loan);
        break;
    case Ack::returned:
        if (!loan.ended) wrong("loan {} was returned, and the trail has it still", entry.loan);
        break;
    case Ack::renewed:
        if (++loan.acknowledged_renewals > loan.renewed)
            wrong("{} renewals of loan {} were accepted, the trail has {}", loan.acknowledged_renewals,
                  entry.loan, loan.renewed);
        break;
    }
}

// The lender's own log: it is the fence.
void TrailCheck::take(const Performed& performed) {
    const auto& step = performed.step;
    if (step.kind() == v1::STEP_ATTACH || step.kind() == v1::STEP_DETACH) return;
    auto& device = at_lender_[performed.host + "/" + step.device()];
    if (step.epoch() < device.epoch)
        wrong("{} has taken a step of {} of epoch {} after {}", performed.host, step.device(), step.epoch(),
              device.epoch);
    device.epoch = std::max(device.epoch, step.epoch());
    if (step.kind() == v1::STEP_PREPARE) {
        if (device.holder != 0 && device.holder != step.loan_id())
            wrong("{} has prepared {} for loan {} while loan {} had it", performed.host, step.device(),
                  step.loan_id(), device.holder);
        device.holder = step.loan_id();
    }
    if (step.kind() == v1::STEP_CUT) device.holder = 0;
}

} // namespace lanepool::controllers_test
