/* Which addresses are the kernel's. Pure, but for reading the environment once.
 *
 * The environment is set by `postern run`:
 *   POSTERN_KERNEL   addresses and networks whose sockets are the kernel's, separated by commas
 *   POSTERN_SHIM     0: everything is
 *   POSTERN_BOTH     1: stream sockets that are bound to a wildcard are the kernel's as well
 * The loopback networks are the kernel's in any case, as is what is not an internet address. */
#ifndef POSTERN_PRELOAD_POLICY_H
#define POSTERN_PRELOAD_POLICY_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#ifdef __cplusplus
extern "C" {
#endif

struct network {
  uint8_t address[16]; /* IPv4 mapped */
  uint8_t bits;        /* of the 128 */
};

enum { MAX_NETWORKS = 64 };
struct policy {
  bool off;
  bool both; /* a wildcard listener listens on the kernel's side as well */
  uint32_t count;
  struct network networks[MAX_NETWORKS];
};

/* Adds the networks of a list "192.0.2.1,10.0.0.0/8". False: it is malformed, or too long. */
bool policy_add(struct policy* policy, const char* list);
/* True if Postern is to serve sockets of this kind at all. */
bool policy_covers(const struct policy* policy, int domain, int type, int protocol);
/* True if an address is the kernel's. `connecting`: to it, else bound to it. */
bool policy_is_kernel(const struct policy* policy, const struct sockaddr* address, socklen_t length,
                      bool connecting);
/* True if the socket that is bound to the address is to listen on both sides. */
bool policy_wants_both(const struct policy* policy, const struct sockaddr* address,
                       socklen_t length);
/* The process's own. */
const struct policy* policy_get(void);

#ifdef __cplusplus
}
#endif

#endif
