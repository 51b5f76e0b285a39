// SPDX-License-Identifier: Apache-2.0
//
// The input is what a store gives back: a byte that says as what, then its bytes. Anybody may have written
// it. What is taken is written again as it was read.
#include "store/codec.h"
#include "store/etcd_changes.h"

#include <cstdlib>

using namespace lanepool;

namespace {

void require(bool condition) {
    if (!condition) std::abort();
}

template <class T>
void check(std::string_view bytes) {
    const auto record = store::decode<T>(bytes);
    if (!record) return require(!record.error().message().empty());
    const auto again = store::decode<T>(store::encode(*record));
    require(again.has_value() && *again == *record);
}

// The parts of a journal lie one behind the other, each with its length in two bytes before it.
std::vector<std::string> parts_of(std::string_view bytes) {
    std::vector<std::string> parts;
    while (bytes.size() >= 2 && parts.size() < 64) {
        const size_t length = std::min<size_t>(
            static_cast<uint8_t>(bytes[0]) | size_t{static_cast<uint8_t>(bytes[1])} << 8, bytes.size() - 2);
        parts.emplace_back(bytes.substr(2, length));
        bytes.remove_prefix(2 + length);
    }
    return parts;
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    if (size == 0) return 0;
    const std::string_view bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
    switch (data[0] % 11) {
    case 0:
        check<pool::Host>(bytes);
        break;
    case 1:
        check<pool::Device>(bytes);
        break;
    case 2:
        check<pool::Loan>(bytes);
        break;
    case 3:
        check<pool::Step>(bytes);
        break;
    case 4:
        check<pool::Usage>(bytes);
        break;
    case 5:
        check<pool::Counters>(bytes);
        break;
    case 6:
        check<pool::AuditEntry>(bytes);
        break;
    case 7:
        if (const auto text = store::decode_site(bytes))
            require(store::decode_site(store::encode_site(*text)) == *text);
        break;
    case 8:
        if (const auto batch = store::decode_batch(bytes)) require(batch->size() <= bytes.size());
        break;
    case 9: {
        store::ChainEnds ends;
        if (!store::decode_ends(bytes, ends)) break;
        store::ChainEnds again;
        require(store::decode_ends(store::encode_ends(ends), again).has_value());
        require(store::encode_ends(again) == store::encode_ends(ends));
        break;
    }
    default:
        if (const auto changes = store::decode_journal(parts_of(bytes));
            changes && *changes && !(*changes)->empty()) {
            const auto again = store::decode_journal(store::encode_journal(**changes, 1000));
            require(again.has_value() && again->has_value() && **again == **changes);
        }
    }
    return 0;
}
