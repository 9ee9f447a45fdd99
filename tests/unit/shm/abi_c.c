/* shmsock.h in C11: its assertions hold here, and what C sees is handed to C++ for comparison. */
#include <stddef.h>

#include "abi/shmsock.h"

extern const uint32_t shm_layout_in_c[];
const uint32_t shm_layout_in_c[] = {sizeof(struct shm_header),
                                    offsetof(struct shm_header, state),
                                    offsetof(struct shm_header, regions_offset),
                                    sizeof(struct shm_region),
                                    sizeof(struct shm_channel_daemon),
                                    offsetof(struct shm_channel_daemon, armed),
                                    sizeof(struct shm_channel_client),
                                    offsetof(struct shm_channel_client, armed),
                                    sizeof(struct shm_command),
                                    offsetof(struct shm_command, rx_head),
                                    offsetof(struct shm_command, offset),
                                    sizeof(struct shm_request),
                                    offsetof(struct shm_request, remote_port),
                                    sizeof(struct shm_event),
                                    offsetof(struct shm_event, tx_acked),
                                    offsetof(struct shm_event, value2),
                                    sizeof(struct shm_socket),
                                    offsetof(struct shm_socket, mss),
                                    sizeof(struct shm_chunk),
                                    sizeof(struct shm_datagram),
                                    offsetof(struct shm_datagram, local),
                                    offsetof(struct shm_datagram, interface),
                                    sizeof(struct shm_attach_request),
                                    offsetof(struct shm_attach_request, name),
                                    sizeof(struct shm_attach_reply),
                                    offsetof(struct shm_attach_reply, message),
                                    sizeof(struct shm_bind_request),
                                    offsetof(struct shm_bind_request, handles),
                                    sizeof(struct shm_bind_reply),
                                    offsetof(struct shm_bind_reply, message),
                                    0};
