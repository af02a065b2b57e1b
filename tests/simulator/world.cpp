#include "tests/simulator/world.hpp"

#include <algorithm>
#include <cstdio>
#include <stdexcept>
#include <utility>

#include "ike/machine/payload_access.hpp"

namespace culvert::simulation {
namespace {

std::vector<std::string> split(const std::string& text) {
  std::vector<std::string> parts;
  std::size_t at = 0;
  while (at <= text.size()) {
    const std::size_t comma = std::min(text.find(',', at), text.size());
    if (comma > at) parts.push_back(text.substr(at, comma - at));
    at = comma + 1;
  }
  return parts;
}

std::vector<wire::TrafficSelector> selectors(const std::string& text) {
  std::vector<wire::TrafficSelector> all;
  for (const std::string& part : split(text)) {
    const auto selector = wire::TrafficSelector::parse(part);
    if (!selector) throw std::runtime_error("traffic selector: " + part);
    all.push_back(*selector);
  }
  return all;
}

template <typename Parse>
std::vector<crypto::Proposal> proposals(const std::string& text, Parse parse) {
  std::vector<crypto::Proposal> all;
  for (const std::string& part : split(text)) {
    auto proposal = parse(part);
    if (!proposal) throw std::runtime_error("proposal: " + part + ": " + proposal.error().problem);
    all.push_back(*proposal);
  }
  return all;
}

config::Identity identity(const std::string& text) {
  auto parsed = config::parse_identity(text);
  if (!parsed) throw std::runtime_error("identity: " + text);
  return *std::move(parsed);
}

}  // namespace

namespace {

config::Child make_child(const ChildOptions& options, std::uint32_t index) {
  config::Child child;
  child.name = options.name;
  child.mode = options.mode;
  child.local_ts = selectors(options.local_ts);
  child.remote_ts = selectors(options.remote_ts);
  child.esp_proposals = proposals(options.esp_proposal, crypto::parse_esp_proposal);
  child.start_action = options.start_action;
  child.rekey_time = options.rekey_time;
  child.life_time = options.life_time;
  child.rehearse_rekey = options.rehearse_rekey;
  child.id = config::ChildId{options.number.value_or(index)};
  return child;
}

config::Connection make_connection(const GatewayOptions& options, std::uint32_t first_index) {
  config::Connection connection;
  connection.name = options.name;
  if (options.names_address) connection.local.address = wire::IpAddress::parse(options.address);
  connection.remote.address = wire::IpAddress::parse(options.remote_address);
  if (!options.id.empty()) connection.local.id = identity(options.id);
  if (config::is_identity_pattern(options.remote_id)) {
    connection.remote.id_pattern = options.remote_id;
  } else if (!options.remote_id.empty()) {
    connection.remote.id = identity(options.remote_id);
  }
  connection.local.auth = options.auth;
  connection.local.certificate = options.certificate;
  connection.remote.auth = options.remote_auth;
  connection.proposals = proposals(options.ike_proposal, crypto::parse_ike_proposal);
  connection.rekey_time = options.rekey_time;
  connection.dpd_delay = options.dpd_delay;
  connection.encapsulation = options.encapsulation;
  connection.fragmentation = options.fragmentation;
  connection.fragment_size = options.fragment_size;
  connection.mobike = options.mobike;
  connection.childless = options.childless;
  connection.reauth_time = options.reauth_time;
  connection.ppk_id = options.ppk_id;
  connection.ppk_required = options.ppk_required;
  for (const ChildOptions& child : options.children) {
    connection.children.push_back(make_child(child, first_index++));
  }
  return connection;
}

}  // namespace

config::Config make_config(const Site& site) {
  config::Config config;
  std::uint32_t index = 0;
  for (const GatewayOptions& options : site) {
    config.connections.push_back(make_connection(options, index));
    index += static_cast<std::uint32_t>(options.children.size());
  }
  return config;
}

Gateway::Gateway(std::string its_name, const Site& site, std::uint64_t seed,
                 std::uint32_t first_spi, const ike::Tuning& its_tuning)
    : name(std::move(its_name)),
      config(std::make_unique<config::Config>(make_config(site))),
      secrets(site.front().psk),
      signatures(site.front().signatures),
      data_plane(first_spi),
      tuning(its_tuning),
      random(crypto::ike::make_seeded_random(seed)) {
  const GatewayOptions& options = site.front();
  if (!options.ppk_id.empty() && !options.ppk.empty()) {
    secrets.post_quantum.emplace(
        options.ppk_id,
        crypto::SecretBytes(crypto::Bytes(reinterpret_cast<const std::uint8_t*>(options.ppk.data()),
                                          options.ppk.size())));
  }
  knows_its_address = !options.names_address;
  take_addresses(options);
  empty_memory();
  boot();
}

void Gateway::take_addresses(const GatewayOptions& options) {
  data_plane.gone_addresses.insert(addresses.begin(), addresses.end());
  if (address_elsewhere) data_plane.gone_addresses.insert(*address_elsewhere);
  addresses = {*wire::IpAddress::parse(options.address)};
  address_elsewhere = wire::IpAddress::parse(options.address_elsewhere);
  for (const std::string& address : options.other_addresses) {
    addresses.push_back(*wire::IpAddress::parse(address));
  }
  for (const wire::IpAddress& address : addresses) data_plane.gone_addresses.erase(address);
  if (address_elsewhere) data_plane.gone_addresses.erase(*address_elsewhere);
}

void Gateway::empty_memory() {
  constexpr std::size_t kBlocksPerPeer = 256;
  const std::size_t bytes = ike::Checkpoint::kHeaderBytes + config->connections.size() *
                                                                kBlocksPerPeer *
                                                                ike::Checkpoint::kBlockBytes;
  memory = RecordMemory(bytes);
  checkpoint = nullptr;
}

void Gateway::open_memory() {
  checkpoint = std::make_unique<ike::Checkpoint>(
      memory.bytes(), [this](std::size_t size) { return memory.make_real(size); });
}

void Gateway::boot() {
  ike::Environment environment;
  environment.config = config.get();
  environment.random = random.get();
  environment.spis = &data_plane;
  environment.secrets = &secrets;
  if (knows_its_address) {
    environment.local_address_for = [this](const wire::IpAddress&) { return addresses.front(); };
  }
  environment.is_own_address = [this](const wire::IpAddress& address) {
    return address_elsewhere == address || std::ranges::find(addresses, address) != addresses.end();
  };
  environment.local_addresses_for = [this](const wire::IpAddress&) { return addresses; };
  environment.signatures = signatures;
  machine = ike::Machine::create(environment, tuning);
  dead = false;
  dies_in.reset();
}

World::World(const std::vector<Site>& sites, std::uint64_t seed, const ike::Tuning& tuning) {
  for (const Site& site : sites) {
    const auto number = static_cast<std::uint32_t>(gateways.size());
    gateways.push_back(std::make_unique<Gateway>(std::string(1, static_cast<char>('a' + number)),
                                                 site, seed * sites.size() + number + 1,
                                                 0xa0000100 + 0x10000000 * number, tuning));
  }
  // A clock that starts at zero would hide the difference between "at zero" and "never".
  now = std::chrono::hours(1);
}

wire::ike::Header header_of(const Flying& datagram) {
  const auto header = wire::ike::parse_header(datagram.bytes);
  return header ? *header : wire::ike::Header{};
}

std::string describe(const Flying& datagram) {
  const wire::ike::Header header = header_of(datagram);
  const auto message = wire::ike::parse_message(datagram.bytes);
  std::string fragment;
  if (message && !message->payloads.empty()) {
    if (const auto* piece = std::get_if<wire::ike::EncryptedFragment>(&message->payloads.back())) {
      fragment = " (" + std::to_string(piece->number) + "/" + std::to_string(piece->total) + ")";
    }
  }
  char spi[8];
  std::snprintf(spi, sizeof(spi), "%04x", static_cast<unsigned>(header.initiator_spi & 0xffffU));
  return std::string(wire::ike::to_string(header.exchange)) +
         (header.response ? " response " : " request ") + std::to_string(header.message_id) +
         fragment + " of " + spi + (datagram.local.port == 4500 ? " (4500)" : "");
}

void World::note(const std::string& line) {
  char time[32];
  std::snprintf(time, sizeof(time), "%10.3f  ",
                std::chrono::duration<double>(now - std::chrono::hours(1)).count());
  log.push_back(time + line);
}

void World::carry_out(int side, std::vector<ike::Action> actions) {
  Gateway& gateway = *gateways.at(static_cast<std::size_t>(side));
  // On record before anybody sees it.
  if (gateway.dead || !record(gateway)) return;
  std::vector<channel::Completion> completions;
  for (ike::Action& action : actions) {
    const bool is_effect = std::holds_alternative<ike::SendDatagram>(action) ||
                           std::holds_alternative<ike::DataplaneRequest>(action);
    if (is_effect && !survives(gateway)) return;
    if (auto* datagram = std::get_if<ike::SendDatagram>(&action)) {
      leave(side, *datagram);
    } else if (auto* request = std::get_if<ike::DataplaneRequest>(&action)) {
      completions.push_back(execute(gateway, request->request));
    } else if (auto* report = std::get_if<ike::Report>(&action)) {
      std::string line = gateway.name + ": " + report->event;
      for (const auto& [name, value] : report->fields) line += " " + name + "=" + value;
      note(line);
      gateway.reports.push_back(std::move(*report));
    } else if (auto* done = std::get_if<ike::CommandDone>(&action)) {
      gateway.done.push_back(std::move(*done));
    }
  }
  for (const channel::Completion& completion : completions) {
    std::vector<ike::Action> more;
    gateway.machine->on_completion(completion, now, more);
    carry_out(side, std::move(more));
    if (gateway.dead) return;
  }
  if (after_step) after_step();
}

/// Where packets flow, what another gateway sends with has just come.
channel::Completion World::execute(Gateway& gateway, const channel::Request& request) {
  if (packets_flow && request.type == channel::RequestType::query_sa) {
    const auto* sa = gateway.data_plane.find(request.body.query_sa.sa);
    const bool arrives =
        sa != nullptr && std::ranges::any_of(gateways, [&](const auto& other) {
          return other.get() != &gateway && other->data_plane.sends_with(sa->sa.spi);
        });
    gateway.data_plane.idle_milliseconds = arrives ? 0 : ~0ULL;
  }
  return gateway.data_plane.execute(request, now);
}

void World::start(int side) {
  if (gateways.at(static_cast<std::size_t>(side))->dead) return;
  std::vector<ike::Action> actions;
  gateways.at(static_cast<std::size_t>(side))->machine->start(now, actions);
  carry_out(side, std::move(actions));
}

ike::CommandId World::command(int side, ike::CommandVerb verb, const std::string& name) {
  Gateway& gateway = *gateways.at(static_cast<std::size_t>(side));
  const ike::CommandId id{gateway.next_command++};
  if (gateway.dead) return id;
  std::vector<ike::Action> actions;
  gateway.machine->on_command({id, verb, name}, now, actions);
  carry_out(side, std::move(actions));
  return id;
}

void World::event(int side, const channel::Event& event) {
  if (gateways.at(static_cast<std::size_t>(side))->dead) return;
  std::vector<ike::Action> actions;
  gateways.at(static_cast<std::size_t>(side))->machine->on_event(event, now, actions);
  carry_out(side, std::move(actions));
}

void World::acquire(int side, std::uint32_t number) {
  const config::ChildId child_id{number};
  channel::Event acquired;
  acquired.type = channel::EventType::acquire;
  acquired.body.acquire = channel::Acquire{};
  acquired.body.acquire.child_id = child_id;
  const Gateway& gateway = *gateways.at(static_cast<std::size_t>(side));
  for (const config::Connection& connection : gateway.config->connections) {
    const auto child = std::ranges::find(connection.children, child_id, &config::Child::id);
    if (child == connection.children.end()) continue;
    acquired.body.acquire = {child_id,
                             child->local_ts.front().first,
                             child->remote_ts.front().first,
                             wire::protocol::kTcp,
                             40000,
                             443};
  }
  event(side, acquired);
}

int World::receiver_of(const Flying& datagram) const {
  if (gateways.size() == 2) return 1 - datagram.from;
  const auto owner = std::ranges::find_if(gateways, [&](const auto& gateway) {
    return std::ranges::find(gateway->addresses, datagram.remote.address) !=
           gateway->addresses.end();
  });
  return owner == gateways.end() ? -1 : static_cast<int>(owner - gateways.begin());
}

void World::deliver(const Flying& datagram) {
  const int to = receiver_of(datagram);
  if (to < 0 || gateways.at(static_cast<std::size_t>(to))->dead) return;
  std::vector<ike::Action> actions;
  gateways.at(static_cast<std::size_t>(to))
      ->machine->on_datagram(datagram.remote, datagram.local, datagram.bytes, now, actions);
  carry_out(to, std::move(actions));
}

void World::kill_and_restart(int side) {
  Gateway& gateway = *gateways.at(static_cast<std::size_t>(side));
  note(gateway.name + ": killed and restarted");
  gateway.data_plane.forget_leases();
  gateway.data_plane.announce_again();
  gateway.checkpoint = nullptr;
  gateway.boot();
  std::vector<ike::Action> actions;
  gateway.machine->adopt(gateway.data_plane.snapshot_sas(), gateway.data_plane.snapshot_policies(),
                         now, actions);
  gateway.machine->start(now, actions);
  carry_out(side, std::move(actions));
}

void World::restart_data_plane(int side) {
  Gateway& gateway = *gateways.at(static_cast<std::size_t>(side));
  if (gateway.dead) return;
  gateway.empty_memory();
  note(gateway.name + ": data plane restarted");
  gateway.data_plane.restart();
  std::vector<ike::Action> actions;
  gateway.machine->on_dataplane_lost(now, actions);
  carry_out(side, std::move(actions));
}

void World::status_came(int side, std::string_view name) {
  std::vector<ike::Action> actions;
  gateways.at(static_cast<std::size_t>(side))->machine->on_status(name, now, actions);
  carry_out(side, std::move(actions));
}

void World::shut_down(int side) {
  std::vector<ike::Action> actions;
  gateways.at(static_cast<std::size_t>(side))->machine->shut_down(now, actions);
  carry_out(side, std::move(actions));
}

void World::reconfigure(int side, const Site& site, bool ahead) {
  Gateway& gateway = *gateways.at(static_cast<std::size_t>(side));
  note(gateway.name + ": reloads");
  auto config = std::make_unique<config::Config>(make_config(site));
  gateway.take_addresses(site.front());
  if (ahead) gateway.data_plane.gone_addresses.clear();
  std::vector<ike::Action> actions;
  gateway.machine->reconfigure(*config, gateway.secrets, now, actions);
  // The old one goes: what still pointed there would be found by a sanitizer.
  gateway.config = std::move(config);
  carry_out(side, std::move(actions));
}

std::optional<Instant> World::next_timer() const {
  std::optional<Instant> next;
  for (const auto& gateway : gateways) {
    if (gateway->dead) continue;  // expiries are announced again when somebody is there to hear
    for (const auto& when :
         {gateway->machine->next_deadline(), gateway->data_plane.next_expiry()}) {
      if (when && (!next || *when < *next)) next = when;
    }
  }
  return next;
}

void World::run_timers(Instant until) {
  while (const auto next = next_timer()) {
    if (*next > until) break;
    now = std::max(now, *next);
    for (std::size_t at = 0; at < gateways.size(); ++at) {
      const int side = static_cast<int>(at);
      Gateway& gateway = *gateways[at];
      if (gateway.dead) continue;
      for (const channel::Event& expiry : gateway.data_plane.expire(now)) event(side, expiry);
      if (gateway.dead) continue;
      const auto deadline = gateway.machine->next_deadline();
      if (!deadline || *deadline > now) continue;
      std::vector<ike::Action> actions;
      gateway.machine->on_timer(now, actions);
      carry_out(side, std::move(actions));
    }
  }
  now = std::max(now, until);
}

std::string World::why_not_reaching(int from, std::uint32_t child, int to) const {
  const Gateway& sender = *gateways.at(static_cast<std::size_t>(from));
  const Gateway& receiver = *gateways.at(static_cast<std::size_t>(to));
  const auto* out = sender.data_plane.outbound_of(child);
  if (out == nullptr) return sender.name + " has no outbound SA";
  const auto* in = receiver.data_plane.inbound(out->sa.spi);
  if (in == nullptr)
    return receiver.name + " lacks the inbound SA that " + sender.name + " sends on, " +
           ike::spi_text(out->sa.spi);
  if (!std::ranges::equal(in->sa.key.view(), out->sa.key.view())) return "the keys differ";
  if (in->sa.suite != out->sa.suite || in->sa.esn != out->sa.esn || in->sa.mode != out->sa.mode ||
      in->sa.udp_encapsulation != out->sa.udp_encapsulation) {
    return "suite, ESN, mode or encapsulation differ";
  }
  if (in->hard_raised || out->hard_raised) return "the SA has expired";
  return {};
}

std::string World::why_not_usable(std::uint32_t child) const {
  std::string why = why_not_reaching(0, child);
  return why.empty() ? why_not_reaching(1, child) : why;
}

std::vector<std::string> World::violations() const {
  std::vector<std::string> all = wire_violations_;
  for (const auto& gateway : gateways) {
    for (const std::string& violation : gateway->data_plane.violations) {
      all.push_back(gateway->name + ": " + violation);
    }
  }
  return all;
}

}  // namespace culvert::simulation
