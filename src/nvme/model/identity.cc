// SPDX-License-Identifier: Apache-2.0
#include "nvme/model/identity.h"

#include <algorithm>
#include <fmt/format.h>

namespace lanepool::nvme::model {

namespace {
// FNV-1a, and a finaliser that spreads it over all bits: names only have to differ, not to be secret.
uint64_t hash(const std::string& text, uint64_t salt) {
    uint64_t value = 0xcbf29ce484222325 ^ salt;
    for (const char c : text)
        value = (value ^ static_cast<uint8_t>(c)) * 0x100000001b3;
    value = (value ^ value >> 30) * 0xbf58476d1ce4e5b9;
    value = (value ^ value >> 27) * 0x94d049bb133111eb;
    return value ^ value >> 31;
}

std::array<uint8_t, 16> hash16(const std::string& text, uint64_t salt) {
    std::array<uint8_t, 16> bytes{};
    for (size_t i = 0; i < bytes.size(); ++i)
        bytes[i] = static_cast<uint8_t>(hash(text, salt + i / 8) >> (8 * (i % 8)));
    return bytes;
}
} // namespace

std::string Identity::make_serial(const std::string& text) { return fmt::format("LP{:016X}", hash(text, 1)); }

Result<Identity> Identity::create(const std::string& serial) {
    if (serial.empty() || serial.size() > 20 ||
        std::ranges::any_of(serial, [](char c) { return c < 0x21 || c > 0x7e; }))
        return fail(Errc::invalid_argument,
                    "serial number '{}' is not possible: 1 to 20 printable characters, no spaces", serial);
    Identity identity;
    identity.serial = serial;
    // Locally administered, so that no manufacturer's identifier is claimed (IEEE 802, 8.2).
    identity.eui64 = (hash(serial, 2) & ~(uint64_t{3} << 56)) | uint64_t{2} << 56;
    identity.nguid = hash16(serial, 3);
    identity.nguid[0] = static_cast<uint8_t>((identity.nguid[0] & ~3u) | 2u);
    // Version 8 (RFC 9562, 5.8): made up by its own rules.
    auto& uuid = identity.uuid = hash16(serial, 5);
    uuid[6] = static_cast<uint8_t>((uuid[6] & 0x0f) | 0x80);
    uuid[8] = static_cast<uint8_t>((uuid[8] & 0x3f) | 0x80);
    std::string text;
    for (size_t i = 0; i < uuid.size(); ++i)
        text += fmt::format("{}{:02x}", i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "", uuid[i]);
    identity.subsystem_nqn = "nqn.2014-08.org.nvmexpress:uuid:" + text;
    return identity;
}

} // namespace lanepool::nvme::model
