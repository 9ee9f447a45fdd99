// A failing run made as small as it gets: the same failure with fewer losses, fewer bytes, plainer
// endpoints and links.
#pragma once

#include <functional>
#include <string>

#include "attempt.h"

namespace postern::sim {

using Runner = std::function<Attempt(const Options& options)>;

struct Shrunk {
  Options options;      // its fates are given; scripted if the failure allows that
  std::string failure;  // of the smallest run
  uint64_t attempts = 0;
};

// `options` fail under `run`. Removes and simplifies while the kind of failure stays, until nothing
// more can go: then no single fate can be left out either.
Shrunk shrink(const Options& options, const Runner& run);

// What differs from the plainest of networks, a line each.
std::string describe(const Options& options);

}  // namespace postern::sim
