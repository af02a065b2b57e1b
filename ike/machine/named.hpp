// What the operator means by a name: a connection, or a child of one. Pure.
#pragma once

#include <expected>
#include <span>
#include <string>
#include <string_view>

#include "config/config.hpp"
#include "ike/machine/machine.hpp"

namespace culvert::ike {

/// A connection, and the one child of it; nullptr child: all of them.
struct Named {
  const config::Connection* connection = nullptr;
  const config::Child* child = nullptr;
};

/// Of a name by itself: to rekey an SA, a child's, or that of a connection with one child; for the
/// IKE SA, a connection's; for all else a connection's, or else a child's. Two connections may have
/// children of one name: "CONNECTION/CHILD" tells them apart. Else what is wrong with it, and what
/// there is.
std::expected<Named, std::string> find_named(std::span<const config::Connection* const> connections,
                                             CommandVerb verb, std::string_view name);

}  // namespace culvert::ike
