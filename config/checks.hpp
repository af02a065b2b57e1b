// What must hold between values of different sections. Each check points at the value to change,
// by the place that the section readers remembered for its path.
#pragma once

#include <filesystem>

#include "config/diagnostics.hpp"

namespace culvert::config {

/// Names that stand twice, SPIs that stand twice, tables smaller than what must fit in.
void check_names(const Config& config, Diagnostics& diagnostics);
/// Interfaces among each other, next hops, our outer addresses and the way to the peers.
void check_addresses(const Config& config, Diagnostics& diagnostics);
/// Static neighbours: on which interface, at which address, each once.
void check_neighbors(const Config& config, Diagnostics& diagnostics);
/// Families of selectors, transport mode's selectors (RFC 4301 §4.1), and tunnels' selectors that
/// nothing matches: link-local, multicast, loopback.
void check_selectors(const Config& config, Diagnostics& diagnostics);
/// Entries of the policy table that an earlier one covers or meets (RFC 4301 §4.4.1).
void check_policy_order(const Config& config, Diagnostics& diagnostics);
/// Dummy packets: what all SAs send together; only of SAs that send.
void check_dummy_packets(const Config& config, Diagnostics& diagnostics);
/// A secret for each connection that needs one; none twice, or for nobody.
void check_secrets(const Config& config, Diagnostics& diagnostics);
/// What certificates need of the configuration, without looking into files: a certificate, a
/// private key, authorities, a way to learn of revocations.
void check_pki(const Config& config, Diagnostics& diagnostics);
/// Secrets' files: there, readable, for nobody else, of the right length; then check_certificates.
void check_files(const Config& config, Diagnostics& diagnostics);
/// What is in the files of certificates, keys and revocation lists, at this time.
void check_certificates(const Config& config, Diagnostics& diagnostics);

/// Whether all interfaces of the file are known with their addresses. Others would make every
/// address that is to be on one look wrong.
[[nodiscard]] bool are_interfaces_read(const Config& config, const Diagnostics& diagnostics);

/// There, a regular file and readable; reported at `path` otherwise.
[[nodiscard]] bool check_readable(const std::string& file, const std::string& path,
                                  Diagnostics& diagnostics);
/// As above, and nobody beyond owner and group may read or write it.
[[nodiscard]] bool check_private(const std::string& file, const std::string& path,
                                 Diagnostics& diagnostics);
/// The identity that a side of a connection has by its configuration; nullopt: %any.
[[nodiscard]] std::optional<Identity> configured_identity(const Peer& peer);

/// Where a child's values stand.
std::string child_path(std::size_t connection, std::size_t child);

}  // namespace culvert::config
