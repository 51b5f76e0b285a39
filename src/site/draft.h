// SPDX-License-Identifier: Apache-2.0
//
// A site as its file says it, before it is known whether its parts fit together.
#pragma once

#include "pool/site.h"
#include "site/document.h"
#include "site/problems.h"

#include <string>
#include <vector>

namespace lanepool::site {

// What names can refer to. A lender is a host that lends, a borrower one that borrows.
enum class Named { tenant, user, lender, borrower, device_class };

struct Reference {
    Named kind = Named::tenant;
    std::string name;
    Position at;
    std::string by; // what refers to it: "rule 'night'"
};

struct Entry {
    Position at;
    bool whole = false; // nothing was wrong in it: conclusions may be drawn from it
};

struct Draft {
    pool::Site site;
    // Beside each of the site's vectors, of the same length.
    std::vector<Entry> tenants;
    std::vector<Entry> users;
    std::vector<Entry> hosts;
    std::vector<Entry> classes;
    std::vector<Entry> rules;
    std::vector<Entry> failures;
    std::vector<Entry> reservations;
    std::vector<Reference> references;
};

// Reads all sections. Everything that is wrong in one of them by itself is added to PROBLEMS.
Draft read_sections(const Value& document, Problems& problems);

// The parts of read_sections that are about devices: a class, and a reservation.
void read_class(const Member& member, Draft& draft, Problems& problems);
void read_reservation(const Value& table, Draft& draft, Problems& problems);

// Everything that is wrong between sections: duplicates, references to nothing, rules that never decide,
// reservations that cannot be honoured together.
void check_names(const Draft& draft, Problems& problems);
void check_rules(const Draft& draft, Problems& problems);
void check_reservations(const Draft& draft, Problems& problems);

} // namespace lanepool::site
