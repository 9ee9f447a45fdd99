// postern route: the routes of the daemon, shown and changed.
#pragma once

#include <ostream>

#include "cli/verbs.h"

namespace postern {

int run_route(const Arguments& arguments, std::ostream& out);

}  // namespace postern
