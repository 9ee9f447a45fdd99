// A tap interface of the kernel's that stands on the addresses of a port, and the settings of the
// kernel that go with it.
#pragma once

#include <string>
#include <vector>

#include "base/address.h"

namespace postern {

struct TapOptions {
  std::string name;
  MacAddress mac;
  uint16_t mtu = 1500;
  std::vector<Prefix> addresses;
};

// Makes the tap, or takes a persistent one, gives it its addresses and brings it up. Nothing of the
// kernel's makes IPv6 addresses of its own on it, nor asks whether ours are taken: Postern has.
// Returns its descriptor, non-blocking. Throws std::runtime_error: what, and what to do.
int open_tap(const TapOptions& options);

// Gives an open tap these addresses instead of those it had from here.
void change_addresses(const std::string& tap, const std::vector<Prefix>& before,
                      const std::vector<Prefix>& after);

// While this lives, the kernel does not answer on an interface whose packets a port gets too
// (af_packet copies them): it would answer everything on the tap's addresses once more.
class QuietInterface {
 public:
  explicit QuietInterface(const std::string& interface);
  ~QuietInterface();  // as it was
  QuietInterface(const QuietInterface&) = delete;
  QuietInterface& operator=(const QuietInterface&) = delete;

 private:
  struct Setting {
    std::string file;
    std::string before;
  };
  void set(const std::string& file, const std::string& value);
  std::vector<Setting> settings_;
};

}  // namespace postern
