// Urgent data (RFC 9293 3.8.5, RFC 6093) as Linux serves it. The comparison with the kernel, call
// by call, is tests/system/differential/urgent.py; here is what only this library can get wrong.
#include "fixture.h"

namespace postern::test {
namespace {

class UrgentTest : public ClientTest {
 protected:
  // Waits until POLLPRI is on, or is not after a moment.
  static bool told(int fd) {
    postern_pollfd p{fd, POLLPRI, 0};
    return postern_poll(&p, 1, 2000) == 1 && (p.revents & POLLPRI) != 0;
  }
  static std::string take(int fd, size_t most, int flags = MSG_DONTWAIT) {
    char buffer[64] = {};
    const ssize_t n = postern_recv(fd, buffer, most, flags);
    return n < 0 ? "errno " + std::to_string(errno) : std::string(buffer, static_cast<size_t>(n));
  }
  static std::string error(int number) { return "errno " + std::to_string(number); }
};

TEST_F(UrgentTest, BesideTheStream) {
  const Pair p = connected();
  ASSERT_EQ(postern_send(p.a, "abc!", 4, MSG_OOB), 4);
  ASSERT_TRUE(send_all(p.a, "def", 3));
  ASSERT_TRUE(told(p.b));
  EXPECT_EQ(postern_at_mark(p.b), 0);
  EXPECT_EQ(take(p.b, 64), "abc") << "stops before the urgent byte";
  EXPECT_EQ(postern_at_mark(p.b), 1);
  EXPECT_EQ(take(p.b, 1, MSG_OOB), "!");
  EXPECT_EQ(take(p.b, 1, MSG_OOB), error(EINVAL)) << "read already";
  EXPECT_EQ(take(p.b, 64, MSG_PEEK), "def");  // waits: it may still be on its way
  EXPECT_EQ(take(p.b, 64), "def");
  EXPECT_EQ(postern_at_mark(p.b), 0);
}

TEST_F(UrgentTest, InLine) {
  const Pair p = connected();
  const int on = 1;
  ASSERT_EQ(postern_setsockopt(p.b, SOL_SOCKET, SO_OOBINLINE, &on, sizeof on), 0);
  ASSERT_EQ(postern_send(p.a, "abc!", 4, MSG_OOB), 4);
  ASSERT_TRUE(told(p.b));
  EXPECT_EQ(take(p.b, 1, MSG_OOB), error(EINVAL));
  EXPECT_EQ(take(p.b, 64), "abc");
  EXPECT_EQ(postern_at_mark(p.b), 1);
  EXPECT_EQ(take(p.b, 64), "!");
  EXPECT_EQ(postern_at_mark(p.b), 0);
}

// The byte lies behind chunks that are not yet read, and stays where it is.
TEST_F(UrgentTest, FetchedAcrossChunks) {
  const Pair p = connected();
  const std::vector<char> bytes = pattern_bytes(0, 10000);
  ASSERT_TRUE(send_all(p.a, bytes.data(), bytes.size()));
  ASSERT_EQ(postern_send(p.a, "!", 1, MSG_OOB), 1);
  ASSERT_TRUE(send_all(p.a, "tail", 4));
  ASSERT_TRUE(told(p.b));
  EXPECT_EQ(take(p.b, 1, MSG_OOB), "!");
  std::vector<char> got(bytes.size());
  ASSERT_EQ(postern_recv(p.b, got.data(), got.size(), MSG_WAITALL), 10000);
  EXPECT_EQ(got, bytes);
  EXPECT_EQ(take(p.b, 4, MSG_WAITALL), "tail") << "without the urgent byte";
}

TEST_F(UrgentTest, WaitingForAllEndsAtTheMark) {
  const Pair p = connected();
  ASSERT_EQ(postern_send(p.a, "abc!", 4, MSG_OOB), 4);
  ASSERT_TRUE(told(p.b));
  EXPECT_EQ(take(p.b, 10, MSG_WAITALL), "abc");
}

TEST_F(UrgentTest, LentMemoryHasItInLine) {
  const Pair p = connected();
  ASSERT_EQ(postern_send(p.a, "abc!", 4, MSG_OOB), 4);
  ASSERT_TRUE(told(p.b));
  iovec span{};
  int count = 1;
  ASSERT_EQ(postern_recv_borrow(p.b, &span, &count, 0), 4);
  EXPECT_EQ(std::string(static_cast<char*>(span.iov_base), 4), "abc!");
  ASSERT_EQ(postern_recv_return(p.b, 4), 0);
  EXPECT_EQ(postern_at_mark(p.b), 0) << "passed";
  EXPECT_EQ(take(p.b, 1, MSG_OOB), error(EINVAL));
}

TEST_F(UrgentTest, QueuesTell) {
  const Pair p = connected();
  postern_queue* q = postern_queue_create();
  ASSERT_NE(q, nullptr);
  ASSERT_EQ(postern_queue_add(q, p.b, POLLPRI, 7), 0);
  postern_event event{};
  EXPECT_EQ(postern_queue_wait(q, &event, 1, 0), 0);
  ASSERT_EQ(postern_send(p.a, "!", 1, MSG_OOB), 1);
  ASSERT_EQ(postern_queue_wait(q, &event, 1, 2000), 1);
  EXPECT_EQ(event.events, static_cast<uint32_t>(POLLPRI));
  EXPECT_EQ(take(p.b, 1, MSG_OOB), "!");
  EXPECT_EQ(postern_queue_wait(q, &event, 1, 0), 0);
  postern_queue_destroy(q);
}

TEST_F(UrgentTest, OfDatagramsIsRefused) {
  const int fd = postern_socket(AF_INET, SOCK_DGRAM, 0);
  EXPECT_EQ(take(fd, 1, MSG_OOB), error(EOPNOTSUPP));
  EXPECT_EQ(postern_at_mark(fd), -1);
  EXPECT_EQ(errno, ENOTTY);
}

}  // namespace
}  // namespace postern::test
