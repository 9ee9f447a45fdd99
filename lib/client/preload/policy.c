#include "client/preload/policy.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "abi/shmsock.h"

static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};

/* ---- networks ---- */

static bool inside(const struct network* n, const uint8_t address[16]) {
  const unsigned whole = n->bits / 8, rest = n->bits % 8;
  if (memcmp(n->address, address, whole) != 0) return false;
  const uint8_t mask = (uint8_t)(0xff00 >> rest);
  return rest == 0 || ((n->address[whole] ^ address[whole]) & mask) == 0;
}

/* "192.0.2.0/24": the text is written to. */
static bool parse_network(char* text, struct network* n) {
  char* slash = strchr(text, '/');
  if (slash != NULL) *slash = '\0';
  memcpy(n->address, mapped, sizeof mapped);
  const bool v4 = inet_pton(AF_INET, text, n->address + 12) == 1;
  if (!v4 && inet_pton(AF_INET6, text, n->address) != 1) return false;
  const unsigned most = v4 ? 32 : 128;
  unsigned long bits = most;
  if (slash != NULL) {
    char* end;
    bits = strtoul(slash + 1, &end, 10);
    if (end == slash + 1 || *end != '\0' || bits > most) return false;
  }
  n->bits = (uint8_t)(128 - most + bits);
  return true;
}

bool policy_add(struct policy* policy, const char* list) {
  while (*list != '\0') {
    char text[INET6_ADDRSTRLEN + 4];
    const size_t length = strcspn(list, ",");
    if (length >= sizeof text || policy->count == MAX_NETWORKS) return false;
    memcpy(text, list, length);
    text[length] = '\0';
    if (!parse_network(text, &policy->networks[policy->count])) return false;
    policy->networks[policy->count].kernel = true;
    policy->count += 1;
    list += length;
    if (*list == ',') ++list;
  }
  return true;
}

void policy_take(struct policy* policy, const struct shm_settings* settings) {
  if (settings == NULL) return;
  policy->both |= settings->both_sides != 0;
  for (uint32_t i = 0; i < settings->network_count && i < SHM_MAX_NETWORKS; ++i) {
    const struct shm_network* from = &settings->networks[i];
    if (policy->count == MAX_NETWORKS || from->bits > 128) return;
    struct network* to = &policy->networks[policy->count++];
    memcpy(to->address, from->address, sizeof to->address);
    to->bits = from->bits;
    to->kernel = from->kernel != 0;
  }
}

/* ---- decisions ---- */

bool policy_covers(const struct policy* policy, int domain, int type, int protocol) {
  const int kind = type & ~(SOCK_NONBLOCK | SOCK_CLOEXEC);
  if (policy->off || (domain != AF_INET && domain != AF_INET6)) return false;
  if (kind == SOCK_STREAM) return protocol == 0 || protocol == IPPROTO_TCP;
  return kind == SOCK_DGRAM && (protocol == 0 || protocol == IPPROTO_UDP);
}

/* False: not an internet address. */
static bool read_address(const struct sockaddr* from, socklen_t length, uint8_t address[16]) {
  if (from->sa_family == AF_INET && length >= sizeof(struct sockaddr_in)) {
    memcpy(address, mapped, sizeof mapped);
    memcpy(address + 12, &((const struct sockaddr_in*)(const void*)from)->sin_addr, 4);
    return true;
  }
  if (from->sa_family != AF_INET6 || length < sizeof(struct sockaddr_in6)) return false;
  memcpy(address, &((const struct sockaddr_in6*)(const void*)from)->sin6_addr, 16);
  return true;
}

static bool is_wildcard(const uint8_t address[16]) {
  static const uint8_t zero[16];
  const bool v4 = memcmp(address, mapped, sizeof mapped) == 0;
  return v4 ? memcmp(address + 12, zero, 4) == 0 : memcmp(address, zero, 16) == 0;
}

bool policy_is_kernel(const struct policy* policy, const struct sockaddr* address, socklen_t length,
                      bool connecting) {
  static const struct network loopback[] = {
      {.address = {[10] = 0xff, [11] = 0xff, [12] = 127}, .bits = 96 + 8},
      {.address = {[15] = 1}, .bits = 128},
  };
  uint8_t a[16];
  if (!read_address(address, length, a)) return true;
  if (is_wildcard(a)) return connecting; /* to connect to the wildcard is to connect to loopback */
  if (inside(&loopback[0], a) || inside(&loopback[1], a)) return true;
  const struct network* best = NULL;
  for (uint32_t i = 0; i < policy->count; ++i) {
    const struct network* n = &policy->networks[i];
    if (inside(n, a) && (best == NULL || n->bits > best->bits)) best = n;
  }
  return best != NULL && best->kernel;
}

bool policy_wants_both(const struct policy* policy, const struct sockaddr* address,
                       socklen_t length) {
  uint8_t a[16];
  return policy->both && read_address(address, length, a) && is_wildcard(a);
}

static struct policy ours;

static void read_environment(void) {
  const char* list = getenv("POSTERN_KERNEL");
  const char* shim = getenv("POSTERN_SHIM");
  const char* both = getenv("POSTERN_BOTH");
  ours.both = both != NULL && strcmp(both, "1") == 0;
  ours.off = shim != NULL && strcmp(shim, "0") == 0;
  if (list != NULL) (void)policy_add(&ours, list); /* `postern run` has checked it */
}

const struct policy* policy_get(void) {
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  pthread_once(&once, read_environment);
  return &ours;
}

void policy_attached(const struct shm_settings* settings) {
  (void)policy_get();
  policy_take(&ours, settings);
}
