#include "control/access.h"

#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <system_error>

namespace postern {

bool Credentials::in_group(gid_t group) const {
  return gid == group || std::find(groups.begin(), groups.end(), group) != groups.end();
}

std::string Credentials::to_string() const {
  return "pid " + std::to_string(pid) + " uid " + std::to_string(uid) + " gid " +
         std::to_string(gid);
}

Credentials peer_credentials(int fd) {
  ucred peer{};
  socklen_t size = sizeof peer;
  if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0) {
    throw std::system_error(errno, std::generic_category(), "SO_PEERCRED");
  }
  Credentials out{peer.pid, peer.uid, peer.gid, std::vector<gid_t>(32)};
  size = static_cast<socklen_t>(out.groups.size() * sizeof(gid_t));
  int error = getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, out.groups.data(), &size);
  if (error != 0 && errno == ERANGE) {  // size now says how much is needed
    out.groups.resize(size / sizeof(gid_t));
    error = getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, out.groups.data(), &size);
  }
  if (error != 0) throw std::system_error(errno, std::generic_category(), "SO_PEERGROUPS");
  out.groups.resize(size / sizeof(gid_t));
  return out;
}

const AccessRule* AccessPolicy::rule_for(const Credentials& peer) const {
  const auto names = [&](const AccessRule& rule) {
    return (rule.uid && *rule.uid == peer.uid) || (rule.gid && peer.in_group(*rule.gid));
  };
  const auto found = std::find_if(rules_.begin(), rules_.end(), names);
  return found == rules_.end() ? nullptr : &*found;
}

bool may_bind(const AccessRule& rule, uint8_t protocol, uint16_t port) {
  if (port == 0) return true;
  return std::any_of(rule.bind.begin(), rule.bind.end(), [&](const PortRange& range) {
    return range.protocol == protocol && range.first <= port && port <= range.last;
  });
}

}  // namespace postern
