// connections: how IKE's own messages find their way to the peer.
#include <array>

#include "config/limits.hpp"
#include "config/scalars.hpp"
#include "config/sections.hpp"

namespace culvert::config {

void read_path(MapReader& map, Connection& connection) {
  static constexpr std::array kFragmentation{Word<Fragmentation>{"yes", Fragmentation::yes},
                                             Word<Fragmentation>{"accept", Fragmentation::accept},
                                             Word<Fragmentation>{"no", Fragmentation::no},
                                             Word<Fragmentation>{"true", Fragmentation::yes},
                                             Word<Fragmentation>{"false", Fragmentation::no}};
  set(connection.fragmentation, read_choice(map.take("fragmentation"), kFragmentation));
  static constexpr std::array kMobike{
      Word<Mobike>{"accept", Mobike::accept}, Word<Mobike>{"yes", Mobike::yes},
      Word<Mobike>{"no", Mobike::no}, Word<Mobike>{"true", Mobike::yes},
      Word<Mobike>{"false", Mobike::no}};
  static constexpr std::array kChildless{
      Word<Childless>{"allow", Childless::allow}, Word<Childless>{"prefer", Childless::prefer},
      Word<Childless>{"force", Childless::force}, Word<Childless>{"never", Childless::never}};
  const Field mobike = map.take("mobike");
  set(connection.mobike, read_choice(mobike, kMobike));
  if (mobike.present() && connection.mobike == Mobike::yes &&
      connection.encapsulation == Encapsulation::never) {
    mobike.error({"\"yes\" beside encap: no", "mobike with encap: auto or yes",
                  "MOBIKE needs NAT detection (RFC 4555 §3.3); remove encap"});
  }
  set(connection.childless, read_choice(map.take("childless"), kChildless));
  static constexpr std::array kSwitch{Word<bool>{"yes", true}, Word<bool>{"no", false},
                                      Word<bool>{"true", true}, Word<bool>{"false", false}};
  const Field ppk = map.take("ppk_id");
  if (ppk.present()) set(connection.ppk_id, read_name(ppk, limits::kIdentityBytes));
  set(connection.ppk_required, read_choice(map.take("ppk_required"), kSwitch));
  const Field reauth = map.take("reauth_time");
  set(connection.reauth_time, read_duration(reauth));
  if (reauth.present() && connection.reauth_time.count() != 0 &&
      connection.reauth_time < limits::kRekeyShort) {
    reauth.warning({describe(reauth), "at least 60s", "a new handshake this often is for tests"});
  }
  const Field size = map.take("fragment_size");
  const auto bytes =
      read_number(size, {limits::kFragmentSizeMin, limits::kFragmentSizeMax, "bytes"});
  if (!bytes) return;
  connection.fragment_size = static_cast<std::uint32_t>(*bytes);
  if (connection.fragment_size < limits::kFragmentSizeShort) {
    size.warning({describe(size), "at least 576 bytes",
                  "every path carries 576, with IPv6 1280; smaller ones are for tests"});
  }
}

}  // namespace culvert::config
