#include "control/instance.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <cstring>
#include <fstream>
#include <memory>

#include "temporary_directory.h"

namespace postern {
namespace {

TEST(InstanceLock, OneAtATimeAndTheOtherIsNamed) {
  const TemporaryDirectory dir;
  auto first = std::make_unique<InstanceLock>(dir / "lock");
  try {
    const InstanceLock second(dir / "lock");
    FAIL() << "locked twice";
  } catch (const std::runtime_error& error) {
    EXPECT_NE(std::string(error.what()).find("(pid " + std::to_string(getpid()) + ")"),
              std::string::npos)
        << error.what();
  }
  first.reset();
  EXPECT_NO_THROW(InstanceLock(dir / "lock"));
}

TEST(InstanceLock, IsFreedByDeath) {
  const TemporaryDirectory dir;
  int ready[2];
  ASSERT_EQ(pipe(ready), 0);
  const pid_t child = fork();
  if (child == 0) {
    const InstanceLock lock(dir / "lock");
    (void)!write(ready[1], "x", 1);
    pause();
    _exit(0);
  }
  char byte = 0;
  ASSERT_EQ(read(ready[0], &byte, 1), 1);
  EXPECT_THROW(InstanceLock(dir / "lock"), std::runtime_error);
  kill(child, SIGKILL);
  waitpid(child, nullptr, 0);
  EXPECT_NO_THROW(InstanceLock(dir / "lock"));
  close(ready[0]);
  close(ready[1]);
}

TEST(ListenLocal, ReplacesADeadSocketAndSetsTheMode) {
  const TemporaryDirectory dir;
  const auto path = dir / "a.sock";
  close(listen_local(path, SOCK_STREAM, 0660, 4));  // leaves its file behind
  const int fd = listen_local(path, SOCK_SEQPACKET, 0666, 4);
  struct stat status {};
  ASSERT_EQ(stat(path.c_str(), &status), 0);
  EXPECT_TRUE(S_ISSOCK(status.st_mode));
  EXPECT_EQ(status.st_mode & 0777, 0666u);
  close(fd);
}

TEST(ListenLocal, DoesNotTouchOtherFiles) {
  const TemporaryDirectory dir;
  std::ofstream(dir / "file") << "precious";
  EXPECT_THROW(listen_local(dir / "file", SOCK_STREAM, 0660, 4), std::runtime_error);
  EXPECT_EQ(std::filesystem::file_size(dir / "file"), 8u);
}

TEST(NotifySupervisor, SendsToTheNamedSocket) {
  const TemporaryDirectory dir;
  const auto path = dir / "notify";
  const int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::strncpy(address.sun_path, path.c_str(), sizeof address.sun_path - 1);
  ASSERT_EQ(bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  setenv("NOTIFY_SOCKET", path.c_str(), 1);
  notify_supervisor("READY=1");
  unsetenv("NOTIFY_SOCKET");
  std::array<char, 32> buffer{};
  ASSERT_EQ(recv(fd, buffer.data(), buffer.size(), 0), 7);
  EXPECT_STREQ(buffer.data(), "READY=1");
  notify_supervisor("READY=1");  // nobody to tell
  EXPECT_EQ(recv(fd, buffer.data(), buffer.size(), 0), -1);
  close(fd);
}

}  // namespace
}  // namespace postern
