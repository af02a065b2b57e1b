// Associations' part in dummy packets (RFC 4303 §2.6): which SAs send them, how many and how large.
#include <algorithm>
#include <array>
#include <utility>

#include <rte_cycles.h>

#include "config/limits.hpp"
#include "dataplane/control/associations.hpp"
#include "dataplane/control/packets.hpp"
#include "dataplane/tables/sa.hpp"
#include "dataplane/worker/encapsulate.hpp"
#include "runtime/log.hpp"

namespace culvert::dataplane::control {
namespace {

/// Of all SAs, whether a turn is used or not: a child may be of many peers. Twice what may be sent,
/// for an SA and the one that it is rekeyed to.
constexpr std::uint64_t kMostTurns = 2ULL * config::limits::kDummyPacketsTotal;

/// Whether an SA may send a packet of so many bytes more: a dummy is never what is refused at a
/// limit.
bool is_within_limits(const channel::InstallSa& spec, const SaUsage& usage, std::size_t bytes) {
  const channel::Lifetime& limits = spec.lifetime;
  constexpr std::uint64_t kLastNumber = 0xffffffff;
  return (limits.hard_packets == 0 || usage.packets < limits.hard_packets) &&
         (limits.hard_bytes == 0 || usage.bytes + bytes <= limits.hard_bytes) &&
         (spec.esn || usage.sequence < kLastNumber);
}

}  // namespace

void Associations::schedule_dummies(const channel::InstallSa& request, const SaSettings& settings,
                                    Instant now) {
  const config::HeaderOptions& headers = settings.headers;
  const config::DummyPackets& wanted = headers.dummy_packets;
  if (request.direction == channel::Direction::in || wanted.per_second == 0) return;
  const DummySource source{.sa = request.sa,
                           .apart = Instant{std::chrono::seconds{1}} / wanted.per_second,
                           .bytes = wanted.bytes != 0 ? wanted.bytes : headers.tfc_padding,
                           .seen = settings.first_sequence - 1};
  if (dummies_.add(source, now, kMostTurns) || std::exchange(dummies_bounded_, true)) return;
  runtime::log(runtime::Level::warning, "dummy_packets_bounded",
               {{"turns_a_second", kMostTurns},
                {"effect", "SAs beyond send no dummy packets"},
                {"remedy", "lower dummy_packets.per_second of children that many peers share"}});
}

void Associations::send_dummies(Packets& packets, Instant now) {
  dummies_.run(now, [&](DummySource& source, std::uint64_t turns) {
    const SaRecord* const record = tables_.sad->find(source.sa);
    if (record == nullptr || !is_live(*record)) return false;
    // Of a child's SAs the one that its traffic takes: not before it is switched to, nor after.
    const bool is_current =
        tables_.spd->names(record->slot) && tables_.sad->end_of(*record) > rte_get_tsc_cycles();
    if (is_current) fill_turns(packets, *record, source, turns, now);
    return true;
  });
}

void Associations::fill_turns(Packets& packets, const SaRecord& record, DummySource& source,
                              std::uint64_t turns, Instant now) {
  constexpr Rate kOfAll{config::limits::kDummyPacketsTotal,
                        config::limits::kDummyPacketsTotal / 100.0};
  SaUsage usage = tables_.sad->usage(record);
  const std::uint64_t before = usage.sequence;
  for (std::uint64_t left = source.missing(turns, before); left != 0; --left) {
    if (!dummy_rate_.take(kOfAll, now)) break;
    const std::size_t bytes = dummy_bytes(packets, record, source);
    if (bytes == 0 || !is_within_limits(record.spec, usage, bytes)) break;
    if (!send_dummy(packets, record, bytes)) break;
    ++usage.sequence;
    ++usage.packets;
    usage.bytes += bytes;
  }
  source.seen = usage.sequence;
}

/// As large as is wanted and as a packet may be that leaves whole; 0: it would have nowhere to go.
std::size_t Associations::dummy_bytes(const Packets& packets, const SaRecord& record,
                                      const DummySource& source) {
  const wire::IpAddress& remote = record.spec.remote.address;
  const Adjacency& next_hop = (*tables_.adjacencies)[tables_.fib->lookup(remote)];
  const std::uint16_t mtu = std::min(next_hop.mtu(), tables_.sad->path_mtu(record));
  const OutboundSa& sa = *tables_.sad->outbound(record.slot);
  wire::IpHeader header;
  header.payload_offset = static_cast<std::uint16_t>(dummy_header_bytes(remote.family));
  const std::size_t most = std::min<std::size_t>(
      {mtu_inside(sa, sa.outer(), header, mtu), packets.most_bytes(), config::limits::kMtuMax});
  if (most < config::limits::kDummyBytesMin) return 0;
  if (source.bytes == 0) return dummies_.random_size(config::limits::kDummyBytesMin, most);
  return std::clamp<std::size_t>(source.bytes, config::limits::kDummyBytesMin, most);
}

bool Associations::send_dummy(Packets& packets, const SaRecord& record, std::size_t bytes) {
  std::array<std::uint8_t, config::limits::kMtuMax> memory;
  const wire::MutableBytes text = wire::MutableBytes(memory).first(bytes);
  write_dummy(text, record.spec.local.address, record.spec.remote.address);
  Packet packet = packets.make(text);
  if (!packet) return false;
  packets.seal_dummy(std::move(packet), record.slot, record.spec.sa);
  return true;
}

}  // namespace culvert::dataplane::control
