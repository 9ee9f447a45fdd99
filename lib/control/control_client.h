// The other end of control_server.h, for the operator's command: blocking.
#pragma once

#include <boost/json/object.hpp>
#include <boost/json/value.hpp>
#include <filesystem>
#include <memory>
#include <stdexcept>

namespace postern {

// What went wrong and what to do about it, ready to print.
class ControlError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

class ControlClient {
 public:
  // Throws ControlError: not running, no permission.
  explicit ControlClient(const std::filesystem::path& socket);
  ~ControlClient();
  ControlClient(const ControlClient&) = delete;
  ControlClient& operator=(const ControlClient&) = delete;

  // Sends the request and returns the result of its answer. Throws ControlError.
  boost::json::value call(const boost::json::object& request);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace postern
