#include "dataplane/control/manual_sas.hpp"

#include <algorithm>
#include <utility>

#include "crypto/ike/ike_crypto.hpp"
#include "dataplane/tables/sa.hpp"

namespace culvert::dataplane::control {
namespace {

// Manual SAs are named from a range of their own; the key daemon's names start from a random
// 64-bit number.
constexpr std::uint64_t kFirstManualId = 0x6d616e75616c0000ULL;
constexpr std::uint16_t kUdpEncapsulationPort = 4500;
/// Numbers left to an outbound SA until the policies name its successor, some milliseconds later.
constexpr std::uint64_t kSentMeanwhile = 1U << 17U;

std::string title(const config::ManualSa& sa) { return "manual SA \"" + sa.name + "\": "; }

bool copy_selectors(const std::vector<wire::TrafficSelector>& from, channel::SelectorSet& to) {
  if (from.size() > to.items.size()) return false;
  std::ranges::copy(from, to.items.begin());
  to.count = static_cast<std::uint32_t>(from.size());
  return true;
}

bool is_inbound(const config::ManualSa& sa) {
  return sa.direction == config::ManualSa::Direction::in;
}

}  // namespace

std::expected<channel::InstallSa, std::string> install_request(const config::ManualSa& sa,
                                                               channel::SaId id) {
  const std::string name = title(sa);
  channel::InstallSa request;
  request.sa = id;
  request.direction = is_inbound(sa) ? channel::Direction::in : channel::Direction::out;
  request.mode =
      sa.mode == config::Mode::tunnel ? channel::SaMode::tunnel : channel::SaMode::transport;
  request.esn = sa.esn;
  request.udp_encapsulation = sa.udp_encap_local_port || sa.udp_encap_remote_port;
  request.child_id = sa.id;
  request.spi = channel::Spi{sa.spi};
  request.replay_window = sa.replay_window;
  request.suite = sa.suite;
  request.local.address = sa.local;
  request.remote.address = sa.remote;
  if (request.udp_encapsulation) {
    request.local.port = sa.udp_encap_local_port.value_or(kUdpEncapsulationPort);
    request.remote.port = sa.udp_encap_remote_port.value_or(kUdpEncapsulationPort);
  }
  if (!copy_selectors(sa.local_ts, request.local_selectors) ||
      !copy_selectors(sa.remote_ts, request.remote_selectors)) {
    return std::unexpected(name + "more than " + std::to_string(channel::kMaxSelectors) +
                           " selectors on a side");
  }
  const auto key = config::read_key(sa.key_file);
  if (!key) return std::unexpected(name + key.error());
  if (key->size() != sa.suite.keymat_bytes()) {
    return std::unexpected(name + sa.key_file + " holds " + std::to_string(key->size()) +
                           " bytes, " + sa.suite.name() + " needs " +
                           std::to_string(sa.suite.keymat_bytes()) +
                           " (cipher key, salt, integrity key)");
  }
  if (!request.key.assign(key->view())) return std::unexpected(name + "its key is too long");
  return request;
}

bool same_manual_sa(const config::ManualSa& a, const config::ManualSa& b) {
  return a.name == b.name && a.direction == b.direction && a.spi == b.spi && a.mode == b.mode &&
         a.local == b.local && a.remote == b.remote && a.local_ts == b.local_ts &&
         a.remote_ts == b.remote_ts && a.suite == b.suite && a.key_file == b.key_file &&
         a.esn == b.esn && a.replay_window == b.replay_window &&
         a.udp_encap_local_port == b.udp_encap_local_port &&
         a.udp_encap_remote_port == b.udp_encap_remote_port && a.headers == b.headers &&
         a.first_sequence == b.first_sequence;
}

std::expected<ManualSas::Plan, std::string> ManualSas::plan(const config::Config& wanted) {
  auto additions = compare(wanted);
  if (!additions) return additions;
  for (const Addition& addition : *additions) {
    if (auto problem = why_not(wanted.manual_sas[addition.place], addition.request)) {
      return Failure(std::move(*problem));
    }
  }
  if (auto problem = lacks_room(*additions)) return Failure(std::move(*problem));
  return additions;
}

std::expected<void, std::string> ManualSas::apply(const config::Config& wanted, Plan plan,
                                                  Instant now) {
  if (auto done = install(wanted, plan, now); !done) return done;
  settle(wanted);
  return {};
}

/// The one of its name and direction.
ManualSas::Standing* ManualSas::find(const config::ManualSa& wanted) {
  const auto found = std::ranges::find_if(standing_, [&](const Standing& standing) {
    return standing.configured.name == wanted.name &&
           standing.configured.direction == wanted.direction;
  });
  return found == standing_.end() ? nullptr : &*found;
}

/// Reads the keys. What stays is marked as such.
std::expected<ManualSas::Plan, std::string> ManualSas::compare(const config::Config& config) {
  Plan additions;
  for (Standing& standing : standing_) standing.stays = false;
  for (std::size_t place = 0; place < config.manual_sas.size(); ++place) {
    const config::ManualSa& wanted = config.manual_sas[place];
    auto request = install_request(wanted, channel::SaId{kFirstManualId + made_ + place});
    if (!request) return Failure(request.error());
    Addition addition;
    addition.request = *request;
    request->key.wipe();
    const std::array<crypto::Bytes, 1> pieces{addition.request.key.view()};
    addition.key = crypto::ike::sha256(pieces);
    addition.place = place;
    Standing* const standing = find(wanted);
    if (standing != nullptr && same_manual_sa(standing->configured, wanted) &&
        standing->key == addition.key) {
      standing->stays = true;
    } else {
      additions.push_back(std::move(addition));
    }
  }
  return additions;
}

/// What the SAD would refuse; nullopt: nothing. What stands and is to go is in nobody's way.
std::optional<std::string> ManualSas::why_not(const config::ManualSa& wanted,
                                              const channel::InstallSa& request) {
  if (auto problem = associations_.why_not_manual(request)) return title(wanted) + *problem;
  if (!tables_.sad->supports(request.suite)) {
    return title(wanted) + request.suite.name() + " is none that this machine's engine has";
  }
  if (request.direction == channel::Direction::out) return std::nullopt;
  const SaRecord* const bears_it = tables_.sad->find_inbound(request.spi);
  const bool goes = bears_it != nullptr && std::ranges::any_of(standing_, [&](const auto& one) {
                      return one.id == bears_it->spec.sa && !one.stays;
                    });
  const bool is_taken = bears_it != nullptr
                            ? !goes
                            : tables_.sad->is_expected(static_cast<std::uint32_t>(request.spi));
  if (!is_taken) return std::nullopt;
  return title(wanted) + "its SPI is that of another inbound SA at the moment; choose another one";
}

std::optional<std::string> ManualSas::lacks_room(const Plan& additions) const {
  for (const channel::Direction direction : {channel::Direction::in, channel::Direction::out}) {
    const auto wanted = std::ranges::count(
        additions, direction, [](const Addition& addition) { return addition.request.direction; });
    if (std::cmp_greater(wanted, tables_.sad->free_slots(direction))) {
      return "no room for " + std::to_string(wanted) +
             " manual SAs more; raise dataplane.limits.sas (a restart) or try again in a moment";
    }
  }
  return std::nullopt;
}

/// Under the same key and SPI numbers never go back, whatever else of an SA changes: packets that
/// were received would be taken again, the peer would take ours for such (RFC 4303 §3.4.3), and an
/// IV could come twice (RFC 4106 §3.1).
std::uint64_t ManualSas::first_sequence(const config::ManualSa& wanted,
                                        const Addition& addition) const {
  std::uint64_t first = wanted.first_sequence;
  for (const Standing& before : standing_) {
    if (before.key != addition.key || before.configured.spi != wanted.spi ||
        before.configured.direction != wanted.direction) {
      continue;
    }
    const SaRecord* const record = tables_.sad->find(before.id);
    if (record == nullptr) continue;
    const std::uint64_t room = is_inbound(wanted) ? 0 : kSentMeanwhile;
    first = std::max(first, tables_.sad->usage(*record).sequence + room + 1);
  }
  return wanted.esn ? first : std::min<std::uint64_t>(first, 0xffffffff);
}

/// An inbound SA has its SPI for itself: one that is replaced under the same one ends first.
void ManualSas::make_way(const channel::InstallSa& request) {
  if (request.direction == channel::Direction::out) return;
  const SaRecord* const bears_it = tables_.sad->find_inbound(request.spi);
  if (bears_it == nullptr) return;
  const channel::SaId gone = bears_it->spec.sa;
  associations_.remove_manual(gone);
  std::erase_if(standing_, [&](const Standing& standing) { return standing.id == gone; });
}

std::expected<void, std::string> ManualSas::install(const config::Config& config, Plan& additions,
                                                    Instant now) {
  // Those that stand in nobody's place first: they can be taken back.
  std::ranges::stable_partition(additions, [&](const Addition& addition) {
    return addition.request.direction == channel::Direction::out ||
           tables_.sad->find_inbound(addition.request.spi) == nullptr;
  });
  std::vector<Standing> made;
  for (const Addition& addition : additions) {
    const config::ManualSa& wanted = config.manual_sas[addition.place];
    config::ManualSa continued = wanted;
    continued.first_sequence = first_sequence(wanted, addition);
    make_way(addition.request);
    const auto slot = associations_.install_manual(addition.request, continued, now);
    if (!slot) {
      for (const Standing& one : made) associations_.remove_manual(one.id);
      return Failure(title(wanted) + slot.error());
    }
    made.push_back({wanted, addition.request.sa, *slot, addition.key, true});
  }
  made_ += config.manual_sas.size();
  std::ranges::move(made, std::back_inserter(standing_));
  return {};
}

/// Their policies in the order of the file; what does not stay waits for `remove_replaced`.
void ManualSas::settle(const config::Config& config) {
  std::erase_if(standing_, [&](const Standing& standing) {
    if (!standing.stays) replaced_.push_back(standing.id);
    return !standing.stays;
  });
  std::vector<ManualPolicy> policies;
  for (const config::ManualSa& wanted : config.manual_sas) {
    Standing& standing = *find(wanted);
    standing.configured = wanted;
    if (is_inbound(wanted)) continue;
    policies.push_back({wanted.id, standing.slot, wanted.local_ts, wanted.remote_ts});
  }
  policies_.set_manual(std::move(policies));
}

void ManualSas::remove_replaced() {
  for (const channel::SaId sa : std::exchange(replaced_, {})) associations_.remove_manual(sa);
}

}  // namespace culvert::dataplane::control
