// A configuration of one peer with one child, for the main thread's part of a gateway.
#pragma once

#include "config/config.hpp"
#include "tests/unit/dataplane/any_child.hpp"
#include "tests/unit/dataplane/pipeline/gateway.hpp"

namespace culvert::test {

/// Interface `wan` as a Gateway has it; connection `peer` with the child `net`.
inline config::Config one_connection(const config::HeaderOptions& headers = {},
                                     config::Mode mode = config::Mode::tunnel) {
  const Addresses ours;
  config::Interface wan;
  wan.name = "wan";
  wan.addresses = {wire::Prefix::parse(ours.wan).value(), wire::Prefix::parse(ours.wan6).value()};
  config::Child child = any_child("net", mode);
  child.headers = headers;
  config::Connection connection;
  connection.name = "peer";
  connection.children = {child};
  config::Config config;
  config.dataplane.interfaces = {wan};
  config.connections = {connection};
  return config;
}

}  // namespace culvert::test
