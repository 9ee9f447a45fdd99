// The served directory.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>

#include "httpd/validator.h"

namespace httpd {

// A file descriptor that closes itself.
class Fd {
 public:
  explicit Fd(int fd = -1) : fd_(fd) {}
  Fd(Fd&& other) noexcept : fd_(other.fd_) { other.fd_ = -1; }
  Fd& operator=(Fd&& other) noexcept;
  ~Fd();
  int get() const { return fd_; }

 private:
  int fd_;
};

struct Found {
  enum class Kind : uint8_t { file, directory, missing, forbidden, failed };
  Kind kind = Kind::missing;
  Fd fd{};  // of a file, open for reading
  uint64_t size = 0;
  Validator validator{};
};

class Site {
 public:
  // Throws std::system_error when `root` cannot be opened.
  explicit Site(const std::string& root);

  // `path`: from path_of_target(). "" and what ends in '/' mean the index.html there; a name of a
  // directory without '/' is reported as such. The kernel sees to it that nothing outside of the
  // root is opened, whatever symbolic links say (openat2, RESOLVE_BENEATH).
  Found open(const std::string& path) const;

 private:
  Fd root_;
};

}  // namespace httpd
