/* What the preload library has to know of groups. */
#ifndef POSTERN_CLIENT_GROUPS_H
#define POSTERN_CLIENT_GROUPS_H

#include <stdbool.h>

/* An option by which a socket joins or leaves a group, or changes its filter. */
bool group_is_membership(int level, int option);

#endif
