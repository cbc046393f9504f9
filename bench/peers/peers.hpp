#pragma once
/// peers: the measured systems, one file each. A system whose headers were missing at configuration
/// is listed as absent.

#include "peer.hpp"

namespace bench {

peer cache_line_floor();
peer futex_floor();
peer minimal_ring_floor();
peer libbus_peer();
peer unix_socket_peer();
peer pipe_peer();
peer posix_message_queue_peer();
peer boost_message_queue_peer();
peer iceoryx_peer();
peer zeromq_peer();
peer nng_peer();

/// All of them, floors first.
std::vector<peer> all_peers();

}  // namespace bench
