// metrics: where each daemon answers scrapes.
#include "config/scalars.hpp"
#include "config/sections.hpp"

namespace culvert::config {
namespace {

constexpr std::uint16_t kMetricsPort = 9464;
/// Below it a port takes CAP_NET_BIND_SERVICE, which neither service unit has; the key daemon binds
/// its own as the service user besides.
constexpr std::uint16_t kFirstFreePort = 1024;

bool is_off(const Field& field) {
  return field.present() && field.node->kind == Node::Kind::scalar &&
         (field.node->text == "off" || field.node->text == "no");
}

std::optional<wire::Endpoint> read_listener(const Field& field, std::uint16_t usual_port) {
  const auto endpoint = read_endpoint(field);
  if (!endpoint || endpoint->port >= kFirstFreePort) return endpoint;
  const wire::Endpoint usual{endpoint->address, usual_port};
  field.error({quote(endpoint->to_string()),
               "a port from " + std::to_string(kFirstFreePort) +
                   " on, because the daemons have no right to those below",
               "write " + quote(usual.to_string())});
  return std::nullopt;
}

/// The key daemon answers one port above the data plane unless told otherwise.
std::optional<wire::Endpoint> beside(const Field& listen_field, const wire::Endpoint& listen) {
  if (listen.port == 65535) {
    listen_field.error({quote(listen.to_string()),
                        "a port below 65535, because the key daemon takes the next one",
                        "write ike_listen too"});
    return std::nullopt;
  }
  return wire::Endpoint{listen.address, static_cast<std::uint16_t>(listen.port + 1)};
}

}  // namespace

void read_metrics(const Field& field, Metrics& metrics) {
  metrics.listen = wire::Endpoint{wire::IpAddress::v4(0x7f000001), kMetricsPort};
  MapReader map(field, "a map: listen, ike_listen");
  const Field listen = map.take("listen");
  const Field ike_listen = map.take("ike_listen");
  map.finish();
  if (is_off(listen)) {
    metrics.listen.reset();
  } else if (const auto endpoint = read_listener(listen, kMetricsPort)) {
    metrics.listen = *endpoint;
  }
  if (ike_listen.present()) {
    if (!is_off(ike_listen)) metrics.ike_listen = read_listener(ike_listen, kMetricsPort + 1);
  } else if (metrics.listen) {
    metrics.ike_listen = beside(listen, *metrics.listen);
  }
  if (metrics.listen && metrics.ike_listen == metrics.listen) {
    ike_listen.error({quote(metrics.listen->to_string()), "another address or port than listen",
                      "leave it out: the next port is the default"});
  }
}

}  // namespace culvert::config
