#include "channel/messages.hpp"

#include <algorithm>
#include <cstring>

#include "wire/udp.hpp"

namespace culvert::channel {
namespace {

using Validity = std::expected<void, Invalid>;

std::unexpected<Invalid> invalid(std::string_view field, std::string_view problem) {
  return std::unexpected(Invalid{field, problem});
}

/// A bool that another process wrote may be any byte; reading it as a bool would be undefined.
bool is_bool(const bool& field) {
  std::uint8_t raw = 0;
  std::memcpy(&raw, &field, sizeof(raw));
  return raw <= 1;
}

bool is_valid(const wire::IpAddress& address) {
  if (address.family != wire::Family::v4 && address.family != wire::Family::v6) return false;
  // The bytes behind an IPv4 address take part in comparisons: they are zero or it is no address.
  return address.family == wire::Family::v6 ||
         std::all_of(address.bytes.begin() + 4, address.bytes.end(),
                     [](std::uint8_t byte) { return byte == 0; });
}

bool is_valid(Direction direction) {
  return direction == Direction::in || direction == Direction::out;
}

bool is_valid(ExpiryCause cause) { return cause <= ExpiryCause::sequence; }

bool is_usable(Spi spi) { return static_cast<std::uint32_t>(spi) >= kFirstFreeSpi; }

Validity check_endpoints(const wire::Endpoint& local, const wire::Endpoint& remote) {
  if (!is_valid(local.address)) return invalid("local", "not an address");
  if (!is_valid(remote.address)) return invalid("remote", "not an address");
  if (local.address.family != remote.address.family) {
    return invalid("remote", "another address family than local");
  }
  return {};
}

/// Workers take ESP in UDP on one port: IKE's where a NAT was found (RFC 3948 §2.1, RFC 7296
/// §2.23).
Validity check_esp_port(const wire::Endpoint& local) {
  if (local.port == 0 || local.port == wire::udp::kNatTraversalPort) return {};
  return invalid("local", "ESP in UDP is on port 4500");
}

Validity check_selector(std::string_view field, const wire::TrafficSelector& selector) {
  if (!is_valid(selector.first) || !is_valid(selector.last)) {
    return invalid(field, "not an address");
  }
  if (selector.first.family != selector.last.family) return invalid(field, "mixes families");
  if (selector.last < selector.first) return invalid(field, "last address before first");
  if (selector.port_last < selector.port_first && !selector.opaque_port()) {
    return invalid(field, "last port before first");
  }
  return {};
}

/// 1..kMaxSelectors valid selectors.
Validity check_selectors(std::string_view field, const SelectorSet& set) {
  if (set.count == 0) return invalid(field, "empty");
  if (set.count > kMaxSelectors) return invalid(field, "more selectors than fit");
  for (std::uint32_t index = 0; index < set.count; ++index) {
    if (auto checked = check_selector(field, set.items[index]); !checked) return checked;
  }
  return {};
}

bool has_family(const SelectorSet& set, wire::Family family) {
  return std::any_of(set.items.begin(), set.items.begin() + set.count,
                     [&](const auto& selector) { return selector.first.family == family; });
}

Validity check_selector_pair(const SelectorSet& local, const SelectorSet& remote) {
  if (auto checked = check_selectors("local_selectors", local); !checked) return checked;
  if (auto checked = check_selectors("remote_selectors", remote); !checked) return checked;
  const bool common =
      (has_family(local, wire::Family::v4) && has_family(remote, wire::Family::v4)) ||
      (has_family(local, wire::Family::v6) && has_family(remote, wire::Family::v6));
  if (!common)
    return invalid("remote_selectors", "no address family in common with the local ones");
  return {};
}

/// In transport mode the selectors speak of the outer addresses (RFC 4301 §4.1).
Validity check_transport(const InstallSa& install) {
  const wire::Family outer = install.local.address.family;
  const wire::Family other = outer == wire::Family::v4 ? wire::Family::v6 : wire::Family::v4;
  if (has_family(install.local_selectors, other) || has_family(install.remote_selectors, other)) {
    return invalid("local_selectors", "transport mode with selectors of another address family");
  }
  return {};
}

Validity check_suite(const crypto::EspSuite& suite, std::uint16_t key_length) {
  const crypto::EncryptionInfo* const cipher = crypto::find(suite.encryption);
  if (cipher == nullptr || !cipher->esp) return invalid("suite", "unknown encryption");
  if (std::ranges::find(cipher->key_bits, suite.key_bits) == cipher->key_bits.end()) {
    return invalid("suite", "the cipher has no such key length");
  }
  const crypto::IntegrityInfo* const integrity = crypto::find(suite.integrity);
  if (cipher->aead && suite.integrity != crypto::Integrity::none) {
    return invalid("suite", "integrity beside an AEAD");
  }
  if (!cipher->aead && (integrity == nullptr || !integrity->esp)) {
    // Encryption without integrity is not offered at all (RFC 8221 §4).
    return invalid("suite", "unknown integrity");
  }
  if (key_length > kMaxKeyBytes || key_length != suite.keymat_bytes()) {
    return invalid("key", "not as long as the suite takes");
  }
  return {};
}

bool is_replay_window(std::uint32_t packets) {
  if (packets == 0) return true;
  return packets >= kMinReplayWindow && packets <= kMaxReplayWindow &&
         (packets & (packets - 1)) == 0;
}

Validity check(const InstallSa& install) {
  if (install.sa == SaId{}) return invalid("sa", "zero");
  if (is_manual_id(install.sa)) return invalid("sa", "one that manual SAs have");
  if (!is_valid(install.direction)) return invalid("direction", "out of range");
  if (install.mode != SaMode::tunnel && install.mode != SaMode::transport) {
    return invalid("mode", "out of range");
  }
  if (!is_bool(install.esn)) return invalid("esn", "not a boolean");
  if (!is_bool(install.udp_encapsulation)) return invalid("udp_encapsulation", "not a boolean");
  if (!is_usable(install.spi)) return invalid("spi", "0..255 are reserved (RFC 4303 §2.1)");
  if (!is_replay_window(install.replay_window)) {
    return invalid("replay_window", "neither 0 nor a power of two from 32 to 65536");
  }
  if (auto checked = check_suite(install.suite, install.key.length); !checked) return checked;
  if (auto checked = check_endpoints(install.local, install.remote); !checked) return checked;
  if (install.udp_encapsulation && (install.local.port == 0 || install.remote.port == 0)) {
    return invalid("local", "UDP encapsulation without ports");
  }
  if (auto checked = check_esp_port(install.local); !checked) return checked;
  if (auto checked = check_selector_pair(install.local_selectors, install.remote_selectors);
      !checked) {
    return checked;
  }
  return install.mode == SaMode::transport ? check_transport(install) : Validity{};
}

Validity check(const InstallPolicy& install) {
  if (install.policy == PolicyId{}) return invalid("policy", "zero");
  if (install.outbound == SaId{}) return invalid("outbound", "zero");
  return check_selector_pair(install.local_selectors, install.remote_selectors);
}

Validity check_sa(SaId sa) { return sa == SaId{} ? invalid("sa", "zero") : Validity{}; }

Validity check_policy(PolicyId policy) {
  return policy == PolicyId{} ? invalid("policy", "zero") : Validity{};
}

Validity check(const Completion& completion) {
  if (completion.request == RequestId{}) return invalid("request", "zero");
  if (completion.outcome > Outcome::over_budget) return invalid("outcome", "out of range");
  if (completion.spi_count > kMaxLeasedSpis) return invalid("spi_count", "more SPIs than fit");
  const auto end = completion.spis.begin() + completion.spi_count;
  if (!std::all_of(completion.spis.begin(), end, is_usable)) {
    return invalid("spis", "0..255 are reserved (RFC 4303 §2.1)");
  }
  return {};
}

Validity check(const Acquire& acquire) {
  if (!is_valid(acquire.source)) return invalid("source", "not an address");
  if (!is_valid(acquire.destination)) return invalid("destination", "not an address");
  if (acquire.source.family != acquire.destination.family) {
    return invalid("destination", "another address family than source");
  }
  return {};
}

Validity check_expiry(SaId sa, ExpiryCause cause) {
  if (!is_valid(cause)) return invalid("cause", "out of range");
  return check_sa(sa);
}

Validity check(const SnapshotSa& snapshot) {
  if (!is_valid(snapshot.direction)) return invalid("direction", "out of range");
  if (!is_bool(snapshot.udp_encapsulation)) return invalid("udp_encapsulation", "not a boolean");
  if (!is_usable(snapshot.spi)) return invalid("spi", "0..255 are reserved (RFC 4303 §2.1)");
  if (auto checked = check_sa(snapshot.sa); !checked) return checked;
  return check_endpoints(snapshot.local, snapshot.remote);
}

}  // namespace

std::expected<void, Invalid> validate(const Request& request) {
  if (request.id == RequestId{}) return invalid("id", "zero");
  const RequestBody& body = request.body;
  switch (request.type) {
    case RequestType::none:
      break;
    case RequestType::install_sa:
      return check(body.install_sa);
    case RequestType::install_policy:
      return check(body.install_policy);
    case RequestType::switch_outbound:
      if (auto checked = check_policy(body.switch_outbound.policy); !checked) return checked;
      return check_sa(body.switch_outbound.outbound);
    case RequestType::delete_policy:
      return check_policy(body.delete_policy.policy);
    case RequestType::delete_sa:
      return check_sa(body.delete_sa.sa);
    case RequestType::update_endpoints:
      if (auto checked = check_sa(body.update_endpoints.sa); !checked) return checked;
      if (auto checked = check_esp_port(body.update_endpoints.local); !checked) return checked;
      return check_endpoints(body.update_endpoints.local, body.update_endpoints.remote);
    case RequestType::lease_spis:
      if (body.lease_spis.count == 0) return invalid("count", "zero");
      if (body.lease_spis.count > kMaxLeasedSpis) return invalid("count", "more SPIs than fit");
      return {};
    case RequestType::query_sa:
      return check_sa(body.query_sa.sa);
    case RequestType::take_snapshot:
      return {};
    case RequestType::keep_spis:
      if (body.keep_spis.count == 0) return invalid("count", "zero");
      if (body.keep_spis.count > kMaxLeasedSpis) return invalid("count", "more SPIs than fit");
      return {};
  }
  return invalid("type", "unknown");
}

std::expected<void, Invalid> validate(const Event& event) {
  const EventBody& body = event.body;
  switch (event.type) {
    case EventType::none:
      break;
    case EventType::completion:
      return check(body.completion);
    case EventType::acquire:
      return check(body.acquire);
    case EventType::soft_expire:
      return check_expiry(body.soft_expire.sa, body.soft_expire.cause);
    case EventType::hard_expire:
      return check_expiry(body.hard_expire.sa, body.hard_expire.cause);
    case EventType::unknown_spi:
      return check_endpoints(body.unknown_spi.to, body.unknown_spi.from);
    case EventType::peer_moved:
      if (!is_valid(body.peer_moved.seen.address)) return invalid("seen", "not an address");
      return check_sa(body.peer_moved.sa);
    case EventType::snapshot_sa:
      return check(body.snapshot_sa);
    case EventType::snapshot_policy:
      return check_policy(body.snapshot_policy.policy);
  }
  return invalid("type", "unknown");
}

std::expected<void, Invalid> validate(const Datagram& datagram) {
  if (auto checked = check_endpoints(datagram.local, datagram.remote); !checked) return checked;
  if (datagram.local.port == 0) return invalid("local", "port 0");
  if (datagram.remote.port == 0) return invalid("remote", "port 0");
  if (!is_bool(datagram.keepalive)) return invalid("keepalive", "not a boolean");
  if (datagram.length > kMaxDatagramBytes) return invalid("length", "more bytes than fit");
  if (datagram.length == 0 && !datagram.keepalive) return invalid("length", "zero");
  return {};
}

std::size_t meaningful_bytes(const Request& request) {
  const auto with = [](std::size_t body) { return offsetof(Request, body) + body; };
  switch (request.type) {
    case RequestType::none:
      return with(0);
    case RequestType::install_sa:
      return with(sizeof(InstallSa));
    case RequestType::install_policy:
      return with(sizeof(InstallPolicy));
    case RequestType::switch_outbound:
      return with(sizeof(SwitchOutbound));
    case RequestType::delete_policy:
      return with(sizeof(DeletePolicy));
    case RequestType::delete_sa:
      return with(sizeof(DeleteSa));
    case RequestType::update_endpoints:
      return with(sizeof(UpdateEndpoints));
    case RequestType::lease_spis:
      return with(sizeof(LeaseSpis));
    case RequestType::query_sa:
      return with(sizeof(QuerySa));
    case RequestType::take_snapshot:
      return with(0);
    case RequestType::keep_spis:
      return with(sizeof(KeepSpis));
  }
  return with(0);
}

std::size_t meaningful_bytes(const Event& event) {
  const auto with = [](std::size_t body) { return offsetof(Event, body) + body; };
  switch (event.type) {
    case EventType::none:
      return with(0);
    case EventType::completion:
      return with(sizeof(Completion));
    case EventType::acquire:
      return with(sizeof(Acquire));
    case EventType::soft_expire:
      return with(sizeof(SoftExpire));
    case EventType::hard_expire:
      return with(sizeof(HardExpire));
    case EventType::unknown_spi:
      return with(sizeof(UnknownSpi));
    case EventType::peer_moved:
      return with(sizeof(PeerMoved));
    case EventType::snapshot_sa:
      return with(sizeof(SnapshotSa));
    case EventType::snapshot_policy:
      return with(sizeof(SnapshotPolicy));
  }
  return with(0);
}

std::size_t meaningful_bytes(const Datagram& datagram) {
  return offsetof(Datagram, bytes) + std::min<std::size_t>(datagram.length, kMaxDatagramBytes);
}

}  // namespace culvert::channel
