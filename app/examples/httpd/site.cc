#include "httpd/site.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>
#include <utility>

namespace httpd {
namespace {

int open_beneath(int root, const char* path) {
  open_how how{};
  // Not blocking, or opening a FIFO would stop the server.
  how.flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK;
  how.resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS;
  return static_cast<int>(syscall(SYS_openat2, root, path, &how, sizeof how));
}

Found::Kind kind_of_error(int error) {
  switch (error) {
    case ENOENT:
    case ENOTDIR:
    case ENAMETOOLONG:
    case ENXIO:
      return Found::Kind::missing;
    case EACCES:
    case EPERM:
    case ELOOP:
    case EXDEV:
      return Found::Kind::forbidden;
    default:
      return Found::Kind::failed;
  }
}

}  // namespace

Fd& Fd::operator=(Fd&& other) noexcept {
  std::swap(fd_, other.fd_);
  return *this;
}

Fd::~Fd() {
  if (fd_ >= 0) ::close(fd_);
}

Site::Site(const std::string& root)
    : root_(::open(root.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC)) {
  if (root_.get() < 0) throw std::system_error(errno, std::generic_category(), root);
}

Found Site::open(const std::string& path) const {
  const bool wants_index = path.empty() || path.ends_with('/');
  const std::string name = wants_index ? path + "index.html" : path;
  Found found;
  found.fd = Fd(open_beneath(root_.get(), name.c_str()));
  if (found.fd.get() < 0) {
    found.kind = kind_of_error(errno);
    return found;
  }
  struct stat status {};
  if (fstat(found.fd.get(), &status) != 0) {
    found.kind = Found::Kind::failed;
  } else if (S_ISDIR(status.st_mode)) {
    found.kind = Found::Kind::directory;
  } else if (!S_ISREG(status.st_mode)) {
    found.kind = Found::Kind::forbidden;
  } else {
    found.kind = Found::Kind::file;
    found.size = static_cast<uint64_t>(status.st_size);
    found.validator = make_validator(found.size, status.st_mtim.tv_sec, status.st_mtim.tv_nsec);
  }
  return found;
}

}  // namespace httpd
