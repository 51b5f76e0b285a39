// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "admin/server.h"
#include "fabric/sockets.h"
#include "fabric/switch.h"

namespace lanepool::fabric {

// The switch's administration commands; all of them must outlive SERVER's last request.
//   {"command":"ports"}                            state of each port
//   {"command":"link", "port":N, "up":true|false}  takes a port's link down or lets it up
//   {"command":"unplug", "port":N}                 drops the client and refuses new ones
//   {"command":"plug", "port":N}                   lets them connect again
//   {"command":"stats"}                            what was handled as messages, in all and by port
void add_commands(admin::Server& server, Switch& fabric, PortSockets& sockets);

// One command, for those that have a Switch without the socket.
Result<admin::Json> ports_command(Switch& fabric, const PortSockets& sockets);
Result<admin::Json> link_command(Switch& fabric, const admin::Json& request);
Result<admin::Json> plug_command(Switch& fabric, PortSockets& sockets, const admin::Json& request, bool plug);
Result<admin::Json> stats_command(Switch& fabric, const PortSockets& sockets);

} // namespace lanepool::fabric
