// A peer's ESP opposite the model's, which knows nothing of engines.
#include "tests/load/esp_tunnel.hpp"

#include <catch2/catch.hpp>

#include "tests/model/esp_model.hpp"
#include "tests/unit/dataplane/sa_request.hpp"

namespace culvert::load {
namespace {

using channel::Direction;
using channel::Outcome;
using channel::PolicyId;
using channel::SaId;
using simulation::DataPlane;

constexpr std::uint32_t kFirstSpi = 0x10000000;

channel::Request request_of(channel::RequestType type) {
  channel::Request request;
  request.type = type;
  request.id = channel::RequestId{1};
  return request;
}

/// A peer's data plane and what its machine asks of it.
struct FarEnd {
  DataPlane data_plane{kFirstSpi};
  std::unique_ptr<crypto::esp::Engine> engine = crypto::esp::make_openssl_engine();
  EspTunnel tunnel{data_plane, *engine};

  void carry_out(const channel::Request& request) {
    REQUIRE(data_plane.execute(request, ike::Instant{1}).outcome == Outcome::ok);
  }
  void install(const channel::InstallSa& sa) {
    auto request = request_of(channel::RequestType::install_sa);
    request.body.install_sa = sa;
    carry_out(request);
  }
  channel::Spi install_inbound(std::uint64_t id, std::uint8_t first_key_byte) {
    const channel::Spi spi = data_plane.take().value();
    install(
        test::sa_request(id, Direction::in, static_cast<std::uint32_t>(spi), 128, first_key_byte));
    return spi;
  }
  void send_on(std::uint64_t id) {
    auto request = request_of(channel::RequestType::install_policy);
    request.body.install_policy = {.policy = PolicyId{1},
                                   .child_id = config::ChildId{0},
                                   .outbound = SaId{id},
                                   .local_selectors = test::selectors({"10.1.0.0/24"}),
                                   .remote_selectors = test::selectors({"10.2.0.0/24"})};
    carry_out(request);
  }
  void switch_to(std::uint64_t id) {
    auto request = request_of(channel::RequestType::switch_outbound);
    request.body.switch_outbound = {PolicyId{1}, SaId{id}};
    carry_out(request);
  }
  void remove(std::uint64_t id) {
    auto request = request_of(channel::RequestType::delete_sa);
    request.body.delete_sa.sa = SaId{id};
    carry_out(request);
  }
};

model::EspSa model_of(channel::Spi spi, std::uint8_t first_key_byte, bool esn = false) {
  const auto keymat = test::keymat(128, first_key_byte);
  return {{keymat.begin(), keymat.end()}, static_cast<std::uint32_t>(spi), esn};
}
model::ByteString copy_of(wire::Bytes bytes) { return {bytes.begin(), bytes.end()}; }
const model::ByteString kPacket(40, 0x45);

}  // namespace

TEST_CASE("load: a peer's packet is ESP to others, its numbers count up (RFC 4303 §2)") {
  const bool esn = GENERATE(false, true);
  FarEnd peer;
  CHECK_FALSE(peer.tunnel.seal(kPacket));
  auto outbound = test::sa_request(1, Direction::out, 0xc0000001);
  outbound.esn = esn;
  peer.install(outbound);
  peer.send_on(1);
  for (const std::uint64_t number : {1U, 2U}) {
    const auto sealed = peer.tunnel.seal(kPacket);
    REQUIRE(sealed);
    const auto opened = model::esp_open(model_of(sealed->spi, 1, esn), 0, copy_of(sealed->esp));
    REQUIRE(opened);
    CHECK(opened->sequence == number);
    CHECK(opened->payload == kPacket);
    CHECK(opened->next_header == wire::protocol::kIpv4);
  }
}

TEST_CASE("load: a peer sends on the SA that its machine has switched to") {
  FarEnd peer;
  peer.install(test::sa_request(1, Direction::out, 0xc0000001, 128, 1));
  peer.send_on(1);
  CHECK(peer.tunnel.seal(kPacket)->spi == channel::Spi{0xc0000001});
  peer.install(test::sa_request(2, Direction::out, 0xc0000002, 128, 101));
  CHECK(peer.tunnel.seal(kPacket)->spi == channel::Spi{0xc0000001});
  peer.switch_to(2);
  peer.remove(1);
  const auto sealed = peer.tunnel.seal(kPacket);
  REQUIRE(sealed);
  CHECK(sealed->spi == channel::Spi{0xc0000002});
  const auto opened = model::esp_open(model_of(sealed->spi, 101), 0, copy_of(sealed->esp));
  REQUIRE(opened);
  CHECK(opened->sequence == 1);
}

TEST_CASE("load: a peer opens what comes on any of its SAs while the machine keeps it") {
  FarEnd peer;
  const channel::Spi old_spi = peer.install_inbound(1, 1), new_spi = peer.install_inbound(2, 101);
  const auto by_old = model::esp_seal(model_of(old_spi, 1), 7, wire::protocol::kIpv4, kPacket);
  const auto by_new = model::esp_seal(model_of(new_spi, 101), 1, wire::protocol::kIpv4, kPacket);
  for (const auto& [spi, esp] : {std::pair{old_spi, by_old}, {new_spi, by_new}}) {
    const auto opened = peer.tunnel.open(esp);
    REQUIRE(opened);
    CHECK(opened->spi == spi);
    CHECK(copy_of(opened->packet) == kPacket);
  }
  peer.remove(1);
  CHECK(peer.tunnel.open(by_old).error() == EspTunnel::Refusal::unknown_spi);
  CHECK(peer.tunnel.open(by_new).has_value());
}

TEST_CASE("load: a packet that is not authentic is not opened, wherever it was changed") {
  FarEnd peer;
  const channel::Spi spi = peer.install_inbound(1, 1);
  const auto esp = model::esp_seal(model_of(spi, 1), 7, wire::protocol::kIpv4, kPacket);
  for (std::size_t at = 4; at < esp.size(); ++at) {
    auto changed = esp;
    changed[at] ^= 1U;
    CHECK(peer.tunnel.open(changed).error() == EspTunnel::Refusal::icv_wrong);
  }
  CHECK(peer.tunnel.open(esp).has_value());
}

TEST_CASE("load: no shorter packet is opened") {
  FarEnd peer;
  const channel::Spi spi = peer.install_inbound(1, 1);
  const auto esp = model::esp_seal(model_of(spi, 1), 7, wire::protocol::kIpv4, kPacket);
  for (std::size_t length = 0; length < esp.size(); ++length) {
    const auto opened = peer.tunnel.open(wire::Bytes(esp).first(length));
    // Whole words of text have an ICV that can be wrong.
    const bool is_whole = length >= 8 + 8 + 4 + 16 && length % 4 == 0;
    CHECK(opened.error() ==
          (is_whole ? EspTunnel::Refusal::icv_wrong : EspTunnel::Refusal::malformed));
  }
}

TEST_CASE("load: suites of every form go there and back between two peers") {
  const auto& transform = GENERATE(from_range(crypto::esp::kTransforms));
  INFO(transform.suite.name());
  FarEnd sender, receiver;
  const channel::Spi spi = receiver.data_plane.take().value();
  auto sa = test::sa_request(1, Direction::in, static_cast<std::uint32_t>(spi));
  sa.suite = transform.suite;
  std::vector<std::uint8_t> keymat(sa.suite.keymat_bytes());
  for (std::size_t at = 0; at < keymat.size(); ++at) keymat[at] = static_cast<std::uint8_t>(at);
  REQUIRE(sa.key.assign(keymat));
  receiver.install(sa);
  sa.direction = Direction::out;
  sender.install(sa);
  sender.send_on(1);
  for (const std::size_t bytes : {std::size_t{40}, std::size_t{41}, EspTunnel::kMaxPacketBytes}) {
    const model::ByteString packet(bytes, 0x45);
    const auto opened = receiver.tunnel.open(sender.tunnel.seal(packet).value().esp);
    REQUIRE(opened);
    CHECK(copy_of(opened->packet) == packet);
  }
}

}  // namespace culvert::load
