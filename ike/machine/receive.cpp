// A protected message: opened, put together when it comes in fragments (RFC 7383), recognised as
// new or repeated (RFC 7296 §2.1), read.
#include "ike/machine/core.hpp"

namespace culvert::ike {

using wire::ike::NotifyType;

void Core::on_protected(IkeSa& ike, const wire::ike::Message& message, wire::Bytes raw,
                        const wire::Endpoint& local, const wire::Endpoint& remote) {
  if (const auto* fragment = find_payload<wire::ike::EncryptedFragment>(message.payloads)) {
    on_fragment(ike, message.header, *fragment, raw, local, remote);
    return;
  }
  const auto* encrypted = find_payload<wire::ike::Encrypted>(message.payloads);
  if (encrypted == nullptr || encrypted->associated_bytes > raw.size()) {
    ++counters_.invalid_messages;
    return;
  }
  const auto chain =
      ike.keys.inbound->open(raw.first(encrypted->associated_bytes), encrypted->sealed);
  if (!chain) {
    ++counters_.invalid_messages;
    return;
  }
  // From here on the message is the peer's: nobody else has the keys.
  switch (novelty_of(ike, message.header)) {
    case Novelty::fresh:
      on_opened(ike, message.header, encrypted->first_inner, chain->view(), local, remote);
      return;
    case Novelty::repeated:
      repeat_answer(ike, local, remote);
      return;
    case Novelty::ignored:
      return;
  }
}

void Core::on_fragment(IkeSa& ike, const wire::ike::Header& header,
                       const wire::ike::EncryptedFragment& fragment, wire::Bytes raw,
                       const wire::Endpoint& local, const wire::Endpoint& remote) {
  // 1. agreed upon  2. wanted  3. authentic  4. new  5. whole
  Reassembly& pieces = header.response ? ike.response_pieces : ike.request_pieces;
  if (!ike.fragmentation || fragment.associated_bytes > raw.size() ||
      !pieces.wants(header, fragment)) {
    ++counters_.fragments_discarded;
    return;
  }
  auto plain = ike.keys.inbound->open(raw.first(fragment.associated_bytes), fragment.sealed);
  if (!plain) {
    ++counters_.fragments_discarded;
    return;
  }
  switch (novelty_of(ike, header)) {
    case Novelty::fresh:
      break;
    case Novelty::repeated:
      // RFC 7383 §2.6.1: the first fragment of a request that was answered gets the answer again,
      // the others nothing.
      if (fragment.number == 1) repeat_answer(ike, local, remote);
      return;
    case Novelty::ignored:
      return;
  }
  ++counters_.fragments_received;
  const auto whole = pieces.add(header, fragment, std::move(*plain));
  if (whole) on_opened(ike, header, whole->first_inner, whole->chain.view(), local, remote);
}

Core::Novelty Core::novelty_of(const IkeSa& ike, const wire::ike::Header& header) {
  if (header.response) {
    return ike.window.awaits(header.message_id) ? Novelty::fresh : Novelty::ignored;
  }
  // Nobody has proven anything yet, and its request may have overtaken the answer to IKE_AUTH: it
  // comes again.
  if (ike.state == IkeState::auth_sent) return Novelty::ignored;
  switch (ike.window.classify(header.message_id)) {
    case MessageWindow::Incoming::fresh:
      return Novelty::fresh;
    case MessageWindow::Incoming::repeated:
      return Novelty::repeated;
    case MessageWindow::Incoming::outside:
      ++counters_.invalid_messages;
      return Novelty::ignored;
  }
  return Novelty::ignored;
}

/// RFC 7296 §2.1: a retransmitted request gets the same answer, octet for octet.
void Core::repeat_answer(IkeSa& ike, const wire::Endpoint& local, const wire::Endpoint& remote) {
  ++counters_.retransmits_answered;
  send(ike, local, remote, ike.window.last_response);
}

void Core::on_opened(IkeSa& ike, const wire::ike::Header& header, wire::ike::PayloadType first,
                     wire::Bytes chain, const wire::Endpoint& local, const wire::Endpoint& remote) {
  ike.last_heard = now_;
  auto payloads = wire::ike::parse_payloads(first, chain);
  // Who ends an IKE SA may never have taken it up (RFC 7296 §2.21.2).
  if (!payloads || !ends_ike_sa(*payloads)) answers_arrived(ike, !header.response);
  if (!payloads) {
    ++counters_.invalid_messages;
    // RFC 7296 §2.21.3: a syntax error inside a valid ICV is answered and ends nothing by itself.
    if (!header.response) {
      respond(ike, header, {make_notify(NotifyType::invalid_syntax)}, local, remote);
      if (ike.state == IkeState::half_open) close(ike, false, "malformed IKE_AUTH");
    }
    fail(ike.connection, Failure::invalid_syntax,
         std::string(payloads.error().field) + ": " + std::string(payloads.error().problem));
    return;
  }
  if (header.response) {
    answered_over(ike, local, remote);
    on_response(ike, header, *payloads);
  } else {
    peer_seen_at(ike, local, remote);
    on_request(ike, header, *payloads, local, remote);
  }
}

}  // namespace culvert::ike
