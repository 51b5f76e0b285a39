// SPDX-License-Identifier: Apache-2.0
//
// Who the drive is: names that follow from its serial number, so that a drive keeps them for ever.
#pragma once

#include "base/result.h"

#include <array>
#include <cstdint>
#include <string>

namespace lanepool::nvme::model {

struct Identity {
    // SERIAL: 1 to 20 printable ASCII characters.
    static Result<Identity> create(const std::string& serial);
    // A serial number for who gave none: follows from TEXT.
    static std::string make_serial(const std::string& text);

    std::string serial;
    uint64_t eui64 = 0;
    std::array<uint8_t, 16> nguid{};
    std::array<uint8_t, 16> uuid{};
    std::string subsystem_nqn;
};

} // namespace lanepool::nvme::model
