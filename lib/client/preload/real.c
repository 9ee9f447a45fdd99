#include "client/preload/real.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

struct real real_functions;
bool real_ready;

/* Any number of threads may do this at once: all store the same. */
void real_resolve(void) {
#define X(type, name, arguments)                        \
  {                                                     \
    void* found = dlsym(RTLD_NEXT, #name);              \
    if (found == NULL) abort(); /* not a C library */   \
    memcpy(&real_functions.name, &found, sizeof found); \
  }
  REAL_FUNCTIONS(X)
#undef X
  __atomic_store_n(&real_ready, true, __ATOMIC_RELEASE);
}
