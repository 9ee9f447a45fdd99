/* The processes that share an attachment: the one that attached and what it forked.
 *
 * What a socket is lies in the client segment, which a fork shares. What each process holds lies in
 * the family's own memory file: a table of descriptors for each sharer, so that the others can drop
 * what it held when it is gone, and a map of the records that changed while another process took
 * the events.
 *
 * A sharer is alive as long as its byte of that file is locked. The lock belongs to an open file
 * description that the process alone holds (F_OFD_SETLK): the kernel takes it away with the
 * process, however it ends, and at exec, unless the new program inherits sockets (carry.h). That
 * one has the old one's place and a new life: what the old one's threads were in the middle of is
 * made whole as if they had died. Lives are numbered and never used twice; a lock (futex.c) holds
 * the life of its owner, so that a dead owner is told from a slow one.
 *
 * A process that takes an event for a record wakes the waiters on the record's futex wherever they
 * are, and tells the other sharers that are interested in it (record.interest, sharer.polling): it
 * sets a bit in their map and, if they sleep, writes to an eventfd that nobody reads, which each
 * process watches edge-triggered. */
#ifndef POSTERN_CLIENT_FAMILY_H
#define POSTERN_CLIENT_FAMILY_H

#include <stdbool.h>
#include <stdint.h>

struct context;
struct sharer;

enum { KICK_FDS = 16 }; /* sharers i, i + 16 ... are kicked by the same one */
struct family_place { /* of a process in its family: what it hands on to the program that exec puts
                         in its place */
  uint32_t sharer;
  int32_t family_fd;
  int32_t life_fd;
  int32_t pulse_fd;
  int32_t kicks[KICK_FDS];
};

/* At attach. False: no memory; errno. */
bool family_begin(struct context* c);
void family_end(struct context* c);

/* Across exec. resume: in the new program; false: errno. settle: after it, once the context can be
 * found; nobody else is in the library yet. */
void family_describe(const struct context* c, struct family_place* place);
bool family_resume(struct context* c, const struct family_place* place);
void family_settle(struct context* c);

/* Around fork(). share: from here on every access is atomic; the family is locked. admit, with the
 * process's own locks held, makes the child a sharer and unlocks the family; where that is not
 * possible, in_child returns false and the child is not attached. */
void family_share(struct context* c);
void family_admit(struct context* c);
void family_in_parent(struct context* c);
bool family_in_child(struct context* c);

/* This life is over. */
bool family_is_gone(uint32_t life);
/* Drops what sharers hold that are gone. At most ten times a second unless forced. */
void family_check(struct context* c, bool forced);

/* Notes that a descriptor's entry is being closed, in *result until that is done; NULL: no room. */
uint64_t* family_closing(struct context* c, uint64_t entry);

/* This process wants to hear of changes of the record. */
void family_interested(struct context* c, uint32_t primary);
/* Tells the other sharers. */
void family_changed(struct context* c, uint32_t primary);
/* Tells this process what others have told it. */
void family_take_changes(struct context* c);

/* Around a sleep: others kick; then family_take_changes() before sleeping. */
void family_sleep_enter(struct context* c);
void family_sleep_leave(struct context* c);
/* What of the counts of sleepers and of threads in postern_poll() is this process's. */
void family_sleeping(struct context* c, uint32_t channel, int change);
void family_polling(struct context* c, int change);

#endif
