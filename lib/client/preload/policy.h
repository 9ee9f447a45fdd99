/* Which addresses are the kernel's. Pure, but for reading the environment once.
 *
 * The environment is set by `postern run`:
 *   POSTERN_KERNEL   addresses and networks whose sockets are the kernel's, separated by commas
 *   POSTERN_SHIM     0: everything is
 *   POSTERN_BOTH     1: stream sockets that are bound to a wildcard are the kernel's as well
 * The daemon's configuration (`programs:`) says the same for all. The longest network that covers
 * an address decides, of equal ones the environment's; what none covers is Postern's. The loopback
 * networks are the kernel's in any case, as is what is not an internet address. */
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
  bool kernel;
};

enum { MAX_NETWORKS = 128 };
struct policy {
  bool off;
  bool both; /* a wildcard listener listens on the kernel's side as well */
  uint32_t count;
  struct network networks[MAX_NETWORKS];
};

/* Leaves the networks of a list "192.0.2.1,10.0.0.0/8" to the kernel. False: it is malformed, or
 * too long. */
bool policy_add(struct policy* policy, const char* list);
/* True if Postern is to serve sockets of this kind at all. */
bool policy_covers(const struct policy* policy, int domain, int type, int protocol);
/* True if an address is the kernel's. `connecting`: to it, else bound to it. */
bool policy_is_kernel(const struct policy* policy, const struct sockaddr* address, socklen_t length,
                      bool connecting);
/* True if the socket that is bound to the address is to listen on both sides. */
bool policy_wants_both(const struct policy* policy, const struct sockaddr* address,
                       socklen_t length);
/* Adds what the daemon's configuration says. NULL: nothing. */
struct shm_settings;
void policy_take(struct policy* policy, const struct shm_settings* settings);
/* The process's own. */
const struct policy* policy_get(void);
/* It attached. Before any address is looked at, once. */
void policy_attached(const struct shm_settings* settings);

#ifdef __cplusplus
}
#endif

#endif
