/* What the daemon's configuration says to its clients. */
#ifndef POSTERN_CLIENT_SETTINGS_H
#define POSTERN_CLIENT_SETTINGS_H

#include "abi/shmsock.h"

/* NULL when not attached, or when the daemon is older than they are. Valid while attached. */
const struct shm_settings* settings_get(void);

#endif
