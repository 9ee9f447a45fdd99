// `postern run`: starts a program whose sockets Postern serves.
#pragma once

#include <ostream>

#include "cli/verbs.h"

namespace postern {

// Replaces this process by the program. Returns only on failure: the exit status.
int run_program(const Arguments& arguments, std::ostream& out);

}  // namespace postern
