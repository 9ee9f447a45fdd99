/* An attachment that goes on in the program that exec puts in place of this one: what that needs to
 * know lies in a memory file, whose descriptor it inherits with the attachment's own. */
#ifndef POSTERN_CLIENT_CARRY_H
#define POSTERN_CLIENT_CARRY_H

#include <stdint.h>

struct carry_item { /* a socket that is inherited */
  int32_t number;   /* of the kernel's */
  uint32_t kind;    /* for the caller */
  int32_t descriptor;
};

/* The file's descriptor; -1 and errno. From here on the attachment's descriptors are inherited. */
int carry_out(const struct carry_item* items, uint32_t count);
/* The exec has failed. */
void carry_undo(int file);
/* In the new program: attaches, closes the sockets that are not inherited and calls take() for each
 * that is. The file is closed. 0, or -1 and errno: it is of another version, or not readable. */
int carry_in(int file, void (*take)(const struct carry_item* item));

#endif
