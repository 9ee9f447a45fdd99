#include "common/net.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/postern.h"

enum { BACKLOG = 4096 };

int resolve(const char* host, uint16_t port, struct endpoint* out) {
  char service[8];
  snprintf(service, sizeof service, "%u", (unsigned)port);
  const struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
  struct addrinfo* found = NULL;
  const int error = getaddrinfo(host, service, &hints, &found);
  if (error != 0) {
    fprintf(stderr, "'%s' is no address: %s\n", host, gai_strerror(error));
    return -1;
  }
  memcpy(&out->address, found->ai_addr, found->ai_addrlen);
  out->length = found->ai_addrlen;
  freeaddrinfo(found);
  return 0;
}

const char* endpoint_text(const struct endpoint* endpoint) {
  static _Thread_local char text[INET6_ADDRSTRLEN + 10];
  char address[INET6_ADDRSTRLEN] = "?";
  if (endpoint->address.ss_family == AF_INET6) {
    const struct sockaddr_in6* v6 = (const struct sockaddr_in6*)&endpoint->address;
    inet_ntop(AF_INET6, &v6->sin6_addr, address, sizeof address);
    snprintf(text, sizeof text, "[%s]:%u", address, ntohs(v6->sin6_port));
  } else {
    const struct sockaddr_in* v4 = (const struct sockaddr_in*)&endpoint->address;
    inet_ntop(AF_INET, &v4->sin_addr, address, sizeof address);
    snprintf(text, sizeof text, "%s:%u", address, ntohs(v4->sin_port));
  }
  return text;
}

static int complain(const char* what, const struct endpoint* at, int type) {
  const int error = errno;
  const char* detail = postern_last_error();
  fprintf(stderr, "cannot %s %s %s: %s%s%s\n", what, type == SOCK_STREAM ? "TCP" : "UDP",
          endpoint_text(at), strerror(error), *detail ? ": " : "", detail);
  return -1;
}

int open_server(const struct endpoint* at, int type) {
  const int fd = postern_socket(at->address.ss_family, type | SOCK_NONBLOCK, 0);
  if (fd < 0) return complain("open a socket for", at, type);
  const int on = 1;
  if (type == SOCK_STREAM) postern_setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (postern_bind(fd, (const struct sockaddr*)&at->address, at->length) != 0) {
    return complain("bind", at, type);
  }
  if (type == SOCK_STREAM && postern_listen(fd, BACKLOG) != 0)
    return complain("listen on", at, type);
  return fd;
}

uint64_t parse_number(const char* option, const char* text, uint64_t low, uint64_t high) {
  char* end = NULL;
  errno = 0;
  uint64_t value = strtoull(text, &end, 10);
  unsigned shift = 0;
  if (*end == 'K' || *end == 'k') shift = 10;
  if (*end == 'M') shift = 20;
  if (*end == 'G') shift = 30;
  if (shift != 0) end++;
  if (*text < '0' || *text > '9' || *end != '\0' || errno != 0 || value > high >> shift ||
      value << shift < low) {
    fprintf(stderr, "%s: '%s' is not a number from %llu to %llu\n", option, text,
            (unsigned long long)low, (unsigned long long)high);
    exit(2);
  }
  return value << shift;
}
