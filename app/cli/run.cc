#include "cli/run.h"

#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <iostream>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "client/postern.h"
#include "client/preload/policy.h"

namespace postern {
namespace {

namespace fs = std::filesystem;

constexpr int kFailed = 1;
constexpr int kBadUse = 2;
constexpr int kCannotRun = 126;  // as shells and env(1)
constexpr int kNotFound = 127;

struct Run {
  std::vector<std::string> program;
  std::string kernel;  // addresses left to the kernel
  std::string socket;  // "": as the environment says
  bool both = false;
};

int bad_use(const std::string& what) {
  std::cerr << "postern: run: " << what << "; see postern help run\n";
  return kBadUse;
}

// The value of an option "--name VALUE" or "--name=VALUE" at position i, which moves past it.
std::optional<std::string> value_of(std::string_view name, const std::vector<std::string>& words,
                                    size_t* i) {
  const std::string& word = words[*i];
  if (word.starts_with(std::string(name) + '=')) return word.substr(name.size() + 1);
  if (word != name || *i + 1 == words.size()) return std::nullopt;
  return words[++*i];
}

std::optional<int> parse(const std::vector<std::string>& words, Run* out) {
  size_t i = 0;
  for (; i < words.size() && words[i].starts_with("-"); ++i) {
    if (words[i] == "--") {
      ++i;
      break;
    }
    if (words[i] == "--both") {
      out->both = true;
    } else if (const auto kernel = value_of("--kernel", words, &i)) {
      struct policy policy = {};
      if (!policy_add(&policy, kernel->c_str())) {
        return bad_use('"' + *kernel +
                       "\" is not a list of addresses or networks, as 192.0.2.0/24");
      }
      out->kernel += (out->kernel.empty() ? "" : ",") + *kernel;
    } else if (const auto socket = value_of("--socket", words, &i)) {
      out->socket = *socket;
    } else {
      return bad_use("unknown option \"" + words[i] + '"');
    }
  }
  out->program.assign(words.begin() + static_cast<std::ptrdiff_t>(i), words.end());
  if (out->program.empty()) return bad_use("say which program, for example: postern run -- nginx");
  return std::nullopt;
}

// Beside this command as it is built or installed.
std::string library() {
  const fs::path here = fs::read_symlink("/proc/self/exe").parent_path();
  const std::string name = "libpostern_preload.so";
  for (const fs::path& place : {here / name, here / "../../lib/client/preload" / name,
                                fs::path(POSTERN_LIBDIR) / "postern" / name}) {
    std::error_code ignored;
    if (fs::exists(place, ignored)) return fs::canonical(place).string();
  }
  return "";
}

// What would go wrong in the program's first socket call is told before the program starts.
bool can_attach(const Run& run) {
  if (postern_attach(run.socket.empty() ? nullptr : run.socket.c_str()) == 0) {
    postern_detach();
    return true;
  }
  const int error = errno;
  const std::string why = postern_last_error();
  std::cerr << "postern: run: cannot attach to posternd: " << (why.empty() ? strerror(error) : why)
            << '\n';
  return false;
}

void set_environment(const Run& run, const std::string& preload) {
  const char* others = getenv("LD_PRELOAD");
  const bool more = others != nullptr && *others != '\0';
  setenv("LD_PRELOAD", (more ? preload + ':' + others : preload).c_str(), 1);
  if (!run.socket.empty()) setenv("POSTERN_SOCKET", run.socket.c_str(), 1);
  if (!run.kernel.empty()) setenv("POSTERN_KERNEL", run.kernel.c_str(), 1);
  if (run.both) setenv("POSTERN_BOTH", "1", 1);
}

}  // namespace

int run_program(const Arguments& arguments, std::ostream&) {
  Run run;
  if (const auto status = parse(arguments.operands, &run)) return *status;
  const std::string preload = library();
  if (preload.empty()) {
    std::cerr << "postern: run: libpostern_preload.so is not installed\n";
    return kFailed;
  }
  if (!can_attach(run)) return kFailed;
  set_environment(run, preload);
  std::vector<char*> words;
  for (std::string& word : run.program) words.push_back(word.data());
  words.push_back(nullptr);
  execvp(words[0], words.data());
  const int error = errno;
  std::cerr << "postern: run: " << words[0] << ": " << strerror(error) << '\n';
  return error == ENOENT ? kNotFound : kCannotRun;
}

}  // namespace postern
