// A child SA as the key daemon knows it: a pair of SAs in the data plane and what was negotiated.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "channel/messages.hpp"
#include "ike/machine/machine.hpp"
#include "wire/traffic_selector.hpp"

namespace culvert::ike {

enum class ChildState : std::uint8_t {
  installed,
  rekeying,  ///< our CREATE_CHILD_SA that replaces it is on its way
  replaced,  ///< another pair took over; waits for its Delete
  deleting,  ///< our Delete is on its way
};
/// What of the peer's, on its IKE SA, shows that our answer which made a child has arrived.
/// RFC 7296 §2.3: with a window of 1 its next request waits for that answer.
enum class Proof : std::uint8_t {
  none,
  request,  ///< its next request
  message,  ///< any message: it has the IKE SA itself by the same answer
  answer,   ///< the same, and we have asked for one
};
/// Named by the SaId of its inbound half.
struct ChildSa {
  channel::SaId inbound_sa{}, outbound_sa{};
  channel::Spi inbound_spi{}, outbound_spi{};
  config::ChildId child_id{};  ///< whose SA pair it is
  std::uint64_t ike_spi = 0;   ///< our SPI of the IKE SA it belongs to
  ChildState state = ChildState::installed;
  bool made_by_us = false;      ///< we began the exchange that made it
  bool outdated = false;        ///< the configuration changed: goes when its successor stands
  bool redundant = false;       ///< lost a collision: never carries our traffic
  channel::SaId replaced_by{};  ///< inbound SaId of its successor, 0: none
  Instant created{};
  Instant switch_at{};  ///< responder: outbound moves here then; 0: not planned
  Proof proof{};        ///< that it may move sooner
  std::uint64_t soft_seconds = 0, hard_seconds = 0;
  crypto::EspSuite suite;
  crypto::Group pfs_group = crypto::Group::none;
  bool esn = false, transport = false, udp_encapsulation = false;
  bool replaces = false;            ///< made by a rekey
  bool lease_left = false;          ///< its inbound SA was refused: the SPI is still leased
  bool transport_declined = false;  ///< the peer asked for transport mode, ours is tunnel
  std::optional<Failure> notice;    ///< up, but not as configured
  std::string notice_detail;
  std::vector<wire::TrafficSelector> local_selectors, remote_selectors;
  channel::PolicyId policy{};  ///< that sends on it; 0: none
  bool made_room = false;      ///< there was no room for its policy, and it was asked for again
  Instant rehearse_at{};       ///< its first rekey is tried then; 0: not planned
  /// Keys of the halves that the data plane has not confirmed: whoever resumes installs them again.
  crypto::SecretBytes unconfirmed_in, unconfirmed_out;
};
/// What the data plane was asked for a child and has not answered for: to install half of it, or a
/// policy that sends on it, or to let one send on it that is there.
struct Installation {
  channel::RequestType kind{};
  channel::SaId sa{};
  channel::Spi inbound_spi{};  ///< leased until it stands; 0: not the inbound half
  channel::PolicyId policy{};
  config::ChildId child_id{};
};

}  // namespace culvert::ike
