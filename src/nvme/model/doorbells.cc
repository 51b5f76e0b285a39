// SPDX-License-Identifier: Apache-2.0
#include "nvme/model/doorbells.h"

namespace lanepool::nvme::model {

static_assert(std::endian::native == std::endian::little, "doorbells are little-endian words in memory");

Result<Doorbells> Doorbells::create() {
    Doorbells doorbells;
    TRY(doorbells.renew());
    return doorbells;
}

Result<> Doorbells::renew() {
    auto fd = share(TRY(create_memory("lanepool-nvme-doorbells", doorbell_page_bytes)));
    page_ = TRY(Mapping::create(fd->get(), 0, doorbell_page_bytes));
    fd_ = std::move(fd);
    return {};
}

void Doorbells::clear() {
    for (size_t i = 0; i < doorbell_count; ++i)
        store(i, 0);
}

} // namespace lanepool::nvme::model
