// SPDX-License-Identifier: Apache-2.0
//
// The first bytes choose BAR sizes and vectors, then comes a config space image, then writes of a guest's.
// Whatever the image, the shadow has sound chains of kept capabilities only, and no write changes who it is.
#include "pci/config_space.h"
#include "smartio/config_shadow.h"

#include <cstdlib>
#include <cstring>

using namespace lanepool;

namespace {

void require(bool condition) {
    if (!condition) std::abort();
}

void check_chains(std::span<const std::byte> image) {
    const auto chain = pci::capabilities(image);
    require(chain.has_value());
    for (const auto& entry : *chain)
        require(entry.id == 0x01 || entry.id == 0x05 || entry.id == 0x09 || entry.id == 0x10 ||
                entry.id == 0x7f);
    const auto extended = pci::extended_capabilities(image);
    require(extended.has_value());
    for (const auto& entry : *extended)
        require(entry.id == 0x03 || (entry.id == 0 && entry.offset == 0x100));
}

std::vector<std::byte> image_of(const smartio::ConfigShadow& shadow) {
    std::vector<std::byte> image(shadow.size_bytes());
    require(shadow.read(0, image).has_value());
    return image;
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    auto input = std::as_bytes(std::span(data, size));
    if (input.size() < 8) return 0;
    smartio::ShadowSource source{};
    for (size_t i = 0; i < source.bar_bytes.size(); ++i)
        source.bar_bytes[i] = data[i] ? uint64_t{1} << (data[i] % 41) : 0;
    source.intx_vectors = data[6] & 1;
    source.msi_vectors = data[6] & 4 ? 0u : data[7];
    source.msix_vectors = data[7];
    input = input.subspan(8);

    // A short input stands for an image whose rest is zero.
    std::vector<std::byte> config((data[6] & 2) ? pci::extended_config_bytes
                                                : pci::conventional_config_bytes);
    const size_t given = std::min(config.size(), input.size());
    std::memcpy(config.data(), input.data(), given);
    input = input.subspan(given);
    source.config = config;

    auto shadow = smartio::ConfigShadow::create(source);
    if (!shadow) return 0;
    const auto before = image_of(*shadow);
    check_chains(before);
    while (input.size() >= 4) {
        const auto offset = static_cast<uint64_t>(pci::get16(input, 0));
        const size_t bytes = std::min<size_t>(std::to_integer<size_t>(input[2]) % 9, input.size() - 3);
        const auto effects = shadow->write(offset, input.subspan(3, bytes));
        require(effects.has_value() == (offset + bytes <= config.size()));
        if (effects && effects->command)
            require((*effects->command & ~smartio::ConfigShadow::forwarded_command_bits) == 0);
        input = input.subspan(3 + bytes);
    }
    const auto after = image_of(*shadow);
    check_chains(after);
    require(pci::get32(before, 0) == pci::get32(after, 0) && pci::get32(before, 8) == pci::get32(after, 8));
    shadow->reset();
    require(image_of(*shadow) == before);
    return 0;
}
