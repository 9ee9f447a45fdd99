// Borrowing what arrived, reserving room for what is sent.
#include "fixture.h"

namespace postern::test {
namespace {

class ZeroCopy : public ClientTest {};

// Sends `total` bytes of the pattern by reserving.
void send_reserved(int fd, size_t total) {
  for (size_t at = 0; at < total;) {
    iovec span{};
    const ssize_t n = postern_send_reserve(fd, &span, std::min<size_t>(total - at, 5000), 0);
    ASSERT_GT(n, 0) << strerror(errno);
    ASSERT_EQ(span.iov_len, static_cast<size_t>(n));
    const std::vector<char> bytes = pattern_bytes(at, span.iov_len);
    std::memcpy(span.iov_base, bytes.data(), bytes.size());
    // Not all that was reserved has to be sent.
    const size_t part = span.iov_len > 7 ? span.iov_len - 7 : span.iov_len;
    ASSERT_EQ(postern_send_commit(fd, part, 0), static_cast<ssize_t>(part));
    at += part;
  }
}

TEST_F(ZeroCopy, EveryByteOnceAndInOrder) {
  constexpr size_t kTotal = 3 << 20;
  const Pair p = connected();
  std::thread sender([&] {
    send_reserved(p.a, kTotal);
    EXPECT_EQ(postern_shutdown(p.a, SHUT_WR), 0);
  });
  size_t at = 0;
  for (;;) {
    iovec spans[3];
    int count = 3;
    const ssize_t n = postern_recv_borrow(p.b, spans, &count, 0);
    ASSERT_GE(n, 0) << strerror(errno);
    if (n == 0) break;
    ASSERT_GE(count, 1);
    size_t here = 0;
    for (int i = 0; i < count; ++i) {
      const std::vector<char> expected = pattern_bytes(at + here, spans[i].iov_len);
      ASSERT_EQ(std::memcmp(spans[i].iov_base, expected.data(), expected.size()), 0) << at + here;
      here += spans[i].iov_len;
    }
    ASSERT_EQ(here, static_cast<size_t>(n));
    const size_t back = here > 100 ? here - 11 : here;  // the rest comes again
    ASSERT_EQ(postern_recv_return(p.b, back), 0);
    at += back;
  }
  sender.join();
  EXPECT_EQ(at, kTotal);
  EXPECT_EQ(postern_close(p.a), 0);
  EXPECT_EQ(postern_close(p.b), 0);
  EXPECT_TRUE(eventually([] { return tx_used() == 0; }));
  EXPECT_TRUE(eventually([&] { return daemon_->stats().rx_units_used == 0; }));
}

TEST_F(ZeroCopy, BorrowingTakesNothing) {
  const Pair p = connected();
  ASSERT_TRUE(send_all(p.a, "abcdef", 6));
  for (int i = 0; i < 3; ++i) {
    iovec span;
    int count = 1;
    ASSERT_EQ(postern_recv_borrow(p.b, &span, &count, 0), 6);
    EXPECT_EQ(std::string(static_cast<char*>(span.iov_base), span.iov_len), "abcdef");
  }
  EXPECT_EQ(postern_recv_return(p.b, 7), -1);
  EXPECT_EQ(errno, EINVAL);
  EXPECT_EQ(postern_recv_return(p.b, 2), 0);
  char rest[8];
  EXPECT_EQ(postern_recv(p.b, rest, sizeof rest, 0), 4);
  EXPECT_EQ(std::string(rest, 4), "cdef");
  iovec span;
  int count = 1;
  EXPECT_EQ(postern_recv_borrow(p.b, &span, &count, MSG_DONTWAIT), -1);
  EXPECT_EQ(errno, EAGAIN);
}

// The chunk is the application's until it commits, also when all that was sent is acknowledged.
TEST_F(ZeroCopy, ReservedRoomIsNotGivenAway) {
  const Pair p = connected(1000);
  const Pair other = connected(1001);
  ASSERT_TRUE(send_all(p.a, "first ", 6));
  iovec span;
  ASSERT_GE(postern_send_reserve(p.a, &span, 6, 0), 6);
  ASSERT_TRUE(eventually([&] { return postern_unacknowledged(p.a) == 0; }));
  std::memcpy(span.iov_base, "second", 6);
  for (int i = 0; i < 50; ++i) {
    char bytes[3000] = {};
    ASSERT_TRUE(send_all(other.a, bytes, sizeof bytes));
    ASSERT_EQ(postern_recv(other.b, bytes, sizeof bytes, MSG_WAITALL), 3000);
  }
  EXPECT_EQ(postern_send_commit(p.a, 6, 0), 6);
  char got[12];
  EXPECT_EQ(postern_recv(p.b, got, sizeof got, MSG_WAITALL), 12);
  EXPECT_EQ(std::string(got, 12), "first second");
  ASSERT_GE(postern_send_reserve(p.a, &span, 6, 0), 6);
  EXPECT_EQ(postern_send_commit(p.a, 0, 0), 0);
  EXPECT_TRUE(eventually([&] {
    return postern_send(p.a, "x", 1, 0) == 1 && postern_recv(p.b, got, 1, 0) == 1 && tx_used() == 0;
  }));
}

TEST_F(ZeroCopy, MisuseIsRefused) {
  const Pair p = connected();
  iovec span;
  int count = 0;
  EXPECT_EQ(postern_send_commit(p.a, 1, 0), -1);
  EXPECT_EQ(errno, EINVAL);
  EXPECT_EQ(postern_recv_borrow(p.a, &span, &count, 0), -1);
  EXPECT_EQ(errno, EINVAL);
  ASSERT_GT(postern_send_reserve(p.a, &span, 100, 0), 0);
  EXPECT_EQ(postern_send_commit(p.a, 1 << 20, 0), -1);
  EXPECT_EQ(errno, EINVAL);
  const int u = udp();
  count = 1;
  EXPECT_EQ(postern_recv_borrow(u, &span, &count, 0), -1);
  EXPECT_EQ(errno, EOPNOTSUPP);
  EXPECT_EQ(postern_send_reserve(u, &span, 1, 0), -1);
  EXPECT_EQ(errno, EOPNOTSUPP);
}

// One thread alone uses no atomic operation; the others come in at any moment.
TEST(Bias, ThreadsComeInTheMiddle) {
  for (int round = 0; round < 6; ++round) {
    MiniDaemon daemon;
    ASSERT_EQ(postern_attach(daemon.path().c_str()), 0);
    const int l = postern_socket(AF_INET, SOCK_STREAM, 0);
    const sockaddr_in at = address("10.0.0.2", 1000);
    ASSERT_EQ(postern_bind(l, generic(at), sizeof at), 0);
    ASSERT_EQ(postern_listen(l, 64), 0);
    const auto work = [&](int times) {
      for (int i = 0; i < times; ++i) {
        const int a = postern_socket(AF_INET, SOCK_STREAM, 0);
        ASSERT_EQ(postern_connect(a, generic(at), sizeof at), 0) << strerror(errno);
        const int b = postern_accept(l, nullptr, nullptr);
        ASSERT_GE(b, 0);
        ASSERT_TRUE(send_all(a, "ping", 4));
        char byte;
        ASSERT_EQ(postern_recv(b, &byte, 1, 0), 1);
        ASSERT_EQ(postern_close(a), 0);
        ASSERT_EQ(postern_close(b), 0);
      }
    };
    std::vector<std::thread> threads;
    threads.emplace_back([&] { work(60); });
    for (int i = 0; i < 3; ++i) {
      std::this_thread::sleep_for(std::chrono::microseconds(round * 400));
      threads.emplace_back([&] {
        for (int k = 0; k < 200; ++k) {
          const int fd = postern_socket(AF_INET, SOCK_STREAM, 0);
          ASSERT_GE(fd, 0) << strerror(errno);
          ASSERT_EQ(postern_close(fd), 0);
        }
      });
    }
    for (std::thread& t : threads) t.join();
    postern_stats s;
    ASSERT_EQ(postern_get_stats(&s), 0);
    EXPECT_EQ(s.descriptors, 1U);
    ASSERT_EQ(postern_detach(), 0);
  }
}

}  // namespace
}  // namespace postern::test
