// SPDX-License-Identifier: Apache-2.0
//
// Writes the machines of testing/machines.h as archives: inventory_write_machines FOLDER. What
// tests/data/machines has comes from here.
#include "base/temporary_folder.h"
#include "inventory/testing/machines.h"

#include <cstdio>

using namespace lanepool;

int main(int argc, char** argv) {
    if (argc != 2) {
        std::fprintf(stderr, "usage: %s FOLDER\n", argv[0]);
        return 2;
    }
    for (const auto& machine : inventory::testing::machines) {
        const TemporaryFolder folder;
        auto builder = machine.make();
        if (const auto written = builder.tree().write(folder / machine.name); !written) {
            std::fprintf(stderr, "%s\n", written.error().message().c_str());
            return 1;
        }
        const auto command = fmt::format("tar --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner "
                                         "--format=ustar -C '{}' -cf - {} | xz -9 >'{}/{}.tar.xz'",
                                         folder.path().string(), machine.name, argv[1], machine.name);
        if (std::system(command.c_str()) != 0) return 1;
    }
    return 0;
}
