#include "tests/load/peer.hpp"

#include <utility>

namespace culvert::load {
namespace {

/// Each peer chooses its own, and those of two peers seldom meet.
std::uint32_t first_spi(std::size_t number) {
  constexpr std::uint32_t kFirst = 0x10000000, kApart = 4096;
  return kFirst + static_cast<std::uint32_t>(number) % 0xe0000U * kApart;
}

}  // namespace

Peer::Peer(std::size_t number, const simulation::GatewayOptions& options, const ike::Tuning& tuning,
           const ike::SecretSource& secrets, crypto::ike::Random& random,
           crypto::esp::Engine& engine, const Callbacks& callbacks)
    : number_(number),
      config_(std::make_unique<config::Config>(simulation::make_config(options))),
      data_plane_(first_spi(number)),
      tunnel_(data_plane_, engine),
      callbacks_(callbacks) {
  ike::Environment environment;
  environment.config = config_.get();
  environment.random = &random;
  environment.spis = &data_plane_;
  environment.secrets = &secrets;
  machine_ = ike::Machine::create(environment, tuning);
}

void Peer::command(ike::CommandVerb verb, Instant now) {
  const config::Connection& connection = config_->connections.front();
  machine_->on_command({ike::CommandId{++commands_}, verb, connection.children.front().name}, now,
                       actions_);
  carry_out(now);
}

void Peer::on_datagram(const wire::Endpoint& local, const wire::Endpoint& remote,
                       wire::Bytes message, Instant now) {
  machine_->on_datagram(local, remote, message, now, actions_);
  carry_out(now);
}

void Peer::on_timer(Instant now) {
  for (const channel::Event& event : data_plane_.expire(now)) {
    machine_->on_event(event, now, actions_);
  }
  machine_->on_timer(now, actions_);
  carry_out(now);
}

void Peer::carry_out(Instant now) {
  // By index: a request is answered at once, and its answer may lead to more.
  for (std::size_t at = 0; at < actions_.size(); ++at) {
    const ike::Action action = std::move(actions_[at]);
    if (const auto* datagram = std::get_if<ike::SendDatagram>(&action)) {
      callbacks_.send(*datagram);
    } else if (const auto* request = std::get_if<ike::DataplaneRequest>(&action)) {
      machine_->on_completion(data_plane_.execute(request->request, now), now, actions_);
    } else if (const auto* report = std::get_if<ike::Report>(&action)) {
      callbacks_.report(*report);
    } else if (const auto* done = std::get_if<ike::CommandDone>(&action)) {
      callbacks_.done(*this, *done);
    }
  }
  actions_.clear();
  // Nobody resumes from these; they are taken so that they do not pile up.
  ike::Records unused;
  machine_->take_records(false, unused);
}

}  // namespace culvert::load
