#include "tests/load/fleet.hpp"

#include <algorithm>

namespace culvert::load {
namespace {

std::uint32_t host_order(const std::string& address) {
  const auto parsed = wire::IpAddress::parse(address);
  return parsed && parsed->is_v4() ? parsed->v4_host() : 0;
}

simulation::GatewayOptions options_of(const FleetOptions& fleet, std::size_t number) {
  const auto offset = static_cast<std::uint32_t>(number);
  const auto plus = [&](const std::string& first) {
    return wire::IpAddress::v4(host_order(first) + offset).to_string();
  };
  simulation::GatewayOptions options;
  options.name = "gateway";
  options.address = plus(fleet.first_address);
  options.remote_address = fleet.gateway;
  options.id = name_of(number);
  options.remote_id = fleet.gateway_id;
  options.ike_proposal = fleet.ike_proposal;
  if (fleet.udp_encapsulation) options.encapsulation = config::Encapsulation::forced;
  options.dpd_delay = fleet.dpd_delay;
  options.rekey_time = fleet.rekey_time;
  simulation::ChildOptions child;
  child.name = "net";
  child.local_ts = plus(fleet.first_network) + "/32";
  child.remote_ts = fleet.gateway_networks;
  child.esp_proposal = fleet.esp_proposal;
  options.children = {child};
  return options;
}

}  // namespace

std::string name_of(std::size_t number) {
  const std::string digits = std::to_string(number + 1);
  return "peer-" + std::string(digits.size() < 5 ? 5 - digits.size() : 0, '0') + digits +
         ".example.org";
}

Fleet::Fleet(runtime::EventLoop& loop, FleetOptions options)
    : loop_(loop),
      options_(std::move(options)),
      random_(crypto::ike::make_system_random()),
      engine_(crypto::esp::make_openssl_engine()),
      secrets_(options_.psk),
      traffic_(loop_, network_, peers_, wire::IpAddress::v4(host_order(options_.host)),
               host_order(options_.first_network)),
      first_address_(host_order(options_.first_address)) {
  callbacks_.send = [this](const ike::SendDatagram& datagram) { network_.send(datagram); };
  callbacks_.done = [this](Peer& peer, const ike::CommandDone& done) { on_done(peer, done); };
  callbacks_.report = [this](const ike::Report& report) { on_report(report); };
  for (std::size_t number = 0; number < options_.peers; ++number) {
    peers_.push_back(std::make_unique<Peer>(number, options_of(options_, number), ike::Tuning{},
                                            secrets_, *random_, *engine_, callbacks_));
  }
  armed_.resize(peers_.size());
  asked_.resize(peers_.size());
}

std::expected<void, std::string> Fleet::open() {
  if (first_address_ == 0) return std::unexpected("not an IPv4 address: " + options_.first_address);
  if (host_order(options_.host) == 0) {
    return std::unexpected("not an IPv4 address: " + options_.host);
  }
  return network_.open(
      loop_, [this](const Received& received) { on_ike(received); },
      [this](const Received& received) { traffic_.on_esp(peer_of(received), received.message); });
}

void Fleet::command(ike::CommandVerb verb, std::size_t from, std::size_t to, std::size_t at_once,
                    std::chrono::duration<double> window,
                    std::function<void(const Outcome&)> finished) {
  verb_ = verb;
  first_ = next_ = std::min(from, peers_.size());
  end_ = std::min(to, peers_.size());
  at_once_ = at_once;
  window_ = window;
  began_ = runtime::now();
  open_ = 0;
  outcome_ = {};
  retransmits_before_ = retransmits();
  refused_before_ = network_.refused();
  finished_ = std::move(finished);
  start_more();
}

/// As many as may be under way by now; the pace is kept by a timer, the number by the answers.
void Fleet::start_more() {
  if (pacing_) loop_.cancel_timer(*pacing_);
  pacing_.reset();
  const Instant now = runtime::now();
  while (next_ < end_ && open_ < at_once_) {
    const double share = static_cast<double>(next_ - first_) / static_cast<double>(end_ - first_);
    const Instant due = began_ + std::chrono::duration_cast<Instant>(window_ * share);
    if (due > now) {
      pacing_ = loop_.set_timer(due, [this] {
        pacing_.reset();
        start_more();
      });
      return;
    }
    Peer& peer = *peers_[next_];
    asked_[next_++] = runtime::now();
    ++open_;
    peer.command(verb_, runtime::now());
    arm(peer);
  }
}

void Fleet::on_done(Peer& peer, const ike::CommandDone& done) {
  const auto took = runtime::now() - asked_[peer.number()];
  if (done.ok) {
    ++outcome_.done;
    outcome_.milliseconds.push_back(std::chrono::duration<double, std::milli>(took).count());
  } else {
    ++outcome_.failed;
    if (outcome_.first_failure.empty()) outcome_.first_failure = done.message;
  }
  --open_;
  // Not from within: the machine that has just answered is still at work.
  if (!pacing_ || next_ >= end_) {
    if (pacing_) loop_.cancel_timer(*pacing_);
    pacing_ = loop_.set_timer(runtime::now(), [this] {
      pacing_.reset();
      start_more();
      if (open_ == 0 && next_ >= end_) finish();
    });
  }
}

void Fleet::finish() {
  outcome_.seconds = std::chrono::duration<double>(runtime::now() - began_).count();
  outcome_.retransmits = retransmits() - retransmits_before_;
  outcome_.refused_by_kernel = network_.refused() - refused_before_;
  std::ranges::sort(outcome_.milliseconds);
  if (const auto finished = std::exchange(finished_, nullptr)) finished(outcome_);
}

void Fleet::on_report(const ike::Report& report) {
  if (report.event != "negotiation_failed") return;
  for (const auto& [key, value] : report.fields) {
    if (key == "failure") ++outcome_.failures[value];
  }
}

std::size_t Fleet::peer_of(const Received& received) const {
  return received.local.address.v4_host() - first_address_;
}

void Fleet::on_ike(const Received& received) {
  const std::size_t number = peer_of(received);
  if (number >= peers_.size()) return;
  peers_[number]->on_datagram(received.local, received.remote, received.message, runtime::now());
  arm(*peers_[number]);
}

void Fleet::arm(Peer& peer) {
  auto& armed = armed_[peer.number()];
  const auto deadline = peer.next_deadline();
  if (armed && deadline && armed->when == *deadline) return;
  if (armed) loop_.cancel_timer(armed->timer);
  armed.reset();
  if (!deadline) return;
  armed = Armed{*deadline, loop_.set_timer(*deadline, [this, &peer] {
                  armed_[peer.number()].reset();
                  peer.on_timer(runtime::now());
                  arm(peer);
                })};
}

std::size_t Fleet::sas() const {
  std::size_t count = 0;
  for (const auto& peer : peers_) count += peer->data_plane().sas.size();
  return count;
}

std::vector<std::string> Fleet::violations() const {
  std::vector<std::string> all;
  for (const auto& peer : peers_) {
    for (const std::string& one : peer->data_plane().violations) {
      all.push_back(name_of(peer->number()) + ": " + one);
    }
  }
  return all;
}

std::uint64_t Fleet::retransmits() const {
  std::uint64_t sum = 0;
  for (const auto& peer : peers_) sum += peer->counters().retransmits_sent;
  return sum;
}

}  // namespace culvert::load
