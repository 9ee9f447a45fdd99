/* exec: the sockets under numbers that are not close-on-exec are the new program's. This program's
 * place in the family and its attachment go on there (carry.h); the environment names the file that
 * says what is inherited, and loads this library again where the caller gave the new program an
 * environment of its own.
 *
 * The child of a vfork shares its parent's memory, so nothing here could be changed for it; as long
 * as there are sockets of Postern's a vfork is a fork. */
#include <dlfcn.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "client/carry.h"
#include "client/preload/preload.h"

#define INHERITED "POSTERN_INHERITED"

/* ---- which ---- */

static bool is_inherited(int fd) {
  const uint32_t entry = entry_of(fd);
  if (!is_decided(entry) && kind_of(entry) != UNDECIDED) return false;
  if (value_of(entry) == NO_SOCKET) return false;
  const int flags = real()->fcntl(fd, F_GETFD);
  return flags >= 0 && (flags & FD_CLOEXEC) == 0;
}

/* NULL: nothing is inherited, or no memory. */
static struct carry_item* inherited(uint32_t* count) {
  const int high = entry_high();
  *count = 0;
  for (int fd = 0; fd < high; ++fd) *count += is_inherited(fd);
  struct carry_item* items = *count != 0 ? malloc(*count * sizeof *items) : NULL;
  uint32_t n = 0;
  for (int fd = 0; items != NULL && fd < high && n < *count; ++fd) {
    if (!is_inherited(fd)) continue;
    const uint32_t entry = entry_of(fd);
    items[n++] =
        (struct carry_item){.number = fd, .kind = kind_of(entry), .descriptor = value_of(entry)};
  }
  *count = n;
  return items;
}

/* ---- the environment ---- */

static const char* const carried[] = {"POSTERN_SOCKET", "POSTERN_KERNEL", "POSTERN_BOTH",
                                      "POSTERN_SPIN_US", "POSTERN_SHIM"};
enum { CARRIED = sizeof carried / sizeof *carried };

static bool names(const char* entry, const char* name) {
  const size_t n = strlen(name);
  return strncmp(entry, name, n) == 0 && entry[n] == '=';
}

static char* find(char* const* environment, const char* name) {
  for (; environment != NULL && *environment != NULL; ++environment) {
    if (names(*environment, name)) return *environment;
  }
  return NULL;
}

struct handover {
  int file; /* -1: nothing is inherited */
  char told[sizeof INHERITED + 16];
  char* preload; /* an entry LD_PRELOAD; NULL: the caller's will do */
  char** environment;
};

/* The caller's LD_PRELOAD without us in it: ours before it. */
static char* preload_entry(char* const* environment) {
  Dl_info us;
  char* theirs = find(environment, "LD_PRELOAD");
  if (dladdr(fd_table, &us) == 0 || us.dli_fname == NULL) return NULL;
  if (theirs != NULL && strstr(theirs, us.dli_fname) != NULL) return NULL;
  const char* rest = theirs != NULL ? strchr(theirs, '=') + 1 : "";
  char* entry = NULL;
  if (asprintf(&entry, "LD_PRELOAD=%s%s%s", us.dli_fname, *rest != '\0' ? ":" : "", rest) < 0)
    return NULL;
  return entry;
}

static void extend(struct handover* h, char* const* environment) {
  size_t n = 0;
  while (environment != NULL && environment[n] != NULL) ++n;
  char** to = malloc((n + CARRIED + 3) * sizeof *to);
  h->environment = to;
  if (to == NULL) return;
  for (size_t i = 0; i < n; ++i) {
    if (names(environment[i], INHERITED)) continue;
    if (h->preload != NULL && names(environment[i], "LD_PRELOAD")) continue;
    *to++ = environment[i];
  }
  if (h->preload != NULL) *to++ = h->preload;
  for (int i = 0; i < CARRIED; ++i) {
    char* ours = find(environ, carried[i]);
    if (ours != NULL && find(environment, carried[i]) == NULL) *to++ = ours;
  }
  *to++ = h->told;
  *to = NULL;
}

/* ---- around exec ---- */

/* The environment for the new program: the caller's, if nothing is inherited. */
static char* const* begin(struct handover* h, char* const* environment) {
  uint32_t count;
  *h = (struct handover){.file = -1};
  if (borrowed_memory()) return environment;
  const int error = errno;
  struct carry_item* items = inherited(&count);
  if (items != NULL) h->file = carry_out(items, count);
  free(items);
  if (h->file >= 0) {
    snprintf(h->told, sizeof h->told, INHERITED "=%d", h->file);
    h->preload = preload_entry(environment);
    extend(h, environment);
  }
  errno = error;
  return h->environment != NULL ? h->environment : environment;
}

static int end(struct handover* h) {
  const int error = errno;
  if (h->file >= 0) carry_undo(h->file);
  free(h->environment);
  free(h->preload);
  errno = error;
  return -1;
}

EXPORT int execve(const char* path, char* const argv[], char* const envp[]) {
  struct handover h;
  real()->execve(path, argv, begin(&h, envp));
  return end(&h);
}

EXPORT int execvpe(const char* file, char* const argv[], char* const envp[]) {
  struct handover h;
  real()->execvpe(file, argv, begin(&h, envp));
  return end(&h);
}

EXPORT int fexecve(int fd, char* const argv[], char* const envp[]) {
  struct handover h;
  real()->fexecve(fd, argv, begin(&h, envp));
  return end(&h);
}

EXPORT int execveat(int directory, const char* path, char* const argv[], char* const envp[],
                    int flags) {
  struct handover h;
  real()->syscall(SYS_execveat, directory, path, argv, begin(&h, envp), flags);
  return end(&h);
}

EXPORT int execv(const char* path, char* const argv[]) { return execve(path, argv, environ); }
EXPORT int execvp(const char* file, char* const argv[]) { return execvpe(file, argv, environ); }

/* ---- with the arguments in the call ---- */

/* `first` and what follows it up to NULL, on the caller's stack. */
#define GATHER(first)                       \
  va_list list, again;                      \
  size_t n = 1;                             \
  va_start(list, first);                    \
  va_copy(again, list);                     \
  while (va_arg(again, char*) != NULL) ++n; \
  va_end(again);                            \
  char* argv[n + 1];                        \
  argv[0] = (char*)(uintptr_t)first;        \
  for (size_t i = 1; i <= n; ++i) argv[i] = va_arg(list, char*)

EXPORT int execl(const char* path, const char* first, ...) {
  GATHER(first);
  va_end(list);
  return execve(path, argv, environ);
}

EXPORT int execlp(const char* file, const char* first, ...) {
  GATHER(first);
  va_end(list);
  return execvpe(file, argv, environ);
}

EXPORT int execle(const char* path, const char* first, ...) {
  GATHER(first);
  char* const* envp = va_arg(list, char* const*);
  va_end(list);
  return execve(path, argv, envp);
}

/* ---- vfork ---- */

__attribute__((used)) static void* vfork_target(void) {
  pid_t (*const copy)(void) = fork;
  pid_t (*const borrow)(void) = real()->vfork;
  return (void*)(uintptr_t)(holds_sockets() ? copy : borrow);
}

/* It returns twice: no frame of ours may lie between the kernel and the caller. */
EXPORT __attribute__((naked)) pid_t vfork(void) {
  __asm__(
      "sub $8, %rsp\n\t"
      "call vfork_target\n\t"
      "add $8, %rsp\n\t"
      "jmp *%rax");
}

/* ---- in the new program ---- */

static void take(const struct carry_item* item) {
  entry_set(item->number, entry_make((enum kind)item->kind, item->descriptor));
}

__attribute__((constructor)) static void inherit(void) {
  const char* text = secure_getenv(INHERITED);
  if (text == NULL) return;
  const int file = atoi(text);
  unsetenv(INHERITED);
  if (carry_in(file, take) == 0) {
    (void)attached(); /* which registers what a fork needs */
    return;
  }
  static const char why[] =
      "postern: sockets of the program before this one cannot be taken over\n";
  (void)!real()->write(STDERR_FILENO, why, sizeof why - 1);
}
