#include "tests/load/traffic.hpp"

#include <algorithm>

#include "tests/load/echo.hpp"

namespace culvert::load {
namespace {

using namespace std::chrono_literals;

/// A timer a packet would be most of the work.
constexpr Instant kTurn = 1ms;
/// Packets in one turn: who was kept from sending does not make up for it in one burst.
constexpr int kMostInTurn = 64;
constexpr Instant kLookAgain = 10ms;

}  // namespace

Traffic::Traffic(runtime::EventLoop& loop, Network& network, const Peers& peers,
                 wire::IpAddress host, std::uint32_t first_network)
    : loop_(loop),
      network_(network),
      peers_(peers),
      host_(host),
      first_network_(first_network),
      ledger_(0) {}

void Traffic::start(std::size_t from, std::size_t to, double per_second) {
  if (timer_) loop_.cancel_timer(*timer_);
  timer_.reset();
  ledger_ = Ledger(peers_.size());
  first_ = next_ = std::min(from, peers_.size());
  end_ = std::min(to, peers_.size());
  refused_ = network_.refused();
  overrun_ = network_.overrun();
  period_ = std::chrono::duration_cast<Instant>(1s / std::min(per_second, kMostPacketsPerSecond));
  began_ = due_ = last_sent_ = runtime::now();
  if (first_ < end_) send_what_is_due();
}

void Traffic::send_what_is_due() {
  const Instant now = runtime::now();
  for (int sent = 0; due_ <= now && sent < kMostInTurn; ++sent, due_ += period_) send_one();
  due_ = std::max(due_, now);
  timer_ = loop_.set_timer(std::max(due_, now + kTurn), [this] {
    timer_.reset();
    send_what_is_due();
  });
}

void Traffic::send_one() {
  const std::size_t peer = next_++;
  if (next_ == end_) next_ = first_;
  const EchoPacket packet = make_request({.peer_address = address_of(peer),
                                          .host = host_,
                                          .peer = static_cast<std::uint32_t>(peer),
                                          .number = ledger_.next_number(peer)});
  const auto sealed = peers_[peer]->tunnel().seal(packet);
  if (!sealed) {
    ++ledger_.of(peer).without_sa;
    return;
  }
  last_sent_ = runtime::now();
  ledger_.on_sent(peer, sealed->spi, last_sent_);
  network_.send_esp(sealed->local, sealed->remote, sealed->udp_encapsulation, sealed->esp);
}

void Traffic::on_esp(std::size_t peer, wire::Bytes esp) {
  if (peer >= ledger_.size()) return;  // nothing was sent
  const auto opened = peers_[peer]->tunnel().open(esp);
  if (!opened) {
    switch (opened.error()) {
      case EspTunnel::Refusal::unknown_spi:
        ++ledger_.of(peer).unknown_spi;
        return;
      case EspTunnel::Refusal::icv_wrong:
        ++ledger_.of(peer).icv_wrong;
        return;
      case EspTunnel::Refusal::malformed:
        ++ledger_.of(peer).malformed;
        return;
    }
  }
  const auto echo = read_reply(opened->packet);
  if (!echo || echo->peer != peer || echo->peer_address != address_of(peer) ||
      echo->host != host_) {
    ++ledger_.of(peer).malformed;
    return;
  }
  ledger_.on_answer(peer, echo->number, opened->spi, runtime::now());
}

void Traffic::stop(Instant grace, std::function<void()> finished) {
  if (timer_) loop_.cancel_timer(*timer_);
  timer_.reset();
  gives_up_ = runtime::now() + grace;
  finished_ = std::move(finished);
  wait_for_answers();
}

void Traffic::wait_for_answers() {
  const Instant now = runtime::now();
  if (ledger_.under_way() == 0 || now >= gives_up_) {
    if (const auto finished = std::exchange(finished_, nullptr)) finished();
    return;
  }
  timer_ = loop_.set_timer(now + kLookAgain, [this] {
    timer_.reset();
    wait_for_answers();
  });
}

double Traffic::seconds() const {
  return std::chrono::duration<double>(last_sent_ - began_).count();
}

wire::IpAddress Traffic::address_of(std::size_t peer) const {
  return wire::IpAddress::v4(first_network_ + static_cast<std::uint32_t>(peer));
}

}  // namespace culvert::load
