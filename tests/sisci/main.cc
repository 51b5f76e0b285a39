// SPDX-License-Identifier: Apache-2.0
//
// Conformance of libsisci.so: each function of the API, with each error that its comment names, against the
// processes of a cluster. tests/cluster/sisci_test.py starts that, and says where its agents listen:
//   LANEPOOL_AGENT       of this process's host
//   LANEPOOL_PEER_AGENT  of another host's
//   LANEPOOL_DRIVE       the fdid of a drive whose BAR can be mapped, hexadecimal
//   LANEPOOL_ENGINE      the fdid of a DMA engine, likewise; LANEPOOL_RECLAIM_ENGINE the command that takes
//   it away
#include "fixture.h"

#include <cstring>
#include <unistd.h>

int main(int argc, char** argv) {
    if (argc == 2 && std::strcmp(argv[1], "--peer") == 0)
        return lanepool::sisci_test::serve_as_peer(STDIN_FILENO);
    testing::InitGoogleTest(&argc, argv);
    return RUN_ALL_TESTS();
}
