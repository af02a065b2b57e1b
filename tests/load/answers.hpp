// What ike_load answers, as JSON.
#pragma once

#include <nlohmann/json.hpp>

#include "tests/load/fleet.hpp"

namespace culvert::load {

[[nodiscard]] nlohmann::json render(const Outcome& outcome);
[[nodiscard]] nlohmann::json render(const Traffic& traffic);

}  // namespace culvert::load
