// SPDX-License-Identifier: Apache-2.0
//
// Between the pool's records and the messages of lanepool.v1. Pure; from any thread.
#pragma once

#include "api/lanepool.pb.h"
#include "pool/input.h"
#include "pool/records.h"

namespace lanepool::api {

// BORROWER is that of the loan that holds the device, empty without one.
v1::Device to_message(const pool::Device& device, const std::string& borrower);
v1::DeviceIdentity to_message(const pool::DeviceIdentity& identity);
v1::Host to_message(const pool::Host& host, bool lends);
v1::Loan to_message(const pool::Loan& loan, const pool::Device& device);
v1::AuditEntry to_message(const pool::AuditEntry& entry);
v1::Step to_message(const pool::Order& order);
v1::StepKind to_message(pool::StepKind kind);

// Nothing of what these return has been checked yet, save that it is there: the pool does that.
pool::BorrowRequest from_message(const v1::BorrowRequest& request);
pool::ReturnRequest from_message(const v1::ReturnRequest& request);
pool::ReclaimRequest from_message(const v1::ReclaimRequest& request);
pool::ReassignRequest from_message(const v1::ReassignRequest& request);
pool::ResetRequest from_message(const v1::ResetRequest& request);
pool::Hello from_message(const v1::Hello& hello);
pool::LoanLost from_message(const v1::LoanLost& lost);
// protocol: a kind of step that does not exist.
Result<pool::StepAnswer> from_message(const v1::StepDone& done);

} // namespace lanepool::api
