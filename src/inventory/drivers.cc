// SPDX-License-Identifier: Apache-2.0
//
// Which driver has a function, and which was ordered for it.
#include "inventory/parts.h"

namespace lanepool::inventory {

void read_driver(Files& files, const std::string& folder, Function& function) {
    function.driver_override = read_word(files, folder + "/driver_override");
    if (function.driver_override == "(null)") function.driver_override.clear(); // how the kernel prints none
    Driver driver;
    driver.name = link_name(files, folder + "/driver");
    if (driver.name.empty()) return;
    if (const auto place = follow(files, folder + "/driver"))
        if (const auto module = follow(files, *place + "/module")) {
            driver.module = printable(module->substr(module->rfind('/') + 1));
            driver.version = read_word(files, *module + "/version");
            driver.source_version = read_word(files, *module + "/srcversion");
        }
    function.driver = driver;
}

} // namespace lanepool::inventory
