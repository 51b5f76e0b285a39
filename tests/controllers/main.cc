// SPDX-License-Identifier: Apache-2.0
//
// lanepool-controllers-load CONTROLLERS FOR_CLIENTS FOR_AGENTS: agents that only answer, and people who
// borrow, renew and return all the time. Takes a command a line, and answers each with a line of JSON:
//   next SECONDS         when the first request was accepted that was sent at SECONDS (monotonic) or later
//   next-direct SECONDS  the same, of the client between which and the controllers nothing lies
//   check                what is wrong with what has happened since the last check
#include "controllers/load.h"

#include <iostream>
#include <sstream>

int main(int count, char** words) {
    if (count != 4) {
        std::cerr << "usage: lanepool-controllers-load CONTROLLERS FOR_CLIENTS FOR_AGENTS\n";
        return 2;
    }
    lanepool::controllers_test::LoadOptions options;
    options.controllers = words[1];
    options.for_clients = words[2];
    options.for_agents = words[3];
    lanepool::controllers_test::Load load(options);
    for (std::string line; std::getline(std::cin, line);) {
        std::istringstream in(line);
        std::string command;
        double since_s = 0;
        in >> command >> since_s;
        if (command == "check")
            std::cout << load.check().dump() << std::endl;
        else if (command == "next" || command == "next-direct")
            std::cout << load.next(since_s, command == "next-direct").dump() << std::endl;
        else
            std::cout << R"({"problems": ["there is no such command"]})" << std::endl;
    }
    return 0;
}
