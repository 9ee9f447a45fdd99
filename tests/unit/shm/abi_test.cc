// The layout that the daemon (C++) and the library (C) agree on.
#include <gtest/gtest.h>

#include "abi/shmsock.h"

extern "C" const uint32_t shm_layout_in_c[];

namespace postern::test {
namespace {

TEST(Abi, CAndCppSeeTheSame) {
  const uint32_t in_cpp[] = {sizeof(shm_header),
                             offsetof(shm_header, state),
                             offsetof(shm_header, regions_offset),
                             sizeof(shm_region),
                             sizeof(shm_channel_daemon),
                             offsetof(shm_channel_daemon, armed),
                             sizeof(shm_channel_client),
                             offsetof(shm_channel_client, armed),
                             sizeof(shm_command),
                             offsetof(shm_command, rx_head),
                             offsetof(shm_command, offset),
                             sizeof(shm_request),
                             offsetof(shm_request, remote_port),
                             sizeof(shm_event),
                             offsetof(shm_event, tx_acked),
                             offsetof(shm_event, value2),
                             sizeof(shm_socket),
                             offsetof(shm_socket, mss),
                             sizeof(shm_figures),
                             offsetof(shm_figures, rto),
                             offsetof(shm_figures, bytes_sent),
                             sizeof(shm_chunk),
                             sizeof(shm_datagram),
                             offsetof(shm_datagram, local),
                             offsetof(shm_datagram, interface),
                             sizeof(shm_error),
                             offsetof(shm_error, port),
                             offsetof(shm_error, payload),
                             sizeof(shm_attach_request),
                             offsetof(shm_attach_request, name),
                             sizeof(shm_attach_reply),
                             offsetof(shm_attach_reply, message),
                             sizeof(shm_bind_request),
                             offsetof(shm_bind_request, handles),
                             sizeof(shm_group_request),
                             offsetof(shm_group_request, group),
                             offsetof(shm_group_request, handles),
                             sizeof(shm_bind_reply),
                             offsetof(shm_bind_reply, message),
                             0};
  for (size_t i = 0; i < sizeof in_cpp / sizeof in_cpp[0]; ++i) {
    EXPECT_EQ(in_cpp[i], shm_layout_in_c[i]) << "entry " << i;
  }
}

// A change of these is a change of the ABI: raise the version.
TEST(Abi, NumbersOfVersionOne) {
  EXPECT_EQ(SHM_VERSION_MAJOR, 1);
  EXPECT_EQ(SHM_MAGIC, 0x4e525350U);
  EXPECT_EQ(SHM_OP_ACCEPTED, 9);
  EXPECT_EQ(SHM_OP_INFO, 10);
  EXPECT_EQ(SHM_OPT_DEFER_ACCEPT, 15);
  EXPECT_EQ(SHM_OPT_GROUP_INTERFACE, 21);
  EXPECT_EQ(SHM_OPT_RECVERR, 23);
  EXPECT_EQ(SHM_OPT_LAST, 23);
  EXPECT_EQ(SHM_EV_ERRQUEUE, 32);
  EXPECT_EQ(SHM_GROUP_UNBLOCK, 6);
  EXPECT_EQ(SHM_EVENT_RELEASED, 3);
  EXPECT_EQ(SHM_REGION_SCRATCH, 9);
  EXPECT_EQ(SHM_REGION_SETTINGS, 10);
  EXPECT_EQ(SHM_REGION_FIGURES, 11);
  EXPECT_EQ(SHM_CMD_URGENT, 8);
  EXPECT_EQ(SHM_EV_URGENT, 16);
  EXPECT_EQ(SHM_REGION_ERRORS, 12);
  EXPECT_EQ(SHM_SCRATCH_BYTES(65536, 64 << 20), 16384U + 256U * 65536U + (64U << 20) / 64U);
}

}  // namespace
}  // namespace postern::test
