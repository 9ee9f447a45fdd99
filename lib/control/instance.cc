#include "control/instance.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <system_error>

namespace postern {
namespace {

[[noreturn]] void fail(const std::string& what) {
  throw std::system_error(errno, std::generic_category(), what);
}

std::string owner_of(int fd) {
  std::array<char, 16> text{};
  const ssize_t got = pread(fd, text.data(), text.size() - 1, 0);
  const std::string pid(text.data(), got > 0 ? static_cast<size_t>(got) : 0);
  return pid.substr(0, pid.find('\n'));
}

void remove_stale_socket(const std::filesystem::path& path) {
  struct stat status {};
  if (lstat(path.c_str(), &status) != 0) return;
  if (!S_ISSOCK(status.st_mode)) {
    throw std::runtime_error(path.string() + " exists and is not a socket; remove it or choose " +
                             "another path under control:");
  }
  if (unlink(path.c_str()) != 0) fail("cannot remove the stale socket " + path.string());
}

sockaddr_un local_address(std::string_view path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) {
    errno = ENAMETOOLONG;
    fail(std::string(path));
  }
  std::memcpy(address.sun_path, path.data(), path.size());
  return address;
}

}  // namespace

InstanceLock::InstanceLock(const std::filesystem::path& file) {
  fd_ = open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
  if (fd_ < 0) fail("cannot open " + file.string());
  if (flock(fd_, LOCK_EX | LOCK_NB) != 0) {
    const std::string pid = owner_of(fd_);
    close(fd_);
    throw std::runtime_error("another posternd (pid " + pid + ") holds " + file.string() +
                             "; stop it first or choose other paths under control:");
  }
  const std::string text = std::to_string(getpid()) + '\n';
  if (ftruncate(fd_, 0) != 0 || pwrite(fd_, text.data(), text.size(), 0) < 0) {
    const int error = errno;
    close(fd_);
    errno = error;
    fail("cannot write " + file.string());
  }
}

InstanceLock::~InstanceLock() { close(fd_); }

int listen_local(const std::filesystem::path& path, int type, unsigned mode, int backlog) {
  remove_stale_socket(path);
  const sockaddr_un address = local_address(path.native());
  const int fd = socket(AF_UNIX, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) fail("socket");
  // Nobody may connect before the mode is what it is to be.
  const mode_t old = umask(0777);
  const int bound = bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address);
  const int error = errno;
  umask(old);
  errno = error;
  if (bound != 0 || chmod(path.c_str(), mode) != 0 || listen(fd, backlog) != 0) {
    const int reason = errno;
    close(fd);
    errno = reason;
    fail("cannot listen on " + path.string());
  }
  return fd;
}

void notify_supervisor(std::string_view message) noexcept {
  const char* path = std::getenv("NOTIFY_SOCKET");
  if (path == nullptr || (path[0] != '/' && path[0] != '@')) return;
  const std::string_view name(path);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (name.size() >= sizeof address.sun_path) return;
  std::memcpy(address.sun_path, name.data(), name.size());
  if (name.front() == '@') address.sun_path[0] = '\0';  // abstract namespace
  const int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return;
  const auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + name.size());
  // Nothing can be done if the supervisor does not listen.
  (void)!sendto(fd, message.data(), message.size(), MSG_NOSIGNAL,
                reinterpret_cast<const sockaddr*>(&address), size);
  close(fd);
}

}  // namespace postern
