// Sealing and sending, retransmission with back-off (RFC 7296 §2.1, §2.4), NAT keepalives.
#include <algorithm>
#include <utility>

#include "ike/machine/core.hpp"

namespace culvert::ike {

using wire::ike::ExchangeType;

namespace {

constexpr std::size_t kUdpHeaderBytes = 8;
/// A peer that goes on talking and never answers one request is given up all the same.
constexpr std::uint32_t kMostRounds = 3;

/// Exponential, to a limit (RFC 7296 §2.1).
Instant longer_delay(Instant delay, const Tuning& tuning) {
  const auto grown = std::chrono::duration_cast<Instant>(delay * tuning.retransmit_factor);
  return std::min<Instant>(grown, tuning.retransmit_cap);
}

/// From the first try of a request to the moment at which the last one has waited for its answer.
Instant patience(const Tuning& tuning) {
  Instant whole{}, delay = tuning.retransmit_first;
  for (std::uint32_t tries = 0; tries < tuning.retransmit_tries; ++tries) {
    whole += delay;
    delay = longer_delay(delay, tuning);
  }
  return whole;
}

}  // namespace

void Core::send(const wire::Endpoint& local, const wire::Endpoint& remote, Octets bytes) {
  actions_->push_back(SendDatagram{local, remote, std::move(bytes), false, 0});
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

void Core::send(const IkeSa& ike, const wire::Endpoint& local, const wire::Endpoint& remote,
                const Messages& messages) {
  for (const Octets& message : messages) {
    actions_->push_back(
        SendDatagram{local, remote, Octets(message), false, ike.spi_to_be_let_in()});
  }
}

std::size_t Core::datagram_limit(const IkeSa& ike) {
  const std::size_t ip_header = ike.remote.address.is_v4() ? 20 : 40;
  const std::size_t marker = ike.local.port == kNatPort ? 4 : 0;
  return ike.connection->fragment_size - ip_header - kUdpHeaderBytes - marker;
}

Messages Core::seal(IkeSa& ike, wire::ike::Header header, const Payloads& payloads) {
  wire::ike::PayloadType first{};
  const Octets chain = wire::ike::encode_payloads(payloads, first);
  const std::size_t whole_bytes = wire::ike::kHeaderBytes + wire::ike::kGenericHeaderBytes +
                                  ike.keys.outbound->sealed_bytes(chain.size());
  if (ike.fragmentation && ike.connection->fragmentation == config::Fragmentation::yes &&
      whole_bytes > datagram_limit(ike)) {
    return seal_fragments(ike, header, first, chain);
  }
  return {seal_whole(ike, header, first, chain)};
}

/// RFC 7383 §2.5: the chain of payloads in pieces, each sealed on its own.
Messages Core::seal_fragments(IkeSa& ike, const wire::ike::Header& header,
                              wire::ike::PayloadType first, const Octets& chain) {
  const std::size_t most = datagram_limit(ike) - wire::ike::kHeaderBytes -
                           wire::ike::kGenericHeaderBytes - wire::ike::kFragmentNumberBytes;
  std::size_t piece_bytes = most;
  while (ike.keys.outbound->sealed_bytes(piece_bytes) > most) --piece_bytes;
  const std::size_t total = (chain.size() + piece_bytes - 1) / piece_bytes;
  Messages messages;
  for (std::size_t number = 1; number <= total; ++number) {
    const auto piece = crypto::Bytes(chain).subspan(
        (number - 1) * piece_bytes,
        std::min(piece_bytes, chain.size() - (number - 1) * piece_bytes));
    const wire::ike::EncryptedFragment fragment{// RFC 7383 §2.5: all but the first name no payload.
                                                number == 1 ? first : wire::ike::PayloadType::none,
                                                static_cast<std::uint16_t>(number),
                                                static_cast<std::uint16_t>(total),
                                                0,
                                                {}};
    const std::size_t sealed_bytes = ike.keys.outbound->sealed_bytes(piece.size());
    Octets message = wire::ike::encode_fragment_prefix(header, fragment, sealed_bytes);
    if (!seal_into(ike, message, piece, sealed_bytes)) return {};
    messages.push_back(std::move(message));
  }
  counters_.fragments_sent += total;
  return messages;
}

Octets Core::seal_whole(IkeSa& ike, const wire::ike::Header& header, wire::ike::PayloadType first,
                        const Octets& chain) {
  const std::size_t sealed_bytes = ike.keys.outbound->sealed_bytes(chain.size());
  Octets message = wire::ike::encode_encrypted_prefix(header, first, sealed_bytes);
  if (!seal_into(ike, message, chain, sealed_bytes)) return {};
  return message;
}

/// Behind what stands in `message`, and covering it.
bool Core::seal_into(IkeSa& ike, Octets& message, crypto::Bytes plain, std::size_t sealed_bytes) {
  const std::size_t prefix_bytes = message.size();
  message.resize(prefix_bytes + sealed_bytes);
  const crypto::MutableBytes whole(message);
  const auto sealed = ike.keys.outbound->seal(whole.first(prefix_bytes), plain,
                                              *environment_.random, whole.subspan(prefix_bytes));
  if (!sealed) report(Level::error, "seal_failed", {{"error", sealed.error().what}});
  return sealed.has_value();
}

void Core::send_request(IkeSa& ike, ExchangeType exchange, const Payloads& payloads) {
  const std::uint32_t id = ike.window.next_request();
  await_answer(ike, id, seal(ike, header_for(ike, exchange, false, id), payloads));
}

void Core::await_answer(IkeSa& ike, std::uint32_t message_id, Messages messages) {
  PendingRequest pending;
  pending.message_id = message_id;
  pending.messages = std::move(messages);
  pending.delay = tuning_.retransmit_first;
  pending.next = now_ + pending.delay;
  timers_.arm(pending.next, TimerKind::retransmit, ike.local_spi);
  touch(ike);
  ike.window.sent(std::move(pending));
  ike.last_sent = now_;
  send(ike, ike.local, ike.remote, ike.window.pending->messages);
}

void Core::respond(IkeSa& ike, const wire::ike::Header& request, const Payloads& payloads,
                   const wire::Endpoint& local, const wire::Endpoint& remote) {
  count(request.exchange, true, find_error(payloads) != nullptr);
  Messages answer =
      seal(ike, header_for(ike, request.exchange, true, request.message_id), payloads);
  touch(ike);
  ike.window.answered(std::move(answer));
  ike.last_sent = now_;
  // RFC 7296 §2.11: an answer goes back the way its request came.
  send(ike, local, remote, ike.window.last_response);
}

void Core::retransmit(IkeSa& ike, Instant when) {
  if (!ike.window.pending || ike.window.pending->next != when) return;
  PendingRequest& pending = *ike.window.pending;
  const bool tried_enough = pending.tries >= tuning_.retransmit_tries;
  // RFC 7296 §2.4: who sends under the protection of the IKE SA or of a child is alive; then each
  // try was lost, and the time without a word of its counts from there.
  const bool is_silent = now_ - ike.last_heard >= patience(tuning_);
  if (tried_enough ? is_silent || pending.rounds >= kMostRounds : is_silent && pending.rounds > 1) {
    vanish(ike, is_silent);
    return;
  }
  if (tried_enough) {
    ++pending.rounds;
    pending.tries = 0;
    pending.delay = tuning_.retransmit_first;
  }
  ++pending.tries;
  ++counters_.retransmits_sent;
  pending.delay = longer_delay(pending.delay, tuning_);
  pending.next = now_ + pending.delay;
  timers_.arm(pending.next, TimerKind::retransmit, ike.local_spi);
  ike.last_sent = now_;
  // RFC 7383 §2.6.1: all fragments again; which of them arrived is not known.
  send(ike, ike.local, ike.remote, pending.messages);
  // A key daemon that is killed again and again leaves a data plane that goes on.
  const bool may_be_last = pending.rounds > 1 || pending.tries == tuning_.retransmit_tries;
  if (may_be_last && ike.state == IkeState::established) ask_for_traffic(ike);
  try_other_path(ike);
}

void Core::keepalive(IkeSa& ike) {
  ike.keepalive_armed = false;
  if (!ike.usable() || !ike.nat_local) return;
  // RFC 3948 §4: only when nothing else kept the mapping alive. ESP may have; one octet is cheap.
  if (now_ - ike.last_sent >= tuning_.keepalive_interval) {
    actions_->push_back(SendDatagram{ike.local, ike.remote, {}, true, 0});
    ike.last_sent = now_;
  }
  arm_keepalive(ike);
}

void Core::arm_keepalive(IkeSa& ike) {
  if (!ike.nat_local || ike.keepalive_armed) return;
  ike.keepalive_armed = true;
  timers_.arm(std::max(now_, ike.last_sent) + tuning_.keepalive_interval, TimerKind::keepalive,
              ike.local_spi);
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
