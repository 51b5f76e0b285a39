// SPDX-License-Identifier: Apache-2.0
//
// How records are printed: columns for people, JSON for programs.
#pragma once

#include "api/lanepool.pb.h"

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace lanepool::cli {

using Json = nlohmann::ordered_json;

class Table {
  public:
    explicit Table(std::vector<std::string> headings) { add(std::move(headings)); }
    void add(std::vector<std::string> row) { rows_.push_back(std::move(row)); }
    // Left-aligned columns, two spaces between, no trailing blanks.
    std::string text() const;

  private:
    std::vector<std::vector<std::string>> rows_;
};

// What `ls` prints: SR-IOV functions below the device that they are a part of, and how many it has of how
// many, where there are any that could have some.
std::string devices_text(const v1::DeviceList& devices);

// What `loans` prints; with columns for what hosts' own kernels have where there is such a loan.
std::string loans_text(const v1::LoanList& loans);
// What `hosts` prints; with a column for how hosts' own kernels can borrow where one can.
std::string hosts_text(const v1::HostList& hosts);
// What the borrower's own kernel has got; empty: it has not, or it is no such loan.
std::string receipt_text(const v1::Loan& loan);

Json to_json(const v1::Device& device);
Json to_json(const v1::Host& host);
Json to_json(const v1::Loan& loan);
Json to_json(const v1::AuditEntry& entry);

std::string fdid_text(uint64_t fdid);           // hexadecimal, as people write it
std::string time_text(int64_t unix_time_us);    // local time; "-" for 0
std::string size_text(uint64_t size_bytes);     // "4.0 GiB"; "-" for 0
std::string duration_text(int64_t duration_us); // "1.24 s", "12 ms"
std::string or_dash(const std::string& text);

} // namespace lanepool::cli
