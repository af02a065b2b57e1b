// Manually keyed SAs of the configuration (RFC 4301 §4.5.1) as the tables take them.
#pragma once

#include <expected>
#include <string>

#include "channel/messages.hpp"
#include "config/config.hpp"

namespace culvert::dataplane::control {

/// Reads the key file, relative to the configuration's folder. The caller wipes the key. The error
/// is a sentence. `child_index`: ChildDirectory's; `ordinal`: the SA's position in the file.
std::expected<channel::InstallSa, std::string> install_request(const config::Config& config,
                                                               const config::ManualSa& sa,
                                                               std::uint32_t child_index,
                                                               std::size_t ordinal);

}  // namespace culvert::dataplane::control
