// Fragments back to packets (RFC 791 §3.2, RFC 8200 §4.5), in bounded memory and time: where there
// is no room, of the source that takes most the packet that began first gives way: whose fragments
// come close together are put together whatever others begin and never end, and a source that
// floods displaces its own. Fragments that overlap end their packet (RFC
// 5722 §4). Only what is for us is put together: ESP and IKE that a router cut on its way. The
// first fragment of a packet that is not whole in time is handed back, for its source is to be
// told. Worker-local. The bytes of a fragment stay where they are until its packet is whole;
// `rte_mbuf` is only a name here.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <span>

#include "dataplane/tables/drop_reason.hpp"
#include "dataplane/tables/ids.hpp"
#include "dataplane/tables/spd.hpp"
#include "dataplane/worker/fragment_sources.hpp"
#include "wire/cursor.hpp"
#include "wire/ip.hpp"

struct rte_mbuf;

namespace culvert::dataplane {

/// A fragment as it was received. `packet` begins at its IP header and is `header.total_bytes`
/// long.
struct Fragment {
  rte_mbuf* buffer = nullptr;
  const std::uint8_t* packet = nullptr;
  wire::IpHeader header;
  PacketOrigin origin = PacketOrigin::clear;
  PortId received_on{};
};

/// What is known of a fragment's place; the key of the packet that it is part of.
struct FragmentPlace {
  wire::IpAddress source, destination;
  std::uint32_t identification = 0;
  std::uint8_t protocol = 0;  ///< IPv4 only: RFC 8200 §4.5 has it not in the key
  std::uint8_t next_header = 0;
  PacketOrigin origin = PacketOrigin::clear;
  bool is_last = false;
  std::uint16_t head_bytes = 0;  ///< headers in front of the fragment's data, IPv6's 8 not counted
  std::uint32_t offset = 0;      ///< bytes
  std::uint16_t data_at = 0;     ///< where the fragment's data begins
  std::uint16_t data_bytes = 0;

  /// What came through an SA is authentic: nothing that came in clear is put beside it.
  [[nodiscard]] bool same_packet(const FragmentPlace& other) const {
    return identification == other.identification && protocol == other.protocol &&
           origin == other.origin && source == other.source && destination == other.destination;
  }
};
/// Tells most packets apart by their keys; never 0.
[[nodiscard]] std::uint32_t name_of(const FragmentPlace& place);
/// The error is why it cannot be a fragment of anything.
[[nodiscard]] std::expected<FragmentPlace, DropReason> place_of(const Fragment& fragment);

class Reassembler {
 public:
  static constexpr std::size_t kPackets = FragmentSources::kPackets;  ///< put together at once
  static constexpr std::size_t kFragments = 48;  ///< of one packet: 64 KiB in pieces of 1400
  static constexpr std::size_t kBuffers = 1024;  ///< held in all

  /// Added to every `now`: a test's time goes by itself.
  std::uint64_t clock_ahead = 0;
  /// For others who have to do with fragments.
  [[nodiscard]] std::uint64_t time_at(std::uint64_t now) const { return now + clock_ahead; }

  /// `lifetime`: what RFC 791 §3.2 calls the reassembly timer, in the units of `now`.
  explicit Reassembler(std::uint64_t lifetime);

  /// A buffer that has ended, with the reason; none: its bytes went into a whole packet.
  struct Ended {
    rte_mbuf* buffer;
    DropReason reason;
    bool is_merged;
  };
  enum class Outcome : std::uint8_t { held, whole, refused };

  /// Takes the fragment over. `whole`: `write` gives the packet, then `ended` names all its
  /// buffers, beside those of packets that gave way to it. Buffers in `ended` and `overdue` are the
  /// caller's again; it empties the lists before the next call.
  Outcome accept(const Fragment& fragment, std::uint64_t now);
  /// Length of the packet that `accept` found whole.
  [[nodiscard]] std::size_t whole_bytes() const;
  /// Writes it, without fragment header, lengths and checksum right, and ends its buffers: how
  /// many.
  std::size_t write(wire::MutableBytes out);
  /// Ends it with a reason: there is no room for it.
  void give_up(DropReason reason);
  /// Ends what is older than its lifetime. Call now and then.
  void expire(std::uint64_t now);
  /// Ends everything.
  void clear(DropReason reason);

  [[nodiscard]] std::span<const Ended> ended() const { return {ended_.data(), ended_count_}; }
  /// First fragments of packets whose lifetime was over, their sources not told yet.
  [[nodiscard]] std::span<const Fragment> overdue() const {
    return {overdue_.data(), overdue_count_};
  }
  void forget_ended() { ended_count_ = overdue_count_ = 0; }
  [[nodiscard]] std::size_t held() const { return held_; }

 private:
  struct Piece {
    Fragment fragment;
    std::uint16_t offset_words = 0;  ///< in units of 8 bytes, as on the wire
    std::uint16_t data_at = 0, data_bytes = 0;
    [[nodiscard]] std::uint32_t begin() const { return std::uint32_t{offset_words} * 8U; }
    [[nodiscard]] std::uint32_t end() const { return begin() + data_bytes; }
  };
  struct Partial {
    FragmentPlace key;  ///< of the first piece that came; head of the one at offset 0
    std::uint32_t total = 0;  ///< bytes of data; 0: the last fragment is not there
    std::uint32_t have = 0;
    std::uint16_t count = 0;
    bool is_refused = false;  ///< what still comes of it is refused (RFC 5722 §4)
    DropReason refused_for{};
    std::array<Piece, kFragments> pieces;  ///< by offset
  };

  [[nodiscard]] std::size_t index_of(const Partial& partial) const {
    return static_cast<std::size_t>(&partial - partials_->data());
  }
  [[nodiscard]] bool is_used(std::size_t index) const { return names_[index] != 0; }
  /// Of the packet with this key, kPackets: it is not here.
  [[nodiscard]] std::size_t index_of(const FragmentPlace& place, std::uint32_t name) const;
  Partial& partial_for(const FragmentPlace& place, std::uint64_t now);
  void vacate(Partial& partial);
  void give_way(Partial& partial, std::uint64_t now);
  void time_out(Partial& partial);
  void make_room_for(const Partial& newcomer, std::uint64_t now);
  Outcome refuse(Partial& partial, const Fragment& fragment, DropReason reason);
  static bool is_same(const Piece& piece, const Piece& other);
  static unsigned ecn_fields_of(const Partial& partial);
  void end(rte_mbuf* buffer, DropReason reason, bool is_merged = false);
  void end_pieces(Partial& partial, DropReason reason, bool is_merged = false,
                  std::size_t first = 0);

  std::uint64_t lifetime_;
  std::unique_ptr<std::array<Partial, kPackets>> partials_;
  /// Beside the packets: what is looked through for each fragment. 0: there is none.
  std::array<std::uint32_t, kPackets> names_{};
  std::array<std::uint64_t, kPackets> deadlines_{};  ///< TSC
  FragmentSources sources_;
  std::size_t held_ = 0;
  std::size_t whole_ = 0;  ///< which one `accept` found whole
  std::array<Ended, kBuffers + kFragments> ended_;
  std::size_t ended_count_ = 0;
  std::array<Fragment, kPackets> overdue_;
  std::size_t overdue_count_ = 0;
};

}  // namespace culvert::dataplane
