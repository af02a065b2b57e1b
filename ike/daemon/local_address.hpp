// Which of our addresses a peer is reached from, by the configuration's interfaces and routes.
#pragma once

#include <optional>
#include <vector>

#include "config/config.hpp"
#include "wire/ip_address.hpp"

namespace culvert::ike {

/// The first address of `remote`'s family on the interface that holds `remote` or the next hop of
/// the longest matching route; nullopt when nothing leads there.
std::optional<wire::IpAddress> local_address_for(const config::Dataplane& dataplane,
                                                 const wire::IpAddress& remote);
/// Whether any interface has it.
bool is_own_address(const config::Dataplane& dataplane, const wire::IpAddress& address);
/// All addresses of that interface, of both families.
std::vector<wire::IpAddress> local_addresses_for(const config::Dataplane& dataplane,
                                                 const wire::IpAddress& remote);

}  // namespace culvert::ike
