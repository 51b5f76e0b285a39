// SPDX-License-Identifier: Apache-2.0
//
// For tests: a controller that leads and writes, to be killed and stopped. leader_process ENDPOINT PREFIX
// NAME: campaigns, then stores one outcome after another and says so, until it is refused.
#include "store/election.h"
#include "store/test_records.h"

#include <cstdio>

using namespace lanepool;
using namespace lanepool::store;

int main(int count, char** words) {
    if (count != 4) return 2;
    EtcdOptions etcd;
    etcd.endpoints = {words[1]};
    const auto client = EtcdClient::create(etcd);
    ElectionOptions options;
    options.prefix = words[2];
    options.name = words[3];
    const auto election = Election::start(etcd.endpoints, options);
    const auto leadership = (*election)->wait_until_leading(std::chrono::seconds(60));
    if (!leadership) return 1;
    EtcdStoreOptions where;
    where.prefix = words[2];
    const auto store = EtcdStore::open(*client, leadership, where);
    if (!store) return 1;
    for (uint64_t i = (*store)->load()->counters.next_audit;; ++i) {
        const auto stored = (*store)->apply(test::outcome(i));
        if (stored)
            fmt::print("stored {}\n", i);
        else
            fmt::print("refused {} {}\n", i, name(stored.error().code()));
        std::fflush(stdout);
        if (!stored) return 0;
        std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
}
