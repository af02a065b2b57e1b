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
/// Families of selectors, and transport mode's selectors (RFC 4301 §4.1).
void check_selectors(const Config& config, Diagnostics& diagnostics);
/// Entries of the policy table that an earlier one covers or meets (RFC 4301 §4.4.1).
void check_policy_order(const Config& config, Diagnostics& diagnostics);
/// A secret for each connection.
void check_secrets(const Config& config, Diagnostics& diagnostics);
/// Secrets' and certificates' files: there, readable, for nobody else, of the right length.
void check_files(const Config& config, Diagnostics& diagnostics);

/// Where a child's values stand.
std::string child_path(std::size_t connection, std::size_t child);

}  // namespace culvert::config
