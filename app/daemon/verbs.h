// What the operator's command can ask of the daemon: ss, link, neigh, drops, stats, metrics,
// version.
#pragma once

#include "control/control_server.h"

namespace postern {

class Daemon;

// The daemon outlives the server.
void register_verbs(ControlServer& server, Daemon& daemon);

}  // namespace postern
