// Two gateways back to back, with one SA from left to right.
#pragma once

#include "tests/unit/dataplane/pipeline/gateway.hpp"

namespace culvert::test {

/// The same header settings on both sides.
struct Pair {
  Gateway left, right{mirrored()};
  SaOptions options;
  channel::SaId out_id{}, in_id{};

  explicit Pair(const config::HeaderOptions& headers = {}, const SaOptions& given = {})
      : options(given) {
    const dataplane::SaSettings settings{.headers = headers};
    const auto out = outbound_sa(options);
    const auto in = inbound_sa(options);
    out_id = out.sa;
    in_id = in.sa;
    left.protect(options.local_selectors[0], options.remote_selectors[0],
                 left.install(out, settings));
    right.install(in, settings);
  }
  Packet sealed(const PacketOptions& packet = {}) {
    return left.receive(kLan, frame(ip_packet(packet))).wan.at(0);
  }
  dataplane::SaTraffic traffic() {
    dataplane::Sad& sad = *right.tables().sad;
    return sad.traffic(*sad.find(in_id));
  }
};

}  // namespace culvert::test
