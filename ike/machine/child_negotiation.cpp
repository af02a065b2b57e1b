// What both sides agree on for one child, in IKE_AUTH and CREATE_CHILD_SA alike: suite, traffic
// selectors and their narrowing (RFC 7296 §2.9), mode, PFS.
#include <algorithm>

#include "ike/machine/core.hpp"
#include "ike/machine/selector_budget.hpp"

namespace culvert::ike {
namespace {

using crypto::Bytes;
using wire::ike::NotifyType;

/// Narrowing further is ours to do (RFC 7296 §2.9); the data plane holds so many a side. What holds
/// the peer's first choice stays.
void cap_selectors(std::vector<wire::TrafficSelector>& selectors,
                   const wire::TrafficSelector& first_choice) {
  if (selectors.size() <= channel::kMaxSelectors) return;
  std::ranges::stable_partition(selectors,
                                [&](const auto& one) { return one.covers(first_choice); });
  selectors.resize(channel::kMaxSelectors);
}
bool fit_the_data_plane(const SelectorPair& selectors) {
  return selectors.local.size() <= channel::kMaxSelectors &&
         selectors.remote.size() <= channel::kMaxSelectors;
}

/// As the message names them; `by_initiator`: whose message it is, of the exchange.
SelectorPair named_in(const Payloads& payloads, bool by_initiator) {
  const auto& initiator = find_selectors(payloads, true)->selectors;
  const auto& responder = find_selectors(payloads, false)->selectors;
  return by_initiator ? SelectorPair{responder, initiator} : SelectorPair{initiator, responder};
}

/// Of one IKE SA, or twice as many as are configured: as many as its record has room for.
constexpr std::size_t kMostChildren = 128;

/// A peer may ask for the same child again and again, and need not delete what it has replaced; and
/// packets may ask for ever more pairs.
bool has_room(const IkeSa& ike, bool for_rekey) {
  const std::size_t most = std::max(kMostChildren, 2 * ike.connection->children.size());
  return ike.children.size() < (for_rekey ? 2 * most : most);
}

Refusal no_room(const IkeSa& ike, const config::Child& child) {
  return {NotifyType::no_additional_sas,
          Failure::no_additional_sas,
          child.name + ": ours: no more than " + std::to_string(ike.children.size()) +
              " children of one IKE SA",
          {},
          child.id};
}

std::optional<Refusal> no_room_for(const ChildTable& children, const IkeSa& ike,
                                   const config::Child& child, const SelectorPair& selectors) {
  const auto full = why_no_room(ike, children, child.id, selectors);
  if (!full) return std::nullopt;
  return Refusal{NotifyType::no_additional_sas,
                 Failure::no_additional_sas,
                 child.name + ": ours: " + *full + "; the peer's: " + text_of(selectors),
                 {},
                 child.id};
}

/// What the chosen proposal says of a child, without SPIs of ours and selectors.
ChildSa agreed_child(const config::Child& config, const ChosenEsp& chosen) {
  ChildSa child;
  child.child_id = config.id;
  child.outbound_spi = channel::Spi{chosen.peer_spi};
  child.suite = chosen.suite;
  child.esn = chosen.esn;
  child.pfs_group = chosen.group;
  child.transport = config.mode == config::Mode::transport;
  return child;
}

/// `nonce` is empty in IKE_AUTH, which has none of its own; `selectors` as the peer names them.
Payloads answer_payloads(const ChildSa& child, const ChosenEsp& chosen,
                         const SelectorPair& selectors,
                         const crypto::ike::KeyExchange* key_exchange, const Octets& nonce) {
  Payloads payloads;
  wire::ike::SaProposal proposal = chosen.answer;
  proposal.spi.resize(4);
  wire::Writer(proposal.spi).u32(static_cast<std::uint32_t>(child.inbound_spi));
  if (child.transport) payloads.emplace_back(make_notify(NotifyType::use_transport_mode));
  payloads.emplace_back(wire::ike::SecurityAssociation{{std::move(proposal)}});
  if (!nonce.empty()) payloads.emplace_back(wire::ike::Nonce{nonce});
  if (key_exchange != nullptr) {
    payloads.emplace_back(wire::ike::KeyExchange{static_cast<std::uint16_t>(chosen.group),
                                                 key_exchange->public_value()});
  }
  payloads.emplace_back(wire::ike::TrafficSelectors{true, selectors.remote, false});
  payloads.emplace_back(wire::ike::TrafficSelectors{false, selectors.local, false});
  return payloads;
}

}  // namespace

std::expected<Payloads, Refusal> Core::offer_child(IkeSa& ike, Exchange& exchange, bool in_auth) {
  const config::Child& child = child_config(exchange.task.child_id);
  if (exchange.task.single_pair && !has_room(ike, false))
    return std::unexpected(no_room(ike, child));
  const auto spi = environment_.spis->take();
  if (!spi) {
    return std::unexpected(Refusal{NotifyType::no_additional_sas,
                                   Failure::no_spi_available,
                                   child.name + ": ours: no inbound SPI is left",
                                   {},
                                   child.id});
  }
  exchange.inbound_spi = *spi;
  std::vector<crypto::Proposal> proposals = child.esp_proposals;
  Payloads payloads;
  if (child.mode == config::Mode::transport) {
    payloads.emplace_back(make_notify(NotifyType::use_transport_mode));
  }
  payloads.emplace_back(offer_esp(proposals, static_cast<std::uint32_t>(*spi), !in_auth));
  if (!in_auth) {
    payloads.emplace_back(wire::ike::Nonce{exchange.nonce});
    auto group = exchange.task.group;
    if (!group && !proposals.empty() && !proposals.front().groups.empty()) {
      group = proposals.front().groups.front();
    }
    if (group && *group != crypto::Group::none) {
      auto made = crypto::ike::generate_key_exchange(*group, *environment_.random);
      if (!made) {
        return std::unexpected(Refusal{
            NotifyType::no_proposal_chosen, Failure::invalid_ke_group, made.error().what, {}});
      }
      exchange.key_exchange = std::move(*made);
      payloads.emplace_back(wire::ike::KeyExchange{static_cast<std::uint16_t>(*group),
                                                   exchange.key_exchange->public_value()});
    }
  }
  auto selectors = selectors_to_offer(ike, exchange.task);
  payloads.emplace_back(wire::ike::TrafficSelectors{true, std::move(selectors.local), false});
  payloads.emplace_back(wire::ike::TrafficSelectors{false, std::move(selectors.remote), false});
  return payloads;
}

SelectorPair Core::selectors_to_offer(const IkeSa& ike, const Task& task) const {
  SelectorPair offer = configured_selectors(child_config(task.child_id), ike);
  if (task.kind == TaskKind::rekey_child) {
    // A peer that takes single pairs alone takes no more when it is rekeyed.
    const ChildSa& old = children_.at(task.child);
    SelectorPair agreed{old.local_selectors, old.remote_selectors};
    return is_single_pair(agreed) && covers(offer, agreed) ? agreed : offer;
  }
  const auto packet = trapped_.find(task.child_id);
  if (packet == trapped_.end()) return offer;
  const auto own = selectors_of_packet(packet->second, offer);
  if (!own) return offer;
  if (task.single_pair) return pair_of_packet(packet->second, offer);
  // RFC 7296 §2.9: "the initiator SHOULD include as the first Traffic Selector in each of TSi and
  // TSr a very specific Traffic Selector including the addresses in the packet triggering the
  // request".
  const auto lead = [](std::vector<wire::TrafficSelector>& side, const auto& first) {
    if (side.front() != first) side.insert(side.begin(), first);
  };
  lead(offer.local, own->local.front());
  lead(offer.remote, own->remote.front());
  return offer;
}

std::expected<Narrowed, Refusal> Core::choose_child(const IkeSa& ike, const Payloads& payloads,
                                                    const ChildSa* rekeyed) const {
  const SelectorPair named = named_in(payloads, true);
  // RFC 7296 §2.23.1: for transport mode with the addresses that we see; for tunnel mode with those
  // that were named: "undo the Traffic Selector substitutions".
  const bool transport = find_notify(payloads, NotifyType::use_transport_mode) != nullptr;
  const SelectorPair seen = transport ? seen_here(named, ike) : named;
  Narrowed best;
  std::pair best_rank(false, false);
  std::string configured;
  for (const config::Child& child : ike.connection->children) {
    if (rekeyed != nullptr && child.id != rekeyed->child_id) continue;
    const SelectorPair ours = configured_selectors(child, ike);
    configured += (configured.empty() ? "" : ", ") + child.name + ": " + text_of(ours);
    const SelectorPair& theirs = child.mode == config::Mode::transport ? seen : named;
    Narrowed candidate{
        &child, {wire::narrow(theirs.local, ours.local), wire::narrow(theirs.remote, ours.remote)}};
    const SelectorPair& agreed = candidate.selectors;
    if (agreed.local.empty() || agreed.remote.empty()) continue;
    // RFC 7296 §2.9: "If the responder's policy allows it to accept the first selector of TSi and
    // TSr, then the responder MUST narrow the Traffic Selectors to a subset that includes the
    // initiator's first choices." Of several, a child that is not narrowed at all is the one meant.
    const std::pair rank(covers(agreed, {{theirs.local.front()}, {theirs.remote.front()}}),
                         covers(ours, theirs));
    if (best.child != nullptr && best_rank >= rank) continue;
    cap_selectors(candidate.selectors.local, theirs.local.front());
    cap_selectors(candidate.selectors.remote, theirs.remote.front());
    candidate.answer =
        &theirs == &seen ? named_by_peer(candidate.selectors, named, ike) : candidate.selectors;
    best = std::move(candidate);
    best_rank = rank;
  }
  if (best.child == nullptr) {
    return std::unexpected(
        Refusal{NotifyType::ts_unacceptable,
                Failure::traffic_selectors_unacceptable,
                "ours: " + (configured.empty() ? std::string("no child") : configured) +
                    "; the peer's: " + text_of(named),
                {}});
  }
  return best;
}

std::expected<Core::Answer, Refusal> Core::answer_child(IkeSa& ike, const Payloads& payloads,
                                                        const ChildSa* rekeyed,
                                                        Bytes initiator_nonce,
                                                        Octets& responder_nonce, bool in_auth) {
  // 1. which child  2. mode, suite  3. key exchange  4. keys and SAs  5. answer
  auto narrowed = choose_child(ike, payloads, rekeyed);
  if (!narrowed) return std::unexpected(narrowed.error());
  // RFC 4555 §3.7: ESP goes to where the peer was until it has been heard where it is. A child
  // without remote_ts is for one address, and there are two for now (RFC 7296 §2.25).
  if (ike.awaits_check() && narrowed->child->remote_ts.empty()) {
    return std::unexpected(Refusal{NotifyType::temporary_failure,
                                   Failure::temporary_failure,
                                   "the peer has not been heard at its new address",
                                   {},
                                   narrowed->child->id});
  }
  if (!has_room(ike, rekeyed != nullptr)) {
    return std::unexpected(no_room(ike, *narrowed->child));
  }
  // "The node is unwilling to accept any more Child SAs" (RFC 7296 §3.10.1).
  if (auto refused = no_room_for(children_, ike, *narrowed->child, narrowed->selectors)) {
    return std::unexpected(std::move(*refused));
  }
  auto terms = choose_terms(*narrowed->child, payloads, in_auth);
  if (!terms) return std::unexpected(terms.error());
  const auto spi = environment_.spis->take();
  if (!spi) {
    return std::unexpected(
        Refusal{NotifyType::no_additional_sas,
                Failure::no_spi_available,
                narrowed->child->name +
                    ": ours: no inbound SPI is left; the peer's: " + text_of(narrowed->selectors),
                {},
                narrowed->child->id});
  }
  if (!in_auth) responder_nonce = draw(kNonceBytes);
  const auto keys = derive_child_keys(terms->chosen.suite, ike.suite.prf, ike.keys.derive.view(),
                                      terms->secret.view(), initiator_nonce, responder_nonce);
  if (!keys) {
    environment_.spis->give_back(*spi);
    return std::unexpected(
        Refusal{NotifyType::no_proposal_chosen, Failure::invalid_syntax, keys.error().what, {}});
  }
  ChildSa child = agreed_child(*narrowed->child, terms->chosen);
  child.inbound_spi = *spi;
  // RFC 7296 §1.3.1: declined by not answering the notify; whether tunnel mode will do is for the
  // initiator to say.
  child.transport_declined =
      !child.transport && find_notify(payloads, NotifyType::use_transport_mode) != nullptr;
  child.local_selectors = narrowed->selectors.local;
  child.remote_selectors = narrowed->selectors.remote;
  ChildSa& added = add_child(ike, std::move(child));
  if (auto installed = install(ike, added, *keys, false); !installed) {
    retire(added.inbound_sa, false);
    return std::unexpected(installed.error());
  }
  return Answer{answer_payloads(added, terms->chosen, narrowed->answer, terms->key_exchange.get(),
                                in_auth ? Octets{} : responder_nonce),
                &added};
}

/// Mode, suite and, with a group, the shared secret.
std::expected<ChildTerms, Refusal> Core::choose_terms(const config::Child& config,
                                                      const Payloads& payloads, bool in_auth) {
  const auto& offer = *find_payload<wire::ike::SecurityAssociation>(payloads);
  if (config.mode == config::Mode::transport &&
      find_notify(payloads, NotifyType::use_transport_mode) == nullptr) {
    return std::unexpected(Refusal{NotifyType::no_proposal_chosen,
                                   Failure::mode_mismatch,
                                   config.name + ": ours: transport; the peer's: tunnel",
                                   {},
                                   config.id});
  }
  const auto* peer_value = find_payload<wire::ike::KeyExchange>(payloads);
  auto chosen = choose_esp(config.esp_proposals, offer, !in_auth,
                           peer_value != nullptr ? std::optional(peer_value->group) : std::nullopt);
  if (!chosen) {
    const bool group = difference(config.esp_proposals, offer, !in_auth).only_group;
    return std::unexpected(
        Refusal{NotifyType::no_proposal_chosen,
                group ? Failure::pfs_mismatch : Failure::no_child_proposal_chosen,
                config.name + ": " + compare(config.esp_proposals, offer, !in_auth),
                {},
                config.id});
  }
  ChildTerms terms{std::move(*chosen), {}, nullptr, {}};
  if (terms.chosen.group == crypto::Group::none) return terms;
  const auto group = static_cast<std::uint16_t>(terms.chosen.group);
  if (peer_value == nullptr || peer_value->group != group) {
    Octets demanded(2);
    wire::Writer(demanded).u16(group);
    return std::unexpected(Refusal{
        NotifyType::invalid_ke_payload, Failure::invalid_ke_group,
        config.name + ": ours: group " + std::to_string(group) + "; the peer's: " +
            (peer_value != nullptr ? std::to_string(peer_value->group) : std::string("none")),
        demanded});
  }
  auto made = crypto::ike::generate_key_exchange(terms.chosen.group, *environment_.random);
  auto shared = made ? (*made)->shared_secret(peer_value->data)
                     : crypto::ike::Result<crypto::SecretBytes>(std::unexpected(made.error()));
  if (!shared) {
    return std::unexpected(
        Refusal{NotifyType::invalid_syntax, Failure::invalid_syntax, shared.error().what, {}});
  }
  terms.key_exchange = std::move(*made);
  terms.secret = std::move(*shared);
  return terms;
}

std::expected<ChildSa*, Refusal> Core::accept_child(IkeSa& ike, Exchange& exchange,
                                                    const Payloads& payloads, ChildNonces nonces,
                                                    bool in_auth) {
  // 1. is it an answer to what we asked  2. key exchange  3. keys  4. was it deleted meanwhile  5.
  // SAs
  const config::Child& config =
      exchange.asked ? *exchange.asked : child_config(exchange.task.child_id);
  auto terms = check_answer(config, ike, exchange, payloads, in_auth);
  if (terms) {
    if (auto refused = no_room_for(children_, ike, config, terms->selectors)) {
      terms = std::unexpected(std::move(*refused));
    }
  }
  auto keys = terms ? derive_child_keys(terms->chosen.suite, ike.suite.prf, ike.keys.derive.view(),
                                        terms->secret.view(), nonces.initiator, nonces.responder)
                    : crypto::ike::Result<ChildKeys>(std::unexpected(crypto::ike::CryptoError{}));
  if (terms && !keys) {
    terms = std::unexpected(
        Refusal{NotifyType::no_proposal_chosen, Failure::invalid_syntax, keys.error().what, {}});
  }
  if (!terms) {
    // The peer has the child; if we cannot use it, it must hear so.
    Task orphan{.kind = TaskKind::delete_child};
    orphan.orphan = std::exchange(exchange.inbound_spi, channel::Spi{});
    ike.queue.push_front(std::move(orphan));
    return std::unexpected(terms.error());
  }
  const std::uint32_t peer_spi = terms->chosen.peer_spi;
  if (std::ranges::find(exchange.deleted_early, peer_spi) != exchange.deleted_early.end()) {
    return std::unexpected(Refusal{NotifyType::child_sa_not_found,
                                   Failure::peer_deleted,
                                   config.name + ": deleted as soon as made",
                                   {}});
  }
  ChildSa child = agreed_child(config, terms->chosen);
  child.made_by_us = true;
  child.inbound_spi = std::exchange(exchange.inbound_spi, channel::Spi{});
  child.local_selectors = std::move(terms->selectors.local);
  child.remote_selectors = std::move(terms->selectors.remote);
  ChildSa& added = add_child(ike, std::move(child));
  if (auto installed = install(ike, added, *keys, true); !installed) {
    enqueue(ike, Task{.kind = TaskKind::delete_child, .child = added.inbound_sa}, true);
    return std::unexpected(installed.error());
  }
  if (exchange.asked) outdate(added);
  return &added;
}

/// Whether the peer chose among what we offered (RFC 7296 §3.3.6, §2.9), and the shared secret.
std::expected<ChildTerms, Refusal> Core::check_answer(const config::Child& config, const IkeSa& ike,
                                                      const Exchange& exchange,
                                                      const Payloads& payloads, bool in_auth) {
  const auto refuse = [&](Failure failure, const std::string& detail) {
    return std::unexpected(
        Refusal{NotifyType::no_proposal_chosen, failure, config.name + ": " + detail, {}});
  };
  const auto* answer = find_payload<wire::ike::SecurityAssociation>(payloads);
  const auto* ts_local = find_selectors(payloads, true);
  const auto* ts_remote = find_selectors(payloads, false);
  if (answer == nullptr || ts_local == nullptr || ts_remote == nullptr) {
    return refuse(Failure::invalid_syntax, "the answer lacks SA or TS");
  }
  const auto* peer_value = find_payload<wire::ike::KeyExchange>(payloads);
  auto chosen = choose_esp(config.esp_proposals, *answer, !in_auth,
                           peer_value != nullptr ? std::optional(peer_value->group) : std::nullopt);
  if (!chosen || !is_an_answer(*answer)) {
    return refuse(Failure::no_child_proposal_chosen, "ours: " + describe(config.esp_proposals) +
                                                         "; the peer chose " + describe(*answer));
  }
  const bool transport = find_notify(payloads, NotifyType::use_transport_mode) != nullptr;
  if (transport != (config.mode == config::Mode::transport)) {
    return refuse(Failure::mode_mismatch, transport ? "ours: tunnel; the peer's: transport"
                                                    : "ours: transport; the peer's: tunnel");
  }
  // RFC 7296 §2.23.1: "Do address substitution before using those Traffic Selectors for anything
  // other than storing original content of them."
  const SelectorPair ours = configured_selectors(config, ike);
  const SelectorPair named = named_in(payloads, false);
  const SelectorPair seen = transport ? seen_here(named, ike) : named;
  if (!covers(ours, seen) || !fit_the_data_plane(seen)) {
    return refuse(Failure::traffic_selectors_unacceptable,
                  "ours: " + text_of(ours) + "; the peer's: " + text_of(named));
  }
  // Without what another of them holds as well: the packet's own, where the peer took more.
  ChildTerms terms{std::move(*chosen),
                   {wire::narrow(seen.local, ours.local), wire::narrow(seen.remote, ours.remote)},
                   nullptr,
                   {}};
  if (terms.chosen.group == crypto::Group::none) return terms;
  if (peer_value == nullptr || exchange.key_exchange == nullptr ||
      exchange.key_exchange->group() != terms.chosen.group ||
      peer_value->group != static_cast<std::uint16_t>(terms.chosen.group)) {
    return refuse(Failure::invalid_ke_group, "the peer's KE payload is of another group");
  }
  auto shared = exchange.key_exchange->shared_secret(peer_value->data);
  if (!shared) return refuse(Failure::invalid_syntax, shared.error().what);
  terms.secret = std::move(*shared);
  return terms;
}

}  // namespace culvert::ike
