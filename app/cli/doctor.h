// `postern doctor`: checks the machine, with or without a configuration and a daemon.
#pragma once

#include <ostream>

#include "cli/verbs.h"

namespace postern {

// Exit status: 0, 1 if there is a problem, 2 if the configuration is bad.
int run_doctor(const Arguments& arguments, std::ostream& out);

}  // namespace postern
