#include "control/session_protocol.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace postern {
namespace {

template <class T>
T copy_prefix(std::span<const std::byte> message) {
  T out{};
  std::memcpy(&out, message.data(), std::min(message.size(), sizeof out));
  return out;
}

template <size_t N>
void put_text(char (&out)[N], std::string_view text) {
  const size_t length = std::min(text.size(), N - 1);
  std::memcpy(out, text.data(), length);
  out[length] = '\0';
}

SessionRequest decode_attach(std::span<const std::byte> message) {
  constexpr size_t kEnoughForVersion = offsetof(shm_attach_request, slots);
  if (message.size() < kEnoughForVersion) return "ATTACH is too short";
  const auto request = copy_prefix<shm_attach_request>(message);
  if (request.magic != SHM_MAGIC) return "ATTACH has a wrong magic number";
  if (request.version_major == SHM_VERSION_MAJOR && message.size() < sizeof request) {
    return "ATTACH is too short";
  }
  return request;
}

}  // namespace

SessionRequest decode_request(std::span<const std::byte> message) {
  if (message.size() < sizeof(uint32_t)) return "message without a type";
  const auto type = copy_prefix<uint32_t>(message);
  switch (type) {
    case SHM_REQ_ATTACH:
      return decode_attach(message);
    case SHM_REQ_BIND:
    case SHM_REQ_LISTEN:
    case SHM_REQ_UNBIND:
      if (message.size() != sizeof(shm_bind_request)) return "request of a wrong size";
      return copy_prefix<shm_bind_request>(message);
    case SHM_REQ_GROUP:
      if (message.size() != sizeof(shm_group_request)) return "request of a wrong size";
      return copy_prefix<shm_group_request>(message);
    default:
      return "request of unknown type " + std::to_string(type);
  }
}

std::optional<std::string> refuse_version(const shm_attach_request& request) {
  if (request.version_major == SHM_VERSION_MAJOR) return std::nullopt;
  const auto version = [](unsigned major, unsigned minor) {
    return std::to_string(major) + '.' + std::to_string(minor);
  };
  return "the application speaks shared-memory version " +
         version(request.version_major, request.version_minor) + ", posternd speaks " +
         version(SHM_VERSION_MAJOR, SHM_VERSION_MINOR) + "; install matching versions";
}

std::string program_name(const shm_attach_request& request) {
  std::string name(request.name, strnlen(request.name, sizeof request.name));
  for (char& c : name) {
    if (c <= 0x20 || c >= 0x7f) c = '?';
  }
  return name.empty() ? "?" : name;
}

shm_attach_reply attach_refusal(int error, std::string_view message) {
  shm_attach_reply reply{};
  reply.type = SHM_REQ_ATTACH;
  reply.error = static_cast<uint32_t>(error);
  reply.version_major = SHM_VERSION_MAJOR;
  reply.version_minor = SHM_VERSION_MINOR;
  put_text(reply.message, message);
  return reply;
}

shm_bind_reply bind_refusal(uint32_t type, int error, std::string_view message) {
  shm_bind_reply reply{};
  reply.type = type;
  reply.error = static_cast<uint32_t>(error);
  put_text(reply.message, message);
  return reply;
}

}  // namespace postern
