// IKE_SA_INIT requests from forged sources, each another one, at a bounded rate for a bounded time.
// They are well-formed: what an attacker sends who wants work to be done. Or each names another IKE
// SA that the gateway has not, as who wants to be taken for an old acquaintance.
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <iostream>
#include <random>
#include <string>
#include <thread>

#include <CLI/CLI.hpp>
#include <arpa/inet.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <nlohmann/json.hpp>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "crypto/ike/ike_crypto.hpp"
#include "ike/machine/payload_access.hpp"
#include "ike/machine/proposals.hpp"
#include "wire/checksum.hpp"
#include "wire/ethernet.hpp"
#include "wire/ike/message.hpp"
#include "wire/unaligned.hpp"

namespace culvert::load {
namespace {

constexpr std::size_t kIpBytes = 20, kUdpBytes = 8;
constexpr std::size_t kIpAt = wire::ethernet::kHeaderBytes, kUdpAt = kIpAt + kIpBytes;
constexpr std::size_t kIkeAt = kUdpAt + kUdpBytes;
constexpr std::size_t kSentAtOnce = 64;

struct Options {
  std::string interface, gateway, gateway_mac, proposal;
  double rate = 1000, seconds = 1;
  std::uint64_t seed = 1;
  bool claims_ike_sa = false;
};

using Frame = std::vector<std::uint8_t>;

std::array<std::uint8_t, 6> mac_of(const std::string& text) {
  std::array<unsigned int, 6> parts{};
  std::array<std::uint8_t, 6> mac{};
  if (std::sscanf(text.c_str(), "%x:%x:%x:%x:%x:%x", &parts[0], &parts[1], &parts[2], &parts[3],
                  &parts[4], &parts[5]) == 6) {
    for (std::size_t i = 0; i < 6; ++i) mac[i] = static_cast<std::uint8_t>(parts[i]);
  }
  return mac;
}

/// One request without what differs from one to the next.
std::optional<Frame> make_frame(const Options& options) {
  const auto proposal = crypto::parse_ike_proposal(options.proposal);
  const auto gateway = wire::IpAddress::parse(options.gateway);
  if (!proposal || proposal->groups.empty() || !gateway || !gateway->is_v4()) return std::nullopt;
  const auto random = crypto::ike::make_system_random();
  const auto exchange = crypto::ike::generate_key_exchange(proposal->groups.front(), *random);
  if (!exchange) return std::nullopt;
  wire::ike::Header header;
  header.initiator_spi = 1;
  header.from_initiator = true;
  ike::Payloads payloads;
  payloads.emplace_back(ike::offer_ike({*proposal}, {}));
  payloads.emplace_back(wire::ike::KeyExchange{static_cast<std::uint16_t>((*exchange)->group()),
                                               (*exchange)->public_value()});
  payloads.emplace_back(wire::ike::Nonce{std::vector<std::uint8_t>(32)});
  const auto message = wire::ike::encode_message(header, payloads);

  Frame frame(kIkeAt);
  std::ranges::copy(mac_of(options.gateway_mac), frame.begin());
  frame[6] = 2;  // any station but that one
  wire::store_u16(&frame[12], wire::ethernet::kIpv4);
  std::uint8_t* const ip = &frame[kIpAt];
  ip[0] = 0x45;
  wire::store_u16(ip + 2, static_cast<std::uint16_t>(kIpBytes + kUdpBytes + message.size()));
  ip[8] = 64;
  ip[9] = 17;
  std::ranges::copy(gateway->view(), ip + 16);
  std::uint8_t* const udp = &frame[kUdpAt];
  wire::store_u16(udp, 500);
  wire::store_u16(udp + 2, 500);
  wire::store_u16(udp + 4, static_cast<std::uint16_t>(kUdpBytes + message.size()));
  frame.insert(frame.end(), message.begin(), message.end());
  return frame;
}

/// An address that somebody may have: neither private nor special.
std::uint32_t forged_source(std::mt19937_64& dice) {
  for (;;) {
    const auto address = static_cast<std::uint32_t>(dice());
    const std::uint32_t first = address >> 24U;
    if (first == 0 || first == 10 || first == 127 || first == 192 || first >= 224) continue;
    return address;
  }
}

/// Another source, another SPI, another nonce.
void vary(Frame& frame, const Options& options, std::mt19937_64& dice) {
  std::uint8_t* const ip = &frame[kIpAt];
  const std::uint32_t source = htonl(forged_source(dice));
  std::memcpy(ip + 12, &source, sizeof(source));
  wire::store_u16(ip + 10, 0);
  wire::ChecksumSum sum;
  sum.add(wire::Bytes(ip, kIpBytes));
  wire::store_u16(ip + 10, sum.finish());
  const std::uint64_t spi = dice() | 1U;
  std::memcpy(&frame[kIkeAt], &spi, sizeof(spi));
  if (options.claims_ike_sa) {
    const std::uint64_t of_gateway = dice() | 1U;
    std::memcpy(&frame[kIkeAt + sizeof(spi)], &of_gateway, sizeof(of_gateway));
  }
  const std::uint64_t nonce = dice();  // the nonce is the last payload
  std::memcpy(&frame[frame.size() - sizeof(nonce)], &nonce, sizeof(nonce));
}

class Sender {
 public:
  std::string open(const std::string& interface) {
    socket_ = ::socket(AF_PACKET, SOCK_RAW, 0);
    if (socket_ < 0) return std::string("socket: ") + std::strerror(errno);
    const int yes = 1;
    ::setsockopt(socket_, SOL_PACKET, PACKET_QDISC_BYPASS, &yes, sizeof(yes));
    sockaddr_ll to{};
    to.sll_family = AF_PACKET;
    to.sll_ifindex = static_cast<int>(::if_nametoindex(interface.c_str()));
    if (::bind(socket_, reinterpret_cast<const sockaddr*>(&to), sizeof(to)) != 0) {
      return std::string("bind: ") + std::strerror(errno);
    }
    return {};
  }
  Sender() = default;
  Sender(const Sender&) = delete;
  Sender& operator=(const Sender&) = delete;
  ~Sender() {
    if (socket_ >= 0) ::close(socket_);
  }
  /// How many the kernel took.
  std::size_t send(std::vector<Frame>& frames, std::size_t count) {
    std::array<iovec, kSentAtOnce> pieces{};
    std::array<mmsghdr, kSentAtOnce> messages{};
    for (std::size_t i = 0; i < count; ++i) {
      pieces[i] = {frames[i].data(), frames[i].size()};
      messages[i].msg_hdr.msg_iov = &pieces[i];
      messages[i].msg_hdr.msg_iovlen = 1;
    }
    const int sent = ::sendmmsg(socket_, messages.data(), static_cast<unsigned int>(count), 0);
    return sent < 0 ? 0 : static_cast<std::size_t>(sent);
  }

 private:
  int socket_ = -1;
};

int flood(const Options& options) {
  const auto frame = make_frame(options);
  Sender sender;
  const std::string problem = frame ? sender.open(options.interface) : "not a proposal or address";
  if (!problem.empty()) {
    std::cerr << "ike_flood: " << problem << "\n";
    return 1;
  }
  std::vector<Frame> frames(kSentAtOnce, *frame);
  std::mt19937_64 dice(options.seed);
  using Clock = std::chrono::steady_clock;
  const auto began = Clock::now();
  const auto elapsed = [&] { return std::chrono::duration<double>(Clock::now() - began).count(); };
  std::uint64_t sent = 0, refused = 0;
  for (double now = 0; (now = elapsed()) < options.seconds;) {
    const auto due = static_cast<std::uint64_t>(now * options.rate);
    if (due <= sent + refused) {
      std::this_thread::sleep_for(std::chrono::microseconds(200));
      continue;
    }
    const std::size_t count = std::min<std::uint64_t>(due - sent - refused, kSentAtOnce);
    for (std::size_t i = 0; i < count; ++i) vary(frames[i], options, dice);
    const std::size_t taken = sender.send(frames, count);
    sent += taken;
    refused += count - taken;
  }
  const double seconds = elapsed();
  std::cout << nlohmann::json{{"sent", sent},
                              {"refused", refused},
                              {"seconds", seconds},
                              {"per_second", static_cast<double>(sent) / seconds},
                              {"seed", options.seed}}
                   .dump()
            << std::endl;
  return 0;
}

}  // namespace
}  // namespace culvert::load

int main(int argc, char** argv) {
  culvert::load::Options options;
  CLI::App app("IKE_SA_INIT from forged sources, in a network namespace.");
  app.add_option("--interface", options.interface, "to send on")->required();
  app.add_option("--gateway", options.gateway, "IPv4 address")->required();
  app.add_option("--gateway-mac", options.gateway_mac, "of its interface")->required();
  app.add_option("--proposal", options.proposal, "what it offers")->required();
  app.add_option("--rate", options.rate, "a second")->check(CLI::Range(1.0, 10e6));
  app.add_option("--seconds", options.seconds)->check(CLI::Range(0.1, 600.0));
  app.add_option("--seed", options.seed, "of the sources");
  app.add_flag("--claim-ike-sa", options.claims_ike_sa,
               "each names another IKE SA of the gateway's");
  CLI11_PARSE(app, argc, argv);
  return culvert::load::flood(options);
}
