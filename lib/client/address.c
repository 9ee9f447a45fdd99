#include <arpa/inet.h>

#include "client/internal.h"

static const uint8_t mapped_prefix[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

int address_read(const struct sockaddr* from, socklen_t length, bool v6, uint8_t address[16],
                 uint16_t* port) {
  if (from == NULL) return EFAULT;
  if (length < sizeof from->sa_family) return EINVAL;
  if (v6) {
    struct sockaddr_in6 in6;
    if (from->sa_family != AF_INET6) return EAFNOSUPPORT;
    if (length < sizeof in6) return EINVAL;
    memcpy(&in6, from, sizeof in6);
    memcpy(address, &in6.sin6_addr, 16);
    *port = ntohs(in6.sin6_port);
    return 0;
  }
  struct sockaddr_in in;
  if (from->sa_family != AF_INET) return EAFNOSUPPORT;
  if (length < sizeof in) return EINVAL;
  memcpy(&in, from, sizeof in);
  memcpy(address, mapped_prefix, sizeof mapped_prefix);
  memcpy(address + 12, &in.sin_addr, 4);
  *port = ntohs(in.sin_port);
  return 0;
}

uint16_t address_zone(const struct sockaddr* from) {
  struct sockaddr_in6 in6;
  if (from->sa_family != AF_INET6) return 0;
  memcpy(&in6, from, sizeof in6);
  if (!IN6_IS_ADDR_LINKLOCAL(&in6.sin6_addr)) return 0;
  return in6.sin6_scope_id > UINT16_MAX ? UINT16_MAX : (uint16_t)in6.sin6_scope_id;
}

static void copy_out(struct sockaddr* to, socklen_t* length, const void* from, socklen_t size) {
  memcpy(to, from, *length < size ? *length : size);
  *length = size;
}

void address_write(struct sockaddr* to, socklen_t* length, bool v6, const uint8_t address[16],
                   uint16_t port, uint32_t zone) {
  if (to == NULL || length == NULL) return;
  if (v6) {
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
    memcpy(&in6.sin6_addr, address, 16);
    if (IN6_IS_ADDR_LINKLOCAL(&in6.sin6_addr)) in6.sin6_scope_id = zone;
    copy_out(to, length, &in6, sizeof in6);
    return;
  }
  struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons(port)};
  memcpy(&in.sin_addr, address + 12, 4);
  copy_out(to, length, &in, sizeof in);
}

bool address_is_any(const uint8_t address[16]) {
  static const uint8_t zero[16];
  return memcmp(address, zero, 16) == 0 ||
         (memcmp(address, mapped_prefix, 12) == 0 && memcmp(address + 12, zero, 4) == 0);
}

bool address_is_v4(const uint8_t address[16]) {
  return memcmp(address, mapped_prefix, sizeof mapped_prefix) == 0;
}
