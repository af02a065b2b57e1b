// What does not fit: cut into fragments, announced smaller, or put together again. Out of line, for
// the common packet fits.
#pragma once

#include <cstdint>

#include "dataplane/worker/encapsulate.hpp"
#include "dataplane/worker/stages.hpp"

namespace culvert::dataplane {

/// The largest outer packet of an SA on its way to `next_hop`.
[[nodiscard]] inline std::uint16_t path_mtu_of(const OutboundSa& sa, const Adjacency& next_hop) {
  // Relaxed: a worker that hears of it a burst later sends a burst more that does not arrive.
  return std::min(next_hop.mtu(), sa.details->path_mtu.load(std::memory_order_relaxed));
}

/// IPv4 without DF; IPv6 may be cut by its source only (RFC 8200 §4.5).
[[nodiscard]] inline bool may_be_cut(const std::uint8_t* ip) {
  return (ip[0] >> 4U) == 4 &&
         (wire::load_u16(ip + wire::ipv4::kFragment) & wire::ipv4::kDontFragment) == 0;
}

// cut.cpp
/// Fragments of the packet at a position, `bytes` long, that fit `mtu`, go on as `like` says; the
/// packet itself ends. When it cannot be cut or there is no buffer it is dropped with the reason.
void cut_packet(WorkerState& worker, Burst& burst, std::uint32_t position, std::uint16_t bytes,
                std::uint16_t mtu, PendingPacket like);

/// Behind one that was cut, whose pieces are pending: it goes on behind them, as `like` says, for
/// it may be of the same flow. False: there is no room, it goes on now.
[[nodiscard]] bool wait_for_pieces(WorkerState& worker, const Burst& burst, std::uint32_t position,
                                   std::uint16_t bytes, PendingPacket like);
[[nodiscard]] inline std::uint64_t bit_of(SlotIndex slot) {
  return std::uint64_t{1} << (raw(slot) % 64);
}

/// Whether a packet that does not fit its SA's path is cut before it is sealed.
[[nodiscard]] bool is_cut_before_seal(const Burst& burst, std::uint32_t position,
                                      const OutboundSa& sa);

/// How a packet that does not fit its SA's path goes on.
enum class TooBig : std::uint8_t {
  ended,           ///< cut before encryption, or its sender was told
  cut_after_seal,  ///< it is sealed whole, then cut to `mtu`
};
/// RFC 4301 §8: before or after encryption by the SA's option, or ICMP to the sender.
[[nodiscard]] TooBig handle_too_big(WorkerState& worker, Burst& burst, std::uint32_t position,
                                    const OutboundSa& sa, const OuterHeader& outer,
                                    std::uint16_t mtu);
/// Sealed packets that `handle_too_big` let pass, and their path's MTU.
void cut_sealed(WorkerState& worker, Burst& burst);

// clamp_mss.cpp
/// Whether a packet is a TCP SYN whose MSS may be clamped.
[[nodiscard]] inline bool is_tcp_syn(const std::uint8_t* ip, const wire::IpHeader& header) {
  constexpr std::size_t kFlags = 13, kLeast = 20;
  constexpr std::uint8_t kSyn = 2;
  return header.protocol == wire::protocol::kTcp && !header.is_fragment &&
         header.payload_bytes() >= kLeast && (ip[header.payload_offset + kFlags] & kSyn) != 0;
}
/// A SYN that goes into the tunnel of `outbound`, or (kNoSlot) may have come out of one: it
/// announces no larger segments than fit through the tunnel in its path's MTU, in either direction.
void clamp_syn(WorkerState& worker, const SpdSnapshot& policies, const Burst& burst,
               std::uint32_t position, SlotIndex outbound);

// gather.cpp
/// Fragments of one packet that came in clear meet at one worker. False: another one goes on with
/// this fragment, or, on its way there, it was dropped in `direction`.
[[nodiscard]] bool fragments_meet_here(WorkerState& worker, Burst& burst, std::uint32_t position,
                                       DropDirection direction);
/// A fragment for us: kept until its packet is whole, which then goes on like one that came whole.
void gather(WorkerState& worker, Burst& burst, std::uint32_t position);
/// What is pending, in bursts of its own, until nothing is; fragments that waited too long end.
void serve_pending(WorkerState& worker, Burst& burst, void (*process)(WorkerState&, Burst&));
/// All that waits ends: the worker stops.
void drop_pending(WorkerState& worker);

}  // namespace culvert::dataplane
