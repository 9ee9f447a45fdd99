#include "client/carry.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "client/internal.h"

enum { CARRY_VERSION = 1 };

struct carry { /* the file; items follow */
  uint32_t magic;
  uint32_t version; /* of the client library's own structures, too */
  uint32_t size;    /* of this structure */
  uint32_t record_size;
  uint32_t count;
  struct attachment attachment;
  struct family_place place;
};

static void set_inherited(int fd, bool on) {
  if (fd >= 0) (void)syscall(SYS_fcntl, fd, F_SETFD, on ? 0 : FD_CLOEXEC);
}

static void for_each(const struct carry* k, void (*f)(int fd)) {
  f(k->attachment.session_fd);
  f(k->attachment.daemon_fd);
  f(k->attachment.client_fd);
  for (uint32_t i = 0; i < 2 * k->attachment.channel_count; ++i) f(k->attachment.doorbells[i]);
  f(k->place.family_fd);
  f(k->place.life_fd);
  f(k->place.pulse_fd);
  for (int i = 0; i < KICK_FDS; ++i) f(k->place.kicks[i]);
}

static void pass_on(int fd) { set_inherited(fd, true); }
static void keep_back(int fd) { set_inherited(fd, false); }
static void adopt(int fd) {
  if (fd < 0) return;
  keep_back(fd);
  own_mark(fd);
}
static void drop(int fd) {
  if (fd >= 0) close(fd);
}

static bool write_all(int file, const void* data, size_t length) {
  return write(file, data, length) == (ssize_t)length;
}

int carry_out(const struct carry_item* items, uint32_t count) {
  ENTER();
  struct context* c = context_get();
  if (c == NULL || load_relaxed(&c->dead)) return fail(ENOTCONN);
  struct carry k = {.magic = SHM_MAGIC,
                    .version = CARRY_VERSION,
                    .size = sizeof k,
                    .record_size = sizeof(struct record),
                    .count = count};
  session_describe(c, &k.attachment);
  family_describe(c, &k.place);
  const int file = (int)syscall(SYS_memfd_create, "postern-exec", 0U);
  if (file < 0) return -1;
  if (!write_all(file, &k, sizeof k) || !write_all(file, items, count * sizeof *items)) {
    close(file);
    return fail(EIO);
  }
  report_consumed(c);
  for_each(&k, pass_on);
  return file;
}

static bool read_header(int file, struct carry* k) {
  return pread(file, k, sizeof *k, 0) == (ssize_t)sizeof *k && k->magic == SHM_MAGIC &&
         k->version == CARRY_VERSION && k->size == sizeof *k &&
         k->record_size == sizeof(struct record) &&
         k->attachment.channel_count - 1 < SHM_MAX_CHANNELS;
}

void carry_undo(int file) {
  struct carry k;
  const int error = errno;
  if (read_header(file, &k)) for_each(&k, keep_back);
  close(file);
  errno = error;
}

static bool is_among(const struct carry_item* items, uint32_t count, int descriptor) {
  for (uint32_t i = 0; i < count; ++i) {
    if (items[i].descriptor == descriptor) return true;
  }
  return false;
}

static void close_others(const struct carry_item* items, uint32_t count) {
  ENTER();
  for (int fd = descriptor_next(0); fd >= 0; fd = descriptor_next(fd + 1)) {
    if (!is_among(items, count, fd)) close_descriptor(fd, false);
  }
}

static int resume(int file, const struct carry* k, void (*take)(const struct carry_item* item)) {
  const size_t bytes = k->count * sizeof(struct carry_item);
  struct carry_item* items = malloc(bytes + 1);
  if (items == NULL) return fail(ENOMEM);
  int rc = pread(file, items, bytes, sizeof *k) == (ssize_t)bytes ? 0 : fail(EPROTO);
  if (rc == 0) rc = session_resume(&k->attachment, &k->place);
  if (rc == 0) {
    close_others(items, k->count);
    for (uint32_t i = 0; i < k->count; ++i) take(&items[i]);
  }
  free(items);
  return rc;
}

int carry_in(int file, void (*take)(const struct carry_item* item)) {
  struct carry k;
  if (!read_header(file, &k)) {
    close(file);
    return fail(EPROTO);
  }
  for_each(&k, adopt);
  const int rc = resume(file, &k, take);
  const int error = errno;
  if (rc != 0) for_each(&k, drop);
  close(file);
  errno = error;
  return rc;
}
