/* Addresses and sockets. Functions that can fail print why and return -1. */
#ifndef EXAMPLES_NET_H
#define EXAMPLES_NET_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

struct endpoint {
  struct sockaddr_storage address;
  socklen_t length;
};

/* A numeric address or a name, which the kernel's resolver looks up. */
int resolve(const char* host, uint16_t port, struct endpoint* out);

/* "192.0.2.1:80" or "[2001:db8::1]:80" in a buffer that the next call of this thread reuses. */
const char* endpoint_text(const struct endpoint* endpoint);

/* A non-blocking socket, bound and, for SOCK_STREAM, listening. */
int open_server(const struct endpoint* at, int type);

/* The number in text, low..high, or exits with status 2 naming the option. Suffixes K, M, G: 2^10,
 * 2^20, 2^30. */
uint64_t parse_number(const char* option, const char* text, uint64_t low, uint64_t high);

#endif
