#include "config/checks.hpp"
#include "config/limits.hpp"

namespace culvert::config {
namespace {

/// Adds up what children and manual SAs ask for.
class Total {
 public:
  explicit Total(Diagnostics& diagnostics) : diagnostics_(diagnostics) {}

  void add(const HeaderOptions& headers, const std::string& path) {
    const bool was_within = per_second_ <= limits::kDummyPacketsTotal;
    per_second_ += headers.dummy_packets.per_second;
    if (!was_within || per_second_ <= limits::kDummyPacketsTotal) return;
    diagnostics_.error(path + ".dummy_packets.per_second",
                       {std::to_string(per_second_) + " dummy packets a second, with those before",
                        "at most " + std::to_string(limits::kDummyPacketsTotal) +
                            " of all children and manual SAs together",
                        "lower them, here or before"});
  }

 private:
  Diagnostics& diagnostics_;
  std::uint64_t per_second_ = 0;
};

/// Traffic that its own rekeys cannot keep up with: a child that is idle has rekeys all the time.
void check_rekeys(const Child& child, const std::string& path, Diagnostics& diagnostics) {
  const std::uint64_t rate = child.headers.dummy_packets.per_second;
  const auto shortest = static_cast<std::uint64_t>(limits::kRekeyShort.count());
  const bool has_rekey = child.rekey_packets != 0;
  const std::uint64_t limit = has_rekey ? child.rekey_packets : child.life_packets;
  if (rate == 0 || limit == 0 || limit / rate >= shortest) return;
  diagnostics.warning(path + (has_rekey ? ".rekey_packets" : ".life_packets"),
                      {std::to_string(limit),
                       "at least " + std::to_string(rate * shortest) +
                           ", because dummy packets alone reach it within a minute",
                       "raise it, or lower dummy_packets.per_second"});
}

}  // namespace

void check_dummy_packets(const Config& config, Diagnostics& diagnostics) {
  Total total(diagnostics);
  for (std::size_t index = 0; index < config.connections.size(); ++index) {
    const Connection& connection = config.connections[index];
    for (std::size_t child = 0; child < connection.children.size(); ++child) {
      const std::string path = child_path(index, child);
      total.add(connection.children[child].headers, path);
      check_rekeys(connection.children[child], path, diagnostics);
    }
  }
  for (std::size_t index = 0; index < config.manual_sas.size(); ++index) {
    const ManualSa& sa = config.manual_sas[index];
    const std::string path = indexed("manual_sas", index);
    if (sa.direction == ManualSa::Direction::out) {
      total.add(sa.headers, path);
    } else if (sa.headers.dummy_packets.per_second != 0) {
      diagnostics.error(path + ".dummy_packets",
                        {"dummy packets of an inbound SA", "none, because it sends nothing",
                         "write them at the SA of direction: out"});
    }
  }
}

}  // namespace culvert::config
