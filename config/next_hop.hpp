// Which interface a route leaves by. The check of a file, the packet daemon that installs its
// routes and the key daemon that speaks from one of its addresses ask the same question here.
#pragma once

#include <cstddef>
#include <optional>

#include "config/config.hpp"

namespace culvert::config {

/// The index of the interface that the next hop is on: the one that the route names, else the one
/// whose subnet holds it. A link-local next hop (fe80::/10) may be on any interface with IPv6: when
/// there is one only, it is that. nullopt: none, or it is open which.
[[nodiscard]] std::optional<std::size_t> interface_of(const Dataplane& dataplane,
                                                      const Route& route);
[[nodiscard]] bool has_ipv6(const Interface& interface);
/// Whether one of the interface's subnets holds it.
[[nodiscard]] bool reaches_directly(const Interface& interface, const wire::IpAddress& address);

}  // namespace culvert::config
