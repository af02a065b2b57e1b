#include "dataplane/control/manual_sas.hpp"

#include <algorithm>
#include <limits>
#include <map>
#include <utility>

#include "dataplane/tables/sa.hpp"
#include "runtime/log.hpp"

namespace culvert::dataplane::control {
namespace {

constexpr std::uint64_t kFirstManualId = (std::uint64_t{channel::kManualSaIds} << 32U) + 1;
constexpr std::uint16_t kUdpEncapsulationPort = 4500;
/// Numbers left to an outbound SA until workers meet the policies that name its successor, which
/// come into force next.
constexpr std::uint64_t kSentMeanwhile = 1U << 17U;
/// SAs remembered for each that there can be, and at least so many: years of one that comes and
/// goes with another key each day.
constexpr std::size_t kRememberedPerSlot = 8, kRememberedAtLeast = 65536;

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
  // Made where the caller has it, and returned by each return: a copy's key would not be wiped.
  std::expected<channel::InstallSa, std::string> made;
  const auto refused = [&](const std::string& problem) { made = std::unexpected(name + problem); };
  channel::InstallSa& request = *made;
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
    refused("more than " + std::to_string(channel::kMaxSelectors) + " selectors on a side");
    return made;
  }
  const auto key = config::read_key(sa.key_file);
  if (!key) {
    refused(key.error());
  } else if (key->size() != sa.suite.keymat_bytes()) {
    refused(sa.key_file + " holds " + std::to_string(key->size()) + " bytes, " + sa.suite.name() +
            " needs " + std::to_string(sa.suite.keymat_bytes()) +
            " (cipher key, salt, integrity key)");
  } else if (!request.key.assign(key->view())) {
    refused("its key is too long");
  }
  return made;
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

ManualSas::ManualSas(Tables& tables, Associations& associations, PolicyBook& policies)
    : tables_(tables),
      associations_(associations),
      policies_(policies),
      keys_(*random_,
            std::max(kRememberedAtLeast, kRememberedPerSlot * std::size_t{tables.sad->slots()})) {}

std::expected<ManualSas::Plan, std::string> ManualSas::plan(const config::Config& wanted) {
  auto additions = compare(wanted);
  if (!additions) return additions;
  remember_leaving();
  std::map<Digest, std::uint32_t> begun;
  for (const Addition& addition : *additions) {
    const config::ManualSa& sa = wanted.manual_sas[addition.place];
    if (auto problem = why_not(sa, addition)) return Failure(std::move(*problem));
    if (!is_inbound(sa) && ++begun[addition.key] > keys_.places_left(addition.key)) {
      return Failure(title(sa) +
                     "65536 outbound SAs have begun under this key, and the IVs of one "
                     "more would come again: write a new key into " +
                     sa.key_file);
    }
  }
  if (auto problem = lacks_room(*additions)) return Failure(std::move(*problem));
  for (Addition& addition : *additions) {
    addition.expanded = std::make_unique<crypto::esp::ExpandedKey>();
    const auto done = tables_.sad->expand(addition.request, *addition.expanded);
    if (done) continue;
    return Failure(title(wanted.manual_sas[addition.place]) +
                   "the machine's engine does not take its key (" +
                   std::string(channel::to_string(done.error())) + ")");
  }
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
    addition.key = keys_.digest(addition.request.key.view());
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
                                              const Addition& addition) {
  const channel::InstallSa& request = addition.request;
  if (auto problem = associations_.why_not_manual(request)) return title(wanted) + *problem;
  if (const auto goes_on = continued(wanted, addition.key); !goes_on) return goes_on.error();
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
  if (!keys_.has_room(standing_.size() + replaced_.size() + additions.size())) {
    return "so many manual SAs have come and gone since the start that no more can be remembered, "
           "and none may begin its sequence numbers anew: restart culvert-dataplane, with fresh "
           "keys";
  }
  return std::nullopt;
}

ManualKeys::Use ManualSas::use_of(const config::ManualSa& sa, const Digest& key) {
  return {key, is_inbound(sa) ? channel::Direction::in : channel::Direction::out,
          channel::Spi{sa.spi}};
}

/// How far those have come by now that are to go: who comes may take their place.
void ManualSas::remember_leaving() {
  const auto remember = [&](const Standing& one) {
    const SaRecord* const record = one.stays ? nullptr : tables_.sad->find(one.id);
    if (record == nullptr) return;
    keys_.used(use_of(one.configured, one.key), tables_.sad->usage(*record).sequence);
  };
  std::ranges::for_each(standing_, remember);
  std::ranges::for_each(replaced_, remember);
}

/// Waits until no worker has one of them any more, an iteration of theirs at most: what they have
/// received and sent until then is remembered, too.
void ManualSas::take_out(const std::vector<Standing>& leaving) {
  for (const Standing& standing : leaving) {
    associations_.remove_manual(standing.id, [&](const LastNumbers& last) {
      keys_.used(use_of(standing.configured, standing.key), last.highest);
    });
  }
  if (!leaving.empty()) tables_.reclaimer->drain();
}

/// Under the same key and SPI numbers never go back, whatever else of an SA changes and however
/// long it was away: packets that were received would be taken again, and the peer would take ours
/// for such (RFC 4303 §3.4.3).
std::uint64_t ManualSas::first_sequence(const config::ManualSa& wanted, const Digest& key) const {
  const std::uint64_t* const highest = keys_.highest(use_of(wanted, key));
  if (highest == nullptr) return wanted.first_sequence;
  const std::uint64_t room = is_inbound(wanted) ? 0 : kSentMeanwhile;
  return std::max(wanted.first_sequence, *highest + room + 1);
}

/// As it is to begin. RFC 4303 §3.3.3: numbers do not cycle.
std::expected<config::ManualSa, std::string> ManualSas::continued(const config::ManualSa& wanted,
                                                                  const Digest& key) const {
  config::ManualSa sa = wanted;
  sa.first_sequence = first_sequence(wanted, key);
  if (sa.esn || sa.first_sequence <= 0xffffffff) return sa;
  return Failure(title(wanted) +
                 "the sequence numbers under this key and SPI are used up: write a new key into " +
                 wanted.key_file + ", or esn: true at both ends");
}

/// An inbound SA has its SPI for itself: one that is replaced under the same one ends first, and is
/// waited for, so that its successor knows all that it has received (RFC 4303 §3.4.3). The
/// successor's packets wait meanwhile, as many as an EarlyQueue takes at each worker and none where
/// the SA is not at its SPI's place; at a higher rate the rest is dropped, counted.
LastNumbers ManualSas::make_way(const Addition& addition) {
  LastNumbers last;
  if (addition.request.direction == channel::Direction::out) return last;
  const SaRecord* const bears_it = tables_.sad->find_inbound(addition.request.spi);
  if (bears_it == nullptr) return last;
  const auto goes = std::ranges::find(standing_, bears_it->spec.sa, &Standing::id);
  if (goes == standing_.end()) return last;  // why_not has seen that there is none
  const Standing before = *goes;
  standing_.erase(goes);
  associations_.remove_for_successor(before.id, [&](const LastNumbers& its) { last = its; });
  tables_.reclaimer->drain();
  keys_.used(use_of(before.configured, before.key), last.highest);
  return before.key == addition.key ? last : LastNumbers{};
}

/// What comes, and what it comes behind, by the key and SPI that they send under.
ManualSas::Successions ManualSas::successions() {
  Successions of;
  for (Standing& standing : standing_) {
    if (std::exchange(standing.has_begun, true) || is_inbound(standing.configured)) continue;
    of[use_of(standing.configured, standing.key)].coming.push_back(&standing);
  }
  for (const Standing& standing : replaced_) {
    const auto found = of.find(use_of(standing.configured, standing.key));
    const SaRecord* const record = found == of.end() ? nullptr : tables_.sad->find(standing.id);
    if (record != nullptr) found->second.leaving.push_back(record);
  }
  return of;
}

/// Those before go on sending until workers meet the policies that name their successors: up to
/// where the first of these begins and no further (RFC 4303 §3.3.3), however long that takes. IVs
/// begin where they were to begin or, by as many as were sent meanwhile, behind that: their place
/// is far larger (ManualKeys::take_iv_start).
void ManualSas::begin_behind_others(const ManualKeys::Use& use, const Succession& of) {
  const auto may_have_come_further = [&] {
    for (const SaRecord* const record : of.leaving) {
      keys_.used(use, tables_.sad->usage(*record).sequence);
    }
    // All of them from one look: the next one might let those before send what the first begins at.
    std::uint64_t least = std::numeric_limits<std::uint64_t>::max();
    for (Standing* const standing : of.coming) {
      standing->begins_at = first_sequence(standing->configured, standing->key);
      least = std::min(least, standing->begins_at);
    }
    bool done = true;
    for (const SaRecord* const record : of.leaving) {
      done = tables_.sad->end_numbers(*record, least - 1) && done;
    }
    return !done;
  };
  while (may_have_come_further()) {
  }
  for (const Standing* const standing : of.coming) {
    if (const SaRecord* const record = tables_.sad->find(standing->id)) {
      tables_.sad->begin_behind(*record, standing->begins_at - 1);
    }
  }
}

void ManualSas::begin_numbers() {
  for (const auto& [use, of] : successions()) begin_behind_others(use, of);
}

void ManualSas::log_begun() {
  for (Standing& standing : standing_) {
    const std::uint64_t first = std::exchange(standing.begins_at, 0);
    if (first != 0) log_continued(standing.configured, first);
  }
}

void ManualSas::log_continued(const config::ManualSa& wanted, std::uint64_t first_sequence) const {
  if (first_sequence == wanted.first_sequence) return;
  runtime::log(runtime::Level::info, "manual_sa_continued",
               {{"name", wanted.name},
                {"direction", is_inbound(wanted) ? "in" : "out"},
                {"first_sequence", first_sequence},
                {"why", "this key and SPI were in use before"}});
}

std::expected<void, std::string> ManualSas::install(const config::Config& config, Plan& additions,
                                                    Instant now) {
  // Those that stand in nobody's place first: they can be taken back.
  std::ranges::stable_partition(additions, [&](const Addition& addition) {
    return addition.request.direction == channel::Direction::out ||
           tables_.sad->find_inbound(addition.request.spi) == nullptr;
  });
  remember_leaving();
  made_ += config.manual_sas.size();  // whatever comes of it, no SA's name comes again
  std::vector<Standing> made;
  for (const Addition& addition : additions) {
    const config::ManualSa& wanted = config.manual_sas[addition.place];
    auto slot = install_one(wanted, addition, now);
    if (!slot) {
      take_out(made);
      return Failure(slot.error());
    }
    made.push_back({wanted, addition.request.sa, *slot, addition.key, true});
  }
  std::ranges::move(made, std::back_inserter(standing_));
  return {};
}

std::expected<SlotIndex, std::string> ManualSas::install_one(const config::ManualSa& wanted,
                                                             const Addition& addition,
                                                             Instant now) {
  std::expected<config::ManualSa, std::string> sa = wanted;
  SaSettings settings;
  settings.expanded = addition.expanded.get();
  if (is_inbound(wanted)) {
    const LastNumbers before = make_way(addition);
    sa->first_sequence = first_sequence(wanted, addition.key);
    // What the file says is received is received.
    if (sa->first_sequence == before.highest + 1) settings.missing = before.missing;
    std::erase_if(settings.missing, [&](std::uint64_t one) { return one < wanted.first_sequence; });
  } else {
    sa = continued(wanted, addition.key);
    if (!sa) return Failure(sa.error());
    settings.iv_start = keys_.take_iv_start(addition.key, sa->first_sequence);
  }
  const auto slot = associations_.install_manual(addition.request, *sa, now, std::move(settings));
  if (!slot) return Failure(title(wanted) + slot.error());
  if (is_inbound(wanted)) log_continued(wanted, sa->first_sequence);
  return *slot;
}

/// Their policies in the order of the file; what does not stay waits for `remove_replaced`.
void ManualSas::settle(const config::Config& config) {
  std::erase_if(standing_, [&](const Standing& standing) {
    if (!standing.stays) replaced_.push_back(standing);
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
  if (replaced_.empty()) return;
  // A worker may be in an iteration that began before the policies were others.
  tables_.reclaimer->wait();
  take_out(std::exchange(replaced_, {}));
}

}  // namespace culvert::dataplane::control
