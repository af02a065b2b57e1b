// connections: the peers, how the IKE SA is negotiated and kept alive.
#include <algorithm>
#include <array>

#include "config/limits.hpp"
#include "config/scalars.hpp"
#include "config/sections.hpp"

namespace culvert::config {
namespace {

void read_peer(const Field& field, bool remote, Peer& peer) {
  MapReader map(field, "a peer: {address: …, id: …, auth: psk}");
  const Field address = map.take("address");
  const bool any = address.present() && address.node->text == "%any";
  if (!any) {
    if (const auto value = read_address(address)) peer.address = *value;
  }
  if (peer.address && (peer.address->is_unspecified())) {
    address.error({quote(peer.address->to_string()), "the address of a gateway",
                   remote ? "write \"%any\" for a peer whose address is not known"
                          : "leave address out to use the one that routes to the peer"});
  }
  const Field id = map.take("id");
  if (remote && id.present() && is_identity_pattern(id.node->text)) {
    peer.id_pattern = id.node->text;
  } else {
    peer.id = read_identity(id);
  }
  const Field auth = map.take("auth");
  static constexpr std::array kMethods{Word<AuthMethod>{"psk", AuthMethod::psk},
                                       Word<AuthMethod>{"pubkey", AuthMethod::pubkey}};
  set(peer.auth, read_choice(auth, kMethods));
  const Field certificate = map.take("certificate");
  set(peer.certificate, read_text(certificate, "the path of a certificate"));
  if (remote && certificate.present()) {
    certificate.error({describe(certificate), "no certificate: the peer sends its own",
                       "remove it, and name the peer's authority under pki.authorities"});
  } else if (certificate.present() && peer.auth == AuthMethod::psk) {
    certificate.error({describe(certificate) + " beside auth: psk", "no certificate",
                       "write auth: pubkey, or remove certificate"});
  }
  map.finish();
}

std::vector<crypto::Proposal> default_proposals() {
  std::vector<crypto::Proposal> proposals;
  for (const std::string_view text :
       {"aes256gcm16-prfsha384-ecp384", "aes128gcm16-prfsha256-x25519-ecp256"}) {
    if (auto proposal = crypto::parse_ike_proposal(text)) {
      proposals.push_back(*std::move(proposal));
    }
  }
  return proposals;
}

void read_ike_proposals(const Field& field, std::vector<crypto::Proposal>& proposals) {
  if (!field.present()) {
    proposals = default_proposals();
    return;
  }
  for (const Field& item : read_items(field, "proposals", limits::kProposals)) {
    const auto text = read_text(item, "a proposal such as aes256gcm16-prfsha384-ecp384");
    if (!text) continue;
    const auto proposal = crypto::parse_ike_proposal(*text);
    if (!proposal) {
      report_proposal(item, proposal.error());
      continue;
    }
    if (std::ranges::find(proposals, *proposal) != proposals.end()) {
      item.warning({quote(*text) + " a second time", "each proposal once", "remove it"});
    }
    proposals.push_back(*proposal);
  }
  if (field.node->kind == Node::Kind::list && field.node->items.empty()) {
    field.error({"an empty list", "at least one proposal", "leave proposals out for the default"});
  }
}

void read_times(MapReader& map, Connection& connection) {
  const Field rekey_time = map.take("rekey_time");
  set(connection.rekey_time, read_duration(rekey_time));
  if (rekey_time.present() && connection.rekey_time.count() != 0 &&
      connection.rekey_time < limits::kRekeyShort) {
    rekey_time.warning({describe(rekey_time), "at least 60s",
                        "a new Diffie-Hellman exchange this often is for tests"});
  }
  const Field dpd_delay = map.take("dpd_delay");
  set(connection.dpd_delay, read_duration(dpd_delay));
  if (dpd_delay.present() && connection.dpd_delay.count() != 0 &&
      connection.dpd_delay < limits::kDpdShort) {
    dpd_delay.warning({describe(dpd_delay), "at least 5s, or 0 for no liveness checks",
                       "retransmission alone takes longer; write dpd_delay: 30s"});
  }
}

void read_connection(const Field& field, Connection& connection) {
  static constexpr std::array kEncapsulations{Word<Encapsulation>{"auto", Encapsulation::automatic},
                                              Word<Encapsulation>{"yes", Encapsulation::forced},
                                              Word<Encapsulation>{"no", Encapsulation::never},
                                              Word<Encapsulation>{"true", Encapsulation::forced},
                                              Word<Encapsulation>{"false", Encapsulation::never}};
  MapReader map(field, "a connection: name, local, remote, children");
  connection.location = field.location;
  set(connection.name,
      read_name(map.require("name", "a name", "write name: branch"), limits::kNameCharacters));
  read_peer(map.require("local", "our side: {address: …, id: …, auth: psk}",
                        "write local: {address: ADDRESS, id: NAME, auth: psk}"),
            false, connection.local);
  read_peer(map.require("remote", "the peer: {address: …, id: …, auth: psk}",
                        "write remote: {address: ADDRESS, id: NAME, auth: psk}"),
            true, connection.remote);
  read_ike_proposals(map.take("proposals"), connection.proposals);
  read_times(map, connection);
  set(connection.encapsulation, read_choice(map.take("encap"), kEncapsulations));
  read_path(map, connection);
  read_children(map.require("children", "at least one child: name, local_ts, remote_ts",
                            "write children: with the traffic to protect"),
                connection);
  map.finish();
}

}  // namespace

void report_proposal(const Field& field, const crypto::ProposalError& error) {
  Location location = field.location;
  location.column += static_cast<std::uint32_t>(error.offset) + (field.node->quoted ? 1U : 0U);
  const bool whole = error.word == field.node->text;
  field.diagnostics->error(location, field.path,
                           {quote(error.word) + " (" + error.problem + ")", error.expected,
                            whole ? "" : "in the proposal " + quote(field.node->text)});
}

std::optional<Identity> read_identity(const Field& field) {
  constexpr std::string_view kExpected =
      "an identity such as hq.example.org, ops@example.org, 192.0.2.1, CN=hq or @#cafe01";
  const auto text = read_text(field, kExpected);
  if (!text) return std::nullopt;
  if (auto identity = parse_identity(*text)) return identity;
  field.error({quote(*text), std::string(kExpected), ""});
  return std::nullopt;
}

void read_connections(const Field& field, std::vector<Connection>& connections) {
  for (const Field& item : read_items(field, "connections", limits::kSas)) {
    read_connection(item, connections.emplace_back());
  }
}

}  // namespace culvert::config
