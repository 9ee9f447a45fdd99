// Who may attach and what they may bind: the kernel-proved identity of a peer against the rules of
// the configuration. Pure.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

#include "control/config.h"

namespace postern {

// Identity of the process at the other end of a local socket when it connected, as the kernel says.
struct Credentials {
  pid_t pid = 0;
  uid_t uid = 0;
  gid_t gid = 0;
  std::vector<gid_t> groups;  // supplementary

  [[nodiscard]] bool in_group(gid_t group) const;
  [[nodiscard]] std::string to_string() const;  // "pid 123 uid 33 gid 33"
};

// SO_PEERCRED and SO_PEERGROUPS of a connected local socket. Throws std::system_error.
Credentials peer_credentials(int fd);

class AccessPolicy {
 public:
  explicit AccessPolicy(std::vector<AccessRule> rules) : rules_(std::move(rules)) {}

  // The first rule that names the peer's user or one of its groups; nullptr: nothing is allowed,
  // root included. Lives as long as the policy.
  [[nodiscard]] const AccessRule* rule_for(const Credentials& peer) const;

 private:
  std::vector<AccessRule> rules_;
};

// Whether the rule allows binding `port` of a protocol. 0, a port of the daemon's choice, always.
bool may_bind(const AccessRule& rule, uint8_t protocol, uint16_t port);

}  // namespace postern
