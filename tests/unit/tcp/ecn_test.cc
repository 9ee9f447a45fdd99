// ECN in the engine: the exact echo of DCTCP, and what an echo does to the sender.
#include "bench.h"

namespace postern {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using S = TcpState;

// Established with ECN, past the quick ACKs.
class EcnTest : public testing::Test {
 protected:
  void establish(const char* algorithm) {
    b.config.congestion = static_cast<uint8_t>(find_congestion(algorithm));
    TcpSegment s = b.segment(syn | ece | cwr, 0);
    b.tcp.open_passive(b.context(), s, 1460);
    answer = b.send().at(0);
    b.now += 100ms;
    (void)b.receive(b.segment(ack, 1, 1));
    ASSERT_TRUE(b.tcp.set_option(b.context(), TcpOption::quick_ack, 0));
    b.send();
  }
  // The next `count` segments of 1000 bytes, in one burst.
  void data(uint32_t count, bool ce) {
    for (uint32_t i = 0; i < count; ++i, next += 1000) {
      TcpSegment s = b.segment(ack, next, 1, 1000);
      s.ecn = ce ? 3 : 2;
      (void)b.receive(s);
    }
  }

  Bench b;
  TcpSegment answer;
  uint32_t next = 1;
};

TEST_F(EcnTest, DctcpAsksForEcnByItself) {  // RFC 8257 3
  b.config.ecn = false;
  establish("dctcp");
  EXPECT_THAT(answer, HasFlags(syn | ack | ece));
  TcpInfo info;
  b.tcp.info(b.context(), info);
  EXPECT_TRUE(info.ecn);
}

TEST_F(EcnTest, ChangeOfMarkIsAcknowledgedAsItWas) {  // RFC 8257 3.2, figure 1
  establish("dctcp");
  data(1, false);
  data(1, true);
  EXPECT_THAT(b.send(), ElementsAre(AllOf(HasFlags(ack), HasAck(1001U)),
                                    AllOf(HasFlags(ack | ece), HasAck(2001U))));
  data(1, true);
  EXPECT_THAT(b.send(), ElementsAre());
  data(1, false);
  EXPECT_THAT(b.send(), ElementsAre(AllOf(HasFlags(ack | ece), HasAck(3001U)),
                                    AllOf(HasFlags(ack), HasAck(4001U))));
}

TEST_F(EcnTest, SeveralChangesInABurst) {  // RFC 8257 3.2
  establish("dctcp");
  data(2, false);
  data(3, true);
  data(1, false);
  data(2, true);
  EXPECT_THAT(
      b.send(),
      ElementsAre(AllOf(HasFlags(ack), HasAck(2001U)), AllOf(HasFlags(ack | ece), HasAck(5001U)),
                  AllOf(HasFlags(ack), HasAck(6001U)), AllOf(HasFlags(ack | ece), HasAck(8001U))));
}

TEST_F(EcnTest, AnEchoGoesBeforeData) {  // RFC 8257 3.2: an ACK number never goes back
  establish("dctcp");
  data(1, true);
  b.send();
  data(1, true);
  data(1, false);
  b.tcp.on_send(b.context(), 500, false);
  EXPECT_THAT(b.send(), ElementsAre(AllOf(HasFlags(ack | ece), HasAck(2001U), HasLength(0U)),
                                    AllOf(HasFlags(ack | psh), HasAck(3001U), HasLength(500U))));
}

TEST_F(EcnTest, CwrDoesNotEndAnExactEcho) {  // RFC 8257 3.2
  establish("dctcp");
  data(1, true);
  b.send();
  TcpSegment s = b.segment(ack | cwr, next, 1, 1000);
  s.ecn = 3;
  (void)b.receive(s);
  b.pass(1s);
  ASSERT_FALSE(b.sent_in_passing.empty());
  EXPECT_THAT(b.sent_in_passing.back(), HasFlags(ack | ece));
}

TEST_F(EcnTest, ClassicEchoLastsUntilCwr) {  // RFC 3168 6.1.3
  b.config.ecn = true;
  establish("cubic");
  data(2, true);
  EXPECT_THAT(b.send(), ElementsAre(HasFlags(ack | ece)));
  data(2, false);
  EXPECT_THAT(b.send(), ElementsAre(HasFlags(ack | ece)));
  TcpSegment s = b.segment(ack | cwr, next, 1, 1000);
  s.ecn = 2;
  (void)b.receive(s);
  next += 1000;
  data(1, false);
  EXPECT_THAT(b.send(), ElementsAre(HasFlags(ack)));
}

TEST_F(EcnTest, AnEchoNeverOpensTheWindow) {  // RFC 3168 6.1.2
  b.config.ecn = true;
  establish("newreno");
  b.tcp.on_send(b.context(), 10000, false);
  b.send();
  b.now += 100ms;
  TcpInfo info;
  (void)b.receive(b.segment(ack | ece, 1, 1001));
  b.tcp.info(b.context(), info);
  const uint32_t reduced = info.cwnd;
  EXPECT_EQ(reduced, 5000U) << "half of the flight, and nothing for what was acknowledged";
  (void)b.receive(b.segment(ack | ece, 1, 4001));
  b.tcp.info(b.context(), info);
  EXPECT_EQ(info.cwnd, reduced) << "once a window";
}

}  // namespace
}  // namespace postern
