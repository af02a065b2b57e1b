// What of an IKE SA and a child is on record, field by field: one function for each type, for both
// directions of an archive (record_archive.hpp). `Value` is const when it is written. A change here
// raises kLayoutVersion in ike/daemon/checkpoint.cpp.
#pragma once

#include <utility>

#include "ike/machine/ike_sa.hpp"
#include "ike/machine/record_archive.hpp"

namespace culvert::ike::record_fields {

// More than anything real; a reader allocates no more than the record has octets.
// Whatever a datagram can hold must fit, also an identity in hexadecimal: what a peer says must not
// make a record that cannot be read.
inline constexpr std::size_t kMostOctets = 1U << 17U, kMostText = 1U << 18U, kMostKey = 2048;
inline constexpr std::size_t kMostMessages = 1024, kMostItems = 65536, kMostTasks = 65536;

template <typename Archive, typename Item, typename Fields>
void list(Archive& archive, Item& items, std::size_t most, Fields fields) {
  if constexpr (Archive::kReads) {
    const std::size_t count = archive.count(most);
    items.clear();
    for (std::size_t at = 0; at < count && archive.ok(); ++at) {
      typename Item::value_type item{};
      fields(archive, item);
      items.insert(items.end(), std::move(item));
    }
  } else {
    archive.count(items.size());
    for (const auto& item : items) fields(archive, item);
  }
}

template <typename Archive, typename Optional, typename Fields>
void optional(Archive& archive, Optional& value, Fields fields) {
  bool present = value.has_value();
  archive.number(present);
  if constexpr (Archive::kReads) {
    if (present) value.emplace();
    if (!present) value.reset();
  }
  if (value.has_value()) fields(archive, *value);
}

inline constexpr auto kNumber = [](auto& archive, auto& value) { archive.number(value); };
inline constexpr auto kOctets = [](auto& archive, auto& value) {
  archive.octets(value, kMostOctets);
};

template <typename Archive, typename Value>
void address_fields(Archive& archive, Value& address) {
  archive.number(address.family);
  archive.require(address.family == wire::Family::v4 || address.family == wire::Family::v6);
  archive.array(address.bytes);
}
template <typename Archive, typename Value>
void endpoint_fields(Archive& archive, Value& endpoint) {
  address_fields(archive, endpoint.address);
  archive.number(endpoint.port);
}
inline constexpr auto kAddress = [](auto& archive, auto& value) { address_fields(archive, value); };
inline constexpr auto kSelector = [](auto& archive, auto& selector) {
  address_fields(archive, selector.first);
  address_fields(archive, selector.last);
  archive.require(selector.first.family == selector.last.family);
  archive.number(selector.port_first);
  archive.number(selector.port_last);
  archive.number(selector.protocol);
};
template <typename Archive, typename Value>
void identity_fields(Archive& archive, Value& identity) {
  archive.number(identity.type);  // a peer may have sent any
  archive.text(identity.text, kMostText);
  archive.octets(identity.encoded, kMostText);
}
inline constexpr auto kCertificate = [](auto& archive, auto& certificate) {
  archive.number(certificate.encoding);
  archive.octets(certificate.data, kMostOctets);
};
template <typename Archive, typename Value>
void esp_suite_fields(Archive& archive, Value& suite) {
  archive.number(suite.encryption);
  archive.number(suite.key_bits);
  archive.number(suite.integrity);
}
template <typename Archive, typename Value>
void ike_suite_fields(Archive& archive, Value& suite) {
  esp_suite_fields(archive, suite);
  archive.number(suite.prf);
  archive.number(suite.group);
}
template <typename Archive, typename Value>
void messages_fields(Archive& archive, Value& messages) {
  list(archive, messages, kMostMessages, kOctets);
}

template <typename Archive, typename Value>
void window_fields(Archive& archive, Value& window) {
  std::uint32_t next = window.next_request(), expected = window.expected_request();
  archive.number(next);
  archive.number(expected);
  if constexpr (Archive::kReads) window.resume_at(next, expected);
  optional(archive, window.pending, [](auto& inner, auto& pending) {
    inner.number(pending.message_id);
    messages_fields(inner, pending.messages);
    inner.require(!pending.messages.empty());
    inner.number(pending.tries);
    inner.number(pending.rounds);
    inner.instant(pending.next);
    inner.instant(pending.delay);
  });
  messages_fields(archive, window.last_response);
}

inline constexpr auto kTask = [](auto& archive, auto& task) {
  archive.choice(task.kind, TaskKind::await_move);
  archive.number(task.child_id);
  archive.number(task.child);
  archive.number(task.orphan);
  optional(archive, task.group, kNumber);
  archive.instant(task.not_before);
  archive.number(task.attempts);
  archive.number(task.rehearsal);
  archive.number(task.address_lost);
  // Commands end with the process that was asked.
};

/// Our half of a key exchange: group and private key.
template <typename Archive, typename Value>
void key_exchange_fields(Archive& archive, Value& key_exchange) {
  bool present = key_exchange != nullptr;
  archive.number(present);
  if (!present) return;
  if constexpr (Archive::kReads) {
    crypto::Group group{};
    crypto::SecretBytes key;
    archive.number(group);
    archive.secret(key, kMostKey);
    if (!archive.ok()) return;
    auto restored = crypto::ike::restore_key_exchange(group, key.view());
    archive.require(restored.has_value());
    if (restored) key_exchange = std::move(*restored);
  } else {
    archive.number(key_exchange->group());
    archive.secret(key_exchange->private_key(), kMostKey);
  }
}

inline constexpr auto kProposal = [](auto& archive, auto& proposal) {
  list(archive, proposal.encryption, kMostItems, [](auto& inner, auto& cipher) {
    inner.number(cipher.id);
    inner.number(cipher.key_bits);
  });
  list(archive, proposal.integrity, kMostItems, kNumber);
  list(archive, proposal.prf, kMostItems, kNumber);
  list(archive, proposal.groups, kMostItems, kNumber);
  archive.number(proposal.esn);
  archive.number(proposal.no_esn);
};
inline constexpr auto kProposals = [](auto& archive, auto& proposals) {
  list(archive, proposals, kMostItems, kProposal);
};
/// Of a configured child what an answer is judged by.
inline constexpr auto kAskedChild = [](auto& archive, auto& child) {
  archive.text(child.name, kMostText);
  archive.number(child.id);
  archive.choice(child.mode, config::Mode::transport);
  list(archive, child.local_ts, kMostItems, kSelector);
  list(archive, child.remote_ts, kMostItems, kSelector);
  kProposals(archive, child.esp_proposals);
};

inline constexpr auto kExchange = [](auto& archive, auto& exchange) {
  kTask(archive, exchange.task);
  archive.octets(exchange.nonce, kMostText);
  key_exchange_fields(archive, exchange.key_exchange);
  archive.number(exchange.inbound_spi);
  archive.number(exchange.new_ike_spi);
  archive.number(exchange.rival_child);
  archive.number(exchange.rival_ike);
  archive.octets(exchange.rival_nonce, kMostText);
  list(archive, exchange.deleted_early, kMostItems, kNumber);
  optional(archive, exchange.asked, kAskedChild);
  optional(archive, exchange.asked_ike, kProposals);
};

inline constexpr auto kChild = [](auto& archive, auto& child) {
  archive.number(child.inbound_sa);
  archive.number(child.outbound_sa);
  archive.number(child.inbound_spi);
  archive.number(child.outbound_spi);
  archive.number(child.child_id);
  archive.choice(child.state, ChildState::deleting);
  archive.number(child.made_by_us);
  archive.number(child.outdated);
  archive.number(child.redundant);
  archive.number(child.replaced_by);
  archive.instant(child.created);
  archive.instant(child.switch_at);
  archive.choice(child.proof, Proof::answer);
  archive.seconds(child.soft_seconds);
  archive.seconds(child.hard_seconds);
  esp_suite_fields(archive, child.suite);
  archive.number(child.pfs_group);
  archive.number(child.esn);
  archive.number(child.transport);
  archive.number(child.udp_encapsulation);
  archive.number(child.replaces);
  archive.number(child.transport_declined);
  optional(archive, child.notice,
           [](auto& inner, auto& notice) { inner.choice(notice, Failure::post_quantum_mismatch); });
  archive.text(child.notice_detail, kMostText);
  list(archive, child.local_selectors, channel::kMaxSelectors, kSelector);
  list(archive, child.remote_selectors, channel::kMaxSelectors, kSelector);
  archive.number(child.policy);
  archive.instant(child.rehearse_at);
  archive.secret(child.unconfirmed_in, channel::kMaxKeyBytes);
  archive.secret(child.unconfirmed_out, channel::kMaxKeyBytes);
};

/// One direction's keys, and how far its IVs have come.
template <typename Archive, typename Value>
void protector_fields(Archive& archive, Value& protector, const crypto::IkeSuite& suite) {
  if constexpr (Archive::kReads) {
    crypto::SecretBytes encryption, integrity;
    crypto::ike::IvPosition position;
    archive.secret(encryption, kMostKey);
    archive.secret(integrity, kMostKey);
    archive.number(position.first_iv);
    archive.number(position.seals);
    if (!archive.ok()) return;
    auto made = crypto::ike::make_protector(suite, encryption.view(), integrity.view());
    archive.require(made.has_value());
    if (!made) return;
    protector = std::move(*made);
    protector->resume_at(position);
  } else {
    archive.octets(protector->encryption_key(), kMostKey);
    archive.octets(protector->integrity_key(), kMostKey);
    archive.number(protector->iv_position().first_iv);
    archive.number(protector->iv_position().seals);
  }
}
template <typename Archive, typename Value>
void keys_fields(Archive& archive, Value& keys, const crypto::IkeSuite& suite) {
  bool present = keys.inbound != nullptr;
  archive.number(present);
  if (!present) return;
  archive.secret(keys.derive, kMostKey);
  archive.secret(keys.prove_local, kMostKey);
  archive.secret(keys.prove_remote, kMostKey);
  protector_fields(archive, keys.outbound, suite);
  protector_fields(archive, keys.inbound, suite);
}

/// Who is at the two ends, and how they proved it.
template <typename Archive, typename Value>
void ends_fields(Archive& archive, Value& ike) {
  endpoint_fields(archive, ike.local);
  endpoint_fields(archive, ike.remote);
  identity_fields(archive, ike.local_id);
  identity_fields(archive, ike.remote_id);
  optional(archive, ike.signature_hashes,
           [](auto& inner, auto& hashes) { list(inner, hashes, kMostItems, kNumber); });
  archive.text(ike.local_auth, kMostText);
  archive.number(ike.local_method);
  archive.text(ike.remote_auth, kMostText);
  archive.text(ike.remote_certificate, kMostText);
  archive.number(ike.remote_certificate_expires);
  list(archive, ike.peer_certificates, kMostItems, kCertificate);
  archive.number(ike.nat_local);
  archive.number(ike.nat_remote);
  archive.number(ike.nat_detection);
  archive.number(ike.encapsulate);
  archive.number(ike.nat_ignored);
  archive.number(ike.heard_version_1);
  archive.number(ike.mobike);
  archive.number(ike.moves);
  list(archive, ike.peer_addresses, kMostItems, kAddress);
  optional(archive, ike.checked_remote,
           [](auto& inner, auto& endpoint) { endpoint_fields(inner, endpoint); });
  archive.octets(ike.seen_as, kMostText);
}

/// What IKE_SA_INIT leaves until IKE_AUTH is over.
template <typename Archive, typename Value>
void init_fields(Archive& archive, Value& ike) {
  archive.number(ike.post_quantum_offered);
  archive.number(ike.post_quantum);
  archive.secret(ike.plain_keys.derive, kMostKey);
  archive.secret(ike.plain_keys.prove_local, kMostKey);
  archive.secret(ike.plain_keys.prove_remote, kMostKey);
  archive.octets(ike.initiator_nonce, kMostText);
  archive.octets(ike.responder_nonce, kMostText);
  archive.octets(ike.initiator_message, kMostOctets);
  archive.octets(ike.responder_message, kMostOctets);
  archive.octets(ike.cookie, kMostText);
  key_exchange_fields(archive, ike.key_exchange);
  archive.number(ike.group);
  archive.number(ike.init_restarts);
  optional(archive, ike.init_request, [](auto& inner, auto& request) {
    endpoint_fields(inner, request.first);
    inner.number(request.second);
  });
}

/// Its life among others.
template <typename Archive, typename Value>
void life_fields(Archive& archive, Value& ike) {
  archive.number(ike.created_rank);
  archive.number(ike.begun_rank);
  archive.number(ike.established_rank);
  archive.octets(ike.lower_nonce, kMostText);
  archive.octets(ike.first_nonce, kMostText);
  archive.number(ike.begun_by_us);
  archive.number(ike.made_by_rekey);
  archive.number(ike.redundant);
  archive.number(ike.outdated);
  archive.number(ike.duplicate_waits);
  archive.number(ike.lost_to);
  archive.number(ike.unproven);
  archive.number(ike.childless);
  archive.number(ike.fragmentation);
  archive.instant(ike.reauthenticate_at);
  archive.instant(ike.created);
  archive.instant(ike.established);
  archive.instant(ike.rekey_at);
  archive.instant(ike.expire_at);
  archive.instant(ike.liveness_at);
  archive.instant(ike.last_heard);
  archive.instant(ike.last_sent);
  archive.instant(ike.forget_at);
  list(archive, ike.wanted, kMostItems, kNumber);
}

template <typename Archive, typename Value>
void ike_fields(Archive& archive, Value& ike) {
  archive.number(ike.local_spi);
  archive.number(ike.remote_spi);
  archive.number(ike.initiator);
  archive.choice(ike.state, IkeState::closed);
  ends_fields(archive, ike);
  ike_suite_fields(archive, ike.suite);
  keys_fields(archive, ike.keys, ike.suite);
  init_fields(archive, ike);
  life_fields(archive, ike);
  window_fields(archive, ike.window);
  optional(archive, ike.exchange, kExchange);
  list(archive, ike.queue, kMostTasks, kTask);
}

}  // namespace culvert::ike::record_fields
