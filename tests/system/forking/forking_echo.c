/* TCP echo by several processes that share one attachment.
 *
 *   forking_echo each PORT       a child for each connection; the parent accepts and closes its
 * copy forking_echo workers PORT N  N children accept from one listener; prints their process ids
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <postern.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

static void die(const char* what) {
  fprintf(stderr, "%s: %s (%s)\n", what, strerror(errno), postern_last_error());
  exit(1);
}

static int open_listener(const char* port) {
  struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port))};
  const int fd = postern_socket(AF_INET, SOCK_STREAM, 0);
  if (fd < 0) die("socket");
  if (postern_bind(fd, (const struct sockaddr*)&at, sizeof at) != 0) die("bind");
  if (postern_listen(fd, 512) != 0) die("listen");
  return fd;
}

static void echo(int fd) {
  static char buffer[65536];
  ssize_t n;
  while ((n = postern_recv(fd, buffer, sizeof buffer, 0)) > 0) {
    for (ssize_t done = 0; done < n;) {
      const ssize_t sent = postern_send(fd, buffer + done, (size_t)(n - done), MSG_NOSIGNAL);
      if (sent < 0) return;
      done += sent;
    }
  }
}

static int serve_each(int listener) {
  signal(SIGCHLD, SIG_IGN); /* no zombies */
  for (;;) {
    const int fd = postern_accept(listener, NULL, NULL);
    if (fd < 0) return 1;
    const pid_t child = fork();
    if (child < 0) die("fork");
    if (child == 0) {
      postern_close(listener);
      echo(fd);
      _exit(0); /* without a close: that it ends is enough */
    }
    postern_close(fd);
  }
}

static int serve_workers(int listener, int workers) {
  for (int i = 0; i < workers; ++i) {
    const pid_t child = fork();
    if (child < 0) die("fork");
    if (child != 0) {
      printf("%d\n", (int)child);
      fflush(stdout);
      continue;
    }
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (;;) {
      const int fd = postern_accept(listener, NULL, NULL);
      if (fd < 0) _exit(1);
      echo(fd);
      postern_close(fd);
    }
  }
  for (;;) pause();
}

int main(int argc, char** argv) {
  if (argc < 3) return fprintf(stderr, "usage: forking_echo each|workers PORT [N]\n"), 2;
  if (postern_attach(NULL) != 0) die("attach");
  const int listener = open_listener(argv[2]);
  puts("ready");
  fflush(stdout);
  if (strcmp(argv[1], "each") == 0) return serve_each(listener);
  return serve_workers(listener, argc > 3 ? atoi(argv[3]) : 2);
}
