#include <array>
#include <charconv>
#include <set>
#include <unordered_map>

#include "config/checks.hpp"
#include "config/limits.hpp"

namespace culvert::config {
namespace {

/// Reports a word that was there before under another path.
class FirstSeen {
 public:
  FirstSeen(Diagnostics& diagnostics, std::string_view kind)
      : diagnostics_(diagnostics), kind_(kind) {}

  void error(const std::string& word, const std::string& path) {
    if (const auto finding = check(word, path)) diagnostics_.error(path, *finding);
  }
  void warning(const std::string& word, const std::string& path, std::string_view advice) {
    if (auto finding = check(word, path)) {
      finding->advice = advice;
      diagnostics_.warning(path, *finding);
    }
  }

 private:
  std::optional<Finding> check(const std::string& word, const std::string& path) {
    if (word.empty()) return std::nullopt;
    const auto [first, is_new] = seen_.try_emplace(word, path);
    if (is_new) return std::nullopt;
    const Location place = diagnostics_.place_of(first->second);
    return Finding{quote(word) + " a second time", "each " + std::string(kind_) + " once",
                   "it stands in line " + std::to_string(place.line) + " already"};
  }

  Diagnostics& diagnostics_;
  std::string_view kind_;
  std::unordered_map<std::string, std::string> seen_;
};

void check_interface_names(const Dataplane& dataplane, Diagnostics& diagnostics) {
  FirstSeen names(diagnostics, "interface name");
  for (std::size_t index = 0; index < dataplane.interfaces.size(); ++index) {
    names.error(dataplane.interfaces[index].name, indexed("dataplane.interfaces", index) + ".name");
  }
}

void check_connection_names(const Config& config, Diagnostics& diagnostics) {
  FirstSeen names(diagnostics, "connection name");
  FirstSeen everywhere(diagnostics, "child name");
  for (std::size_t index = 0; index < config.connections.size(); ++index) {
    const Connection& connection = config.connections[index];
    const std::string name_path = indexed("connections", index) + ".name";
    names.error(connection.name, name_path);
    // Counters and metrics have manual SAs under this name, and alerts make exceptions for them.
    if (connection.name == kManualConnection) {
      diagnostics.error(name_path,
                        {quote(connection.name), "another name, because manual SAs have this one",
                         "write what the peer is called"});
    }
    FirstSeen children(diagnostics, "child name of a connection");
    std::set<std::string_view> own;
    for (std::size_t child = 0; child < connection.children.size(); ++child) {
      const std::string& name = connection.children[child].name;
      const std::string path = child_path(index, child) + ".name";
      children.error(name, path);
      if (!own.insert(name).second) continue;
      everywhere.warning(name, path, "the command could not tell them apart by name");
    }
  }
}

/// Both daemons, and the key daemon's records, know connections and children by identifiers made of
/// the names: of two that are equal by accident one name has to be another.
class Identifiers {
 public:
  explicit Identifiers(Diagnostics& diagnostics) : diagnostics_(diagnostics) {}

  void add(std::uint64_t identifier, const std::string& names, const std::string& path) {
    const auto [first, is_new] = seen_.try_emplace(identifier, names);
    if (is_new || first->second == names) return;  // a name a second time is reported as that
    diagnostics_.error(
        path, {quote(names) + ", which makes the same identifier as " + quote(first->second),
               "names whose identifiers differ", "give it another name"});
  }

 private:
  Diagnostics& diagnostics_;
  std::unordered_map<std::uint64_t, std::string> seen_;
};

void check_identifiers(const Config& config, Diagnostics& diagnostics) {
  Identifiers connections(diagnostics), children(diagnostics);
  for (std::size_t index = 0; index < config.connections.size(); ++index) {
    const Connection& connection = config.connections[index];
    connections.add(static_cast<std::uint64_t>(connection_id(connection.name)), connection.name,
                    indexed("connections", index) + ".name");
    for (std::size_t child = 0; child < connection.children.size(); ++child) {
      const Child& one = connection.children[child];
      children.add(static_cast<std::uint64_t>(one.id), connection.name + "/" + one.name,
                   child_path(index, child) + ".name");
    }
  }
  for (std::size_t index = 0; index < config.manual_sas.size(); ++index) {
    const ManualSa& sa = config.manual_sas[index];
    children.add(static_cast<std::uint64_t>(sa.id), "manual/" + sa.name,
                 indexed("manual_sas", index) + ".name");
  }
}

std::string hexadecimal(std::uint32_t value) {
  std::array<char, 8> digits{};
  const auto [end, error] = std::to_chars(digits.begin(), digits.end(), value, 16);
  return "0x" + std::string(digits.begin(), end);
}

void check_manual_names(const Config& config, Diagnostics& diagnostics) {
  FirstSeen inbound(diagnostics, "name and direction");
  FirstSeen outbound(diagnostics, "name and direction");
  FirstSeen inbound_spis(diagnostics, "inbound SPI");
  FirstSeen outbound_spis(diagnostics, "outbound SPI to a peer");
  for (std::size_t index = 0; index < config.manual_sas.size(); ++index) {
    const ManualSa& sa = config.manual_sas[index];
    const std::string path = indexed("manual_sas", index);
    const bool in = sa.direction == ManualSa::Direction::in;
    (in ? inbound : outbound).error(sa.name, path + ".name");
    if (sa.spi == 0) continue;
    const std::string spi = hexadecimal(sa.spi);
    // A peer may use the SPI that another peer uses; what comes in is told apart by the SPI alone.
    if (in) {
      inbound_spis.error(spi, path + ".spi");
    } else {
      outbound_spis.error(spi + " to " + sa.remote.to_string(), path + ".spi");
    }
  }
}

void check_table_sizes(const Config& config, Diagnostics& diagnostics) {
  std::size_t sas = config.manual_sas.size();
  std::size_t policies = config.policies.size() + config.manual_sas.size();
  for (const Connection& connection : config.connections) {
    sas += connection.children.size() * limits::kSasPerChild;
    // A trap for each child, and what is negotiated in front of it.
    policies += connection.children.size() * 2;
  }
  const Limits& limits = config.dataplane.limits;
  if (sas > limits.sas) {
    diagnostics.error("dataplane.limits.sas",
                      {std::to_string(limits.sas),
                       "at least " + std::to_string(sas) + ", two for each child while it rekeys",
                       "write sas: " + std::to_string(sas)});
  }
  if (policies > limits.policies) {
    diagnostics.error("dataplane.limits.policies",
                      {std::to_string(limits.policies),
                       "at least " + std::to_string(policies) + ", two for each child",
                       "write policies: " + std::to_string(policies)});
  }
}

}  // namespace

std::string child_path(std::size_t connection, std::size_t child) {
  return indexed(indexed("connections", connection) + ".children", child);
}

void check_names(const Config& config, Diagnostics& diagnostics) {
  check_interface_names(config.dataplane, diagnostics);
  check_connection_names(config, diagnostics);
  check_identifiers(config, diagnostics);
  check_manual_names(config, diagnostics);
  check_table_sizes(config, diagnostics);
}

}  // namespace culvert::config
