// SPDX-License-Identifier: Apache-2.0
#include "cli/context.h"

int main(int argc, char** argv) { return lanepool::cli::run(argc, argv); }
