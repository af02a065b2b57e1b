// Whether what goes to a peer can leave at all: by which route and neighbour, and does it answer.
// Pure: JSON in, sentences out.
#pragma once

#include <optional>
#include <string>

#include <nlohmann/json.hpp>

namespace culvert::cli {

/// Why nothing that goes to a peer leaves.
struct DeadWay {
  std::string why;
  std::string remedy;
};

/// `peer`: an address, or one with a port. `links`: the data plane's `routes` and `neighbors` in
/// one object, and its `interfaces`; what is missing there says nothing. nullopt: nothing is known
/// against the way.
std::optional<DeadWay> dead_way(const std::string& peer, const nlohmann::json& links);

/// The same where nobody knows the peer's address, or which way leads there: packets of the gateway
/// that ended behind the SAs, when they are as many as half of the child's.
std::optional<DeadWay> never_left(const std::string& peer, const nlohmann::json& links,
                                  const nlohmann::json& out, const nlohmann::json& counters);

}  // namespace culvert::cli
