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
// DEVICE: null where none is chosen yet.
v1::Loan to_message(const pool::Loan& loan, const pool::Device* device);
v1::AuditEntry to_message(const pool::AuditEntry& entry);
v1::Step to_message(const pool::Order& order);
v1::StepKind to_message(pool::StepKind kind);
// For the answer to STEP_ATTACH with dma.
v1::Attached to_message(const pool::Attached& attached);

// Nothing of what these return has been checked yet, save that it is there: the pool does that.
// CALLER is known from the connection.
// not_supported: an access model or DMA mode that does not exist.
Result<pool::BorrowRequest> from_message(const v1::BorrowRequest& request, pool::Caller caller);
pool::ReturnRequest from_message(const v1::ReturnRequest& request, pool::Caller caller);
pool::ReclaimRequest from_message(const v1::ReclaimRequest& request, pool::Caller caller);
pool::RenewRequest from_message(const v1::RenewRequest& request, pool::Caller caller);
pool::ReassignRequest from_message(const v1::ReassignRequest& request, pool::Caller caller);
pool::ResetRequest from_message(const v1::ResetRequest& request, pool::Caller caller);
pool::DrainRequest from_message(const v1::DrainRequest& request, pool::Caller caller);
pool::QuarantineRequest from_message(const v1::QuarantineRequest& request, pool::Caller caller);
pool::RestoreRequest from_message(const v1::RestoreRequest& request, pool::Caller caller);
pool::KeepLocalRequest from_message(const v1::KeepLocalRequest& request, pool::Caller caller);
pool::SetFunctionsRequest from_message(const v1::SetFunctionsRequest& request, pool::Caller caller);
pool::Hello from_message(const v1::Hello& hello);
pool::LoanLost from_message(const v1::LoanLost& lost);
pool::DeviceFault from_message(const v1::DeviceFault& fault);
// protocol: a kind of step that does not exist; not_supported: an access model or DMA mode that does not. As
// an agent sees it: nothing that only the controller knows.
Result<pool::Order> from_message(const v1::Step& step);
Result<pool::StepKind> from_message(v1::StepKind kind);
Result<pool::StepAnswer> from_message(const v1::StepDone& done);

} // namespace lanepool::api
