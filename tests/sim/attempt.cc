#include "attempt.h"

#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <cstring>
#include <sstream>
#include <system_error>

#include "recorder.h"

namespace postern::sim {

namespace {

constexpr unsigned kPatience = 60;  // seconds of real time

int memory_file() {
  const int fd = memfd_create("attempt", 0);
  if (fd < 0) throw std::system_error(errno, std::generic_category(), "memfd_create");
  return fd;
}

std::string read_all(int fd) {
  std::string text;
  char piece[65536];
  for (ssize_t n = 0; (n = pread(fd, piece, sizeof piece, static_cast<off_t>(text.size()))) > 0;) {
    text.append(piece, static_cast<size_t>(n));
  }
  close(fd);
  return text;
}

// In the child. What the engine says when it aborts goes to `errors`.
[[noreturn]] void run_here(uint64_t seed, const Options& options, bool scripts, int log,
                           int errors) {
  dup2(errors, STDERR_FILENO);
  alarm(kPatience);
  FILE* out = fdopen(log, "w");
  Recorder recorder(out, options, scripts);
  Network network(seed, options);
  network.observe(&recorder);
  const Result result = network.run();
  for (int side = 0; side < 2; ++side) recorder.end(side, network.running());
  if (!result.failure.empty()) std::fprintf(out, "failure %s\n", result.failure.c_str());
  std::fflush(out);
  _exit(0);
}

std::string first_line(const std::string& text) { return text.substr(0, text.find('\n')); }

}  // namespace

Attempt attempt(uint64_t seed, const Options& options, bool scripts) {
  const int log = memory_file();
  const int errors = memory_file();
  std::fflush(nullptr);
  const pid_t child = fork();
  if (child < 0) throw std::system_error(errno, std::generic_category(), "fork");
  if (child == 0) run_here(seed, options, scripts, log, errors);
  int status = 0;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  Attempt a;
  std::istringstream lines(read_all(log));
  for (std::string line; std::getline(lines, line);) {
    if (read_fate(line, a.fates)) continue;
    if (line.rfind("failure ", 0) == 0) {
      a.failure = line.substr(8);
    } else if (line.size() > 2) {
      a.script[line[0] == '1' ? 1 : 0] += line.substr(2) + "\n";
    }
  }
  const std::string said = read_all(errors);
  if (WIFSIGNALED(status)) {
    a.failure = WTERMSIG(status) == SIGALRM ? "never ends" : first_line(said);
    if (a.failure.empty()) a.failure = std::string("ended by ") + strsignal(WTERMSIG(status));
  } else if (WEXITSTATUS(status) != 0) {
    a.failure = said.empty() ? "exit status" : first_line(said);
  }
  return a;
}

std::string kind_of(const std::string& failure) {
  std::string kind;
  for (const char c : failure) {
    if (c < '0' || c > '9') kind += c;
  }
  return kind;
}

}  // namespace postern::sim
