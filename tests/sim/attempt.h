// One run in a process of its own, so that an engine that aborts or never ends is a result like any
// other.
#pragma once

#include <string>

#include "network.h"

namespace postern::sim {

struct Attempt {
  std::string failure;  // empty: all properties hold
  Fates fates;          // what the links did
  std::string script[2];
};

// scripts: also record what each engine saw, for tests/script. It is exact if options.scripted.
Attempt attempt(uint64_t seed, const Options& options, bool scripts = false);

// What failed, without its numbers: two failures of one kind are taken to be one bug.
std::string kind_of(const std::string& failure);

}  // namespace postern::sim
