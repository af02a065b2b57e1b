#include "ike/machine/record_codec.hpp"

#include <utility>

#include "ike/machine/record_fields.hpp"

namespace culvert::ike {
namespace {

using namespace record_fields;

/// What each state and exchange relies on.
bool is_possible(const IkeSa& ike) {
  if (ike.local_spi == 0) return false;
  const bool before_keys = ike.state == IkeState::init_sent || ike.state == IkeState::closed;
  if (ike.keys.inbound == nullptr && !before_keys) return false;
  if (ike.state == IkeState::init_sent) {
    return ike.initiator && ike.key_exchange != nullptr && !ike.wanted.empty() &&
           ike.exchange.has_value() && ike.exchange->task.kind == TaskKind::init;
  }
  if (ike.state == IkeState::auth_sent && !ike.exchange) return false;
  if (!ike.exchange) return true;
  switch (ike.exchange->task.kind) {
    case TaskKind::init:
    case TaskKind::await_move:
      return false;
    case TaskKind::auth:
      return ike.state == IkeState::auth_sent && !ike.wanted.empty();
    case TaskKind::rekey_ike:
      return ike.exchange->key_exchange != nullptr && ike.exchange->new_ike_spi != 0;
    case TaskKind::create_child:
    case TaskKind::rekey_child:
    case TaskKind::delete_child:
    case TaskKind::delete_ike:
    case TaskKind::liveness:
    case TaskKind::update_addresses:
    case TaskKind::check_route:
      return ike.state != IkeState::auth_sent;
  }
  return false;
}

void peer_fields(RecordWriter& writer, const config::Peer& peer) {
  optional(writer, peer.address, kAddress);
  optional(writer, peer.id, [](auto& inner, auto& id) { identity_fields(inner, id); });
  writer.number(peer.auth);
  writer.text(peer.certificate, kMostText);
}

}  // namespace

Fingerprint fingerprint(const config::Connection& connection) {
  RecordWriter writer;
  writer.text(connection.name, kMostText);
  peer_fields(writer, connection.local);
  peer_fields(writer, connection.remote);
  list(writer, connection.proposals, kMostItems, kProposal);
  writer.number(connection.rekey_time.count());
  writer.number(connection.dpd_delay.count());
  writer.number(connection.encapsulation);
  writer.number(connection.fragmentation);
  writer.number(connection.fragment_size);
  writer.number(connection.mobike);
  writer.number(connection.childless);
  writer.number(connection.reauth_time.count());
  writer.text(connection.ppk_id, kMostText);
  writer.number(connection.ppk_required);
  list(writer, connection.children, kMostItems,
       [](RecordWriter& inner, const config::Child& child) {
         inner.text(child.name, kMostText);
         inner.number(child.mode);
         list(inner, child.local_ts, kMostItems, kSelector);
         list(inner, child.remote_ts, kMostItems, kSelector);
         list(inner, child.esp_proposals, kMostItems, kProposal);
         for (const auto seconds : {child.rekey_time, child.life_time})
           inner.number(seconds.count());
         for (const auto limit :
              {child.rekey_bytes, child.life_bytes, child.rekey_packets, child.life_packets}) {
           inner.number(limit);
         }
         inner.number(child.replay_window);
       });
  const crypto::SecretBytes octets = writer.take();
  const std::array<crypto::Bytes, 1> pieces{octets.view()};
  return crypto::ike::sha256(pieces);
}

crypto::SecretBytes encode(const IkeSa& ike, const Fingerprint& connection_is,
                           const std::vector<const ChildSa*>& children) {
  RecordWriter writer;
  writer.text(ike.connection->name, kMostText);
  writer.array(connection_is);
  // Once it is known who the peer is they mean nothing any more.
  const bool undecided = ike.state == IkeState::half_open;
  writer.count(undecided ? ike.candidates.size() : 0);
  if (undecided) {
    for (const config::Connection* one : ike.candidates) writer.text(one->name, kMostText);
  }
  ike_fields(writer, ike);
  writer.count(children.size());
  for (const ChildSa* child : children) kChild(writer, *child);
  return writer.take();
}

std::optional<RecordedIkeSa> decode_ike_sa(const Record& record) {
  if (record.name.kind != RecordKind::ike_sa) return std::nullopt;
  RecordReader reader(record.content.view());
  RecordedIkeSa recorded;
  recorded.ike = std::make_unique<IkeSa>();
  reader.text(recorded.connection, kMostText);
  reader.array(recorded.connection_is);
  list(reader, recorded.candidates, kMostItems,
       [](RecordReader& inner, std::string& name) { inner.text(name, kMostText); });
  ike_fields(reader, *recorded.ike);
  list(reader, recorded.children, kMostItems, kChild);
  if (!reader.ok() || !reader.at_end() || !is_possible(*recorded.ike) ||
      recorded.ike->local_spi != record.name.id) {
    return std::nullopt;
  }
  for (ChildSa& child : recorded.children) {
    child.ike_spi = recorded.ike->local_spi;
    recorded.ike->children.push_back(child.inbound_sa);
  }
  return recorded;
}

std::vector<channel::Spi> spis_of(const Records& records) {
  std::vector<channel::Spi> spis;
  for (const Record& record : records) {
    const auto recorded = decode_ike_sa(record);
    if (!recorded) continue;
    const auto under_way = spis_under_way(*recorded->ike);
    spis.insert(spis.end(), under_way.begin(), under_way.end());
    for (const ChildSa& child : recorded->children) {
      if (!child.unconfirmed_in.empty()) spis.push_back(child.inbound_spi);
    }
  }
  return spis;
}

crypto::SecretBytes encode(const RecordedConnection& connection) {
  RecordWriter writer;
  writer.text(connection.name, kMostText);
  writer.number(connection.held_down);
  list(writer, connection.held_children, kMostItems, kNumber);
  return writer.take();
}

std::optional<RecordedConnection> decode_connection(const Record& record) {
  if (record.name.kind != RecordKind::connection) return std::nullopt;
  RecordReader reader(record.content.view());
  RecordedConnection connection;
  reader.text(connection.name, kMostText);
  reader.number(connection.held_down);
  list(reader, connection.held_children, kMostItems, kNumber);
  if (!reader.ok() || !reader.at_end()) return std::nullopt;
  return connection;
}

}  // namespace culvert::ike
