// What makes a daemon the only one of its kind on a machine, and known to its supervisor.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

namespace postern {

// An exclusive lock for as long as the object lives; freed by the kernel if the process dies. The
// file holds the owner's process id and stays behind, empty of meaning.
class InstanceLock {
 public:
  // Throws std::runtime_error with a message that names the living owner.
  explicit InstanceLock(const std::filesystem::path& file);
  ~InstanceLock();
  InstanceLock(const InstanceLock&) = delete;
  InstanceLock& operator=(const InstanceLock&) = delete;

 private:
  int fd_ = -1;
};

// A listening local socket at `path`, non-blocking, in the place of a dead daemon's. `type` is
// SOCK_STREAM or SOCK_SEQPACKET. The caller owns the descriptor and holds the lock that says that
// no living daemon uses the path. Throws std::runtime_error or std::system_error.
int listen_local(const std::filesystem::path& path, int type, unsigned mode, int backlog);

// Tells the supervisor named by NOTIFY_SOCKET (sd_notify(3)): "READY=1", "STOPPING=1". Does nothing
// if there is none.
void notify_supervisor(std::string_view message) noexcept;

}  // namespace postern
