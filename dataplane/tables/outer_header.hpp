// What stands in front of ESP, built once per SA (RFC 4301 §5.1.2, RFC 3948 §2.1).
#pragma once

#include "channel/messages.hpp"
#include "dataplane/tables/sa.hpp"

namespace culvert::dataplane {

[[nodiscard]] OuterHeader build_outer_header(channel::SaMode mode, bool udp_encapsulation,
                                             const wire::Endpoint& local,
                                             const wire::Endpoint& remote);

}  // namespace culvert::dataplane
