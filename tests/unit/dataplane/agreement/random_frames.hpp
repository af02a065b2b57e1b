// Frames that are not as they should be: for another station or for a group of them, of another
// type, cut short, with headers that are impossible or a wrong checksum, or with Ethernet's
// padding.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "tests/model/frame_model.hpp"
#include "tests/unit/dataplane/agreement/random_esp.hpp"
#include "tests/unit/dataplane/pipeline/gateway.hpp"

namespace culvert::test {

class RandomFrames : protected RandomEsp {
 protected:
  using RandomEsp::RandomEsp;

  /// Around a sound packet, seldom as it should not be, with tags now and then.
  Packet any_frame(const Packet& ip, unsigned device) {
    Packet made = frame(ip);
    if (one_in(24)) made = spoiled(std::move(made));
    return made.size() < model::kAddressesBytes ? made : with_tags(made, device);
  }

 private:
  static constexpr std::size_t kIp = model::kEthernetBytes;

  Packet spoiled(Packet made) {
    static const std::vector<unsigned> kTypes = {0x88cc, model::kArpType, model::kIpv4Type,
                                                 model::kIpv6Type, 0x0040};
    const bool v4 = made[kIp] >> 4U == 4;
    switch (below(9)) {
      case 0:  // for another station, or a group
        made[below(6)] ^= static_cast<std::uint8_t>(1U << below(8));
        return made;
      case 1:
        std::fill_n(made.begin(), one_in(2) ? 6 : 1, std::uint8_t{0xff});
        return made;
      case 2:
        model::set16(made, 12, any(kTypes));
        return made;
      case 3:
        made.resize(1 + below(kIp + 4));
        return made;
      case 4:
        made.resize(kIp + below(made.size() - kIp));
        return made;
      case 5:
        // Version, and an IPv4 header that is too short for one.
        made[kIp] ^= static_cast<std::uint8_t>(1U << (4 + below(4)));
        if (v4 && one_in(2)) made[kIp] = static_cast<std::uint8_t>(0x40U + below(5));
        return with_right_checksum(std::move(made));
      case 6:
        if (v4) made[kIp + 4 + below(16)] ^= static_cast<std::uint8_t>(1U << below(8));
        return made;
      case 7:
        made.resize(made.size() + 1 + below(46), 0x3c);
        return made;
      default:
        return with_other_length(std::move(made), v4);
    }
  }
  /// Shorter than the packet, or longer.
  Packet with_other_length(Packet made, bool v4) {
    const std::size_t bytes = made.size() - kIp - (v4 ? 0 : 40);
    const std::size_t other = one_in(3) ? bytes + 1 + below(100) : below(bytes + 1);
    model::set16(made, kIp + (v4 ? 2 : 4), static_cast<unsigned>(other));
    return with_right_checksum(std::move(made));
  }
  static Packet with_right_checksum(Packet made) {
    if (made[kIp] >> 4U != 4) return made;
    const std::size_t header_bytes = (made[kIp] & 0x0fU) * std::size_t{4};
    if (header_bytes < 20 || made.size() < kIp + header_bytes) return made;
    const Packet ip = model::with_checksum(model::slice(made, kIp, made.size() - kIp));
    std::copy(ip.begin(), ip.end(), made.begin() + kIp);
    return made;
  }
};

}  // namespace culvert::test
