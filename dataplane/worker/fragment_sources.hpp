// Whose packets wait for more of their fragments, so that who has most gives way. No step looks
// over more than the sources, which are no more than the packets, and their numbers stand side by
// side: a flood of fragments costs what other packets do. Worker-local; pure.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace culvert::dataplane {

class FragmentSources {
 public:
  static constexpr std::size_t kPackets = 64;

  /// `packet`, an index below kPackets that is not here, is the newest of its source, `name`.
  void begin(std::size_t packet, std::uint64_t name);
  /// Precondition: it is here.
  void end(std::size_t packet);
  void set_pieces(std::size_t packet, std::uint8_t pieces);

  /// Of the source that has most packets the one that began first; of several such sources the one
  /// that began first of all. Precondition: there is one.
  [[nodiscard]] std::size_t first_of_most_packets() const;
  /// The same by pieces; `newcomer` counts for nothing. Packets without pieces do not free any.
  /// Precondition: another one has pieces.
  [[nodiscard]] std::size_t first_of_most_pieces(std::size_t newcomer) const;

 private:
  static constexpr std::uint8_t kNone = kPackets;
  static_assert(kPackets == 64, "a bit for each source");

  struct Source {
    std::uint64_t name = 0;
    std::uint64_t first_begun = 0;  ///< when `first` began, by number
    std::uint32_t packets = 0, pieces = 0;
    std::uint8_t first = kNone, last = kNone;  ///< of its packets, in the order of their beginning
  };
  /// Between the others of its source.
  struct Packet {
    std::uint64_t begun = 0;  ///< by number: packets of one burst begin at one time
    std::uint8_t source = 0, pieces = 0;
    std::uint8_t before = kNone, behind = kNone;
  };
  [[nodiscard]] std::size_t source_of(std::uint64_t name);

  std::uint64_t used_ = 0;  ///< a bit for each source that has packets
  std::uint64_t begun_ = 0;
  std::array<Source, kPackets> sources_;
  std::array<Packet, kPackets> packets_;
};

}  // namespace culvert::dataplane
