// Which drops belong into a status: those that say that something is wrong somewhere, by the
// severity that the data plane gives each reason.
#include <algorithm>
#include <array>
#include <string_view>
#include <tuple>
#include <vector>

#include "cli/json_text.hpp"
#include "cli/render.hpp"

namespace culvert::cli {
namespace {

using nlohmann::json;

constexpr std::size_t kShown = 3;
constexpr std::array<std::string_view, 3> kBySeverity{"serious", "notable", "ordinary"};

/// Its place among kBySeverity; one that is not known is as good as notable.
std::size_t rank(const json& drop) {
  const auto found = std::ranges::find(kBySeverity, text(drop, "severity"));
  return found == kBySeverity.end() ? 1 : static_cast<std::size_t>(found - kBySeverity.begin());
}

}  // namespace

json notable_drops(const json& counters) {
  std::vector<json> notable;
  for (const json& drop : member(counters, "drops")) {
    const bool is_ordinary = text(drop, "severity") == "ordinary";
    if (!is_ordinary && number(drop, "packets") > 0) notable.push_back(drop);
  }
  std::ranges::sort(notable, {}, [](const json& drop) {
    return std::tuple(rank(drop), -number(drop, "packets"), text(drop, "reason"));
  });
  if (notable.size() > kShown) notable.resize(kShown);
  return notable;
}

}  // namespace culvert::cli
