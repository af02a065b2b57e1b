// Sealing and sending, retransmission with back-off (RFC 7296 §2.1, §2.4), NAT keepalives.
#include <algorithm>
#include <utility>

#include "ike/machine/core.hpp"

namespace culvert::ike {

using wire::ike::ExchangeType;

void Core::send(const wire::Endpoint& local, const wire::Endpoint& remote, Octets bytes,
                bool keepalive_only) {
  actions_->push_back(SendDatagram{local, remote, std::move(bytes), keepalive_only});
}

wire::ike::Header Core::header_for(const IkeSa& ike, ExchangeType exchange, bool response,
                                   std::uint32_t message_id) const {
  wire::ike::Header header;
  header.initiator_spi = ike.initiator_spi();
  header.responder_spi = ike.responder_spi();
  header.exchange = exchange;
  header.from_initiator = ike.initiator;
  header.response = response;
  header.message_id = message_id;
  return header;
}

Octets Core::seal(IkeSa& ike, wire::ike::Header header, const Payloads& payloads) {
  wire::ike::PayloadType first{};
  const Octets chain = wire::ike::encode_payloads(payloads, first);
  const std::size_t sealed_bytes = ike.keys.outbound->sealed_bytes(chain.size());
  Octets message = wire::ike::encode_encrypted_prefix(header, first, sealed_bytes);
  const std::size_t prefix_bytes = message.size();
  message.resize(prefix_bytes + sealed_bytes);
  const crypto::MutableBytes whole(message);
  const auto sealed = ike.keys.outbound->seal(whole.first(prefix_bytes), chain,
                                              *environment_.random, whole.subspan(prefix_bytes));
  if (!sealed) {
    report(Level::error, "seal_failed", {{"error", sealed.error().what}});
    return {};
  }
  return message;
}

void Core::send_request(IkeSa& ike, ExchangeType exchange, const Payloads& payloads) {
  const std::uint32_t id = ike.window.next_request();
  await_answer(ike, id, seal(ike, header_for(ike, exchange, false, id), payloads));
}

void Core::await_answer(IkeSa& ike, std::uint32_t message_id, Octets bytes) {
  PendingRequest pending;
  pending.message_id = message_id;
  pending.bytes = bytes;
  pending.delay = tuning_.retransmit_first;
  pending.next = now_ + pending.delay;
  timers_.arm(pending.next, TimerKind::retransmit, ike.local_spi);
  ike.window.sent(std::move(pending));
  ike.last_sent = now_;
  send(ike.local, ike.remote, std::move(bytes));
}

void Core::respond(IkeSa& ike, const wire::ike::Header& request, const Payloads& payloads,
                   const wire::Endpoint& local, const wire::Endpoint& remote) {
  count(request.exchange, true, find_error(payloads) != nullptr);
  Octets bytes = seal(ike, header_for(ike, request.exchange, true, request.message_id), payloads);
  ike.window.answered(bytes);
  ike.last_sent = now_;
  // RFC 7296 §2.11: an answer goes back the way its request came.
  send(local, remote, std::move(bytes));
}

void Core::retransmit(IkeSa& ike, Instant when) {
  if (!ike.window.pending || ike.window.pending->next != when) return;
  PendingRequest& pending = *ike.window.pending;
  if (pending.tries >= tuning_.retransmit_tries) {
    vanish(ike);
    return;
  }
  ++pending.tries;
  ++counters_.retransmits_sent;
  const auto grown = std::chrono::duration_cast<Instant>(pending.delay * tuning_.retransmit_factor);
  pending.delay = std::min<Instant>(grown, tuning_.retransmit_cap);
  pending.next = now_ + pending.delay;
  timers_.arm(pending.next, TimerKind::retransmit, ike.local_spi);
  ike.last_sent = now_;
  send(ike.local, ike.remote, pending.bytes);
}

void Core::keepalive(IkeSa& ike) {
  if (!ike.usable() || !ike.nat_local) return;
  // RFC 3948 §4: only when nothing else kept the mapping alive. ESP may have; one octet is cheap.
  if (now_ - ike.last_sent >= tuning_.keepalive_interval) {
    send(ike.local, ike.remote, {}, true);
    ike.last_sent = now_;
  }
  timers_.arm(ike.last_sent + tuning_.keepalive_interval, TimerKind::keepalive, ike.local_spi);
}

Octets Core::draw(std::size_t bytes) {
  Octets drawn(bytes);
  environment_.random->fill(drawn);
  return drawn;
}

std::uint64_t Core::draw_number() {
  const Octets drawn = draw(8);
  std::uint64_t number = 0;
  for (const std::uint8_t octet : drawn) number = number << 8 | octet;
  return number;
}

Instant Core::jittered(Instant span, double fraction) {
  const double draw_01 = static_cast<double>(draw_number() >> 11) / 9007199254740992.0;
  return span - std::chrono::duration_cast<Instant>(span * (fraction * draw_01));
}

}  // namespace culvert::ike
