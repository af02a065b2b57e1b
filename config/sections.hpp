// The sections of the file, one reader a section: field by field into the Config, each value
// checked by itself. What concerns several values is in checks.hpp.
#pragma once

#include "config/field.hpp"

namespace culvert::config {

void read_dataplane(const Field& field, Dataplane& dataplane);
void read_policies(const Field& field, std::vector<Policy>& policies);
void read_default_policy(const Field& field, PolicyAction& action);
void read_connections(const Field& field, std::vector<Connection>& connections);
/// Fragmentation and what else IKE needs on its way to the peer.
void read_path(MapReader& map, Connection& connection);
/// Those of a connection whose name is read.
void read_children(const Field& field, Connection& connection);
void read_manual_sas(const Field& field, std::vector<ManualSa>& manual_sas);
void read_secrets(const Field& field, Config& config);
void read_pki(const Field& field, Pki& pki);
void read_metrics(const Field& field, Metrics& metrics);

/// Shared by children and manual SAs.
std::optional<Mode> read_mode(const Field& field);
std::vector<wire::TrafficSelector> read_selectors(const Field& field);
/// A warning where packets can be read on the way, or forged more easily than need be.
void warn_of_weak_protection(const Field& field, const crypto::Proposal& proposal);
/// Takes its keys from the map of a child or a manual SA. `outer`: nullopt while the peer's address
/// is not known.
void read_header_options(MapReader& map, Mode mode, std::optional<wire::Family> outer,
                         HeaderOptions& options);
std::optional<std::uint32_t> read_replay_window(const Field& field, bool zero_allowed);
/// Shared by peers and secrets.
std::optional<Identity> read_identity(const Field& field);

/// Where the offending word of a refused proposal stands: inside the scalar of `field`.
void report_proposal(const Field& field, const crypto::ProposalError& error);

}  // namespace culvert::config
