#include "tests/load/esp_tunnel.hpp"

#include <algorithm>

#include "wire/ip.hpp"

namespace culvert::load {
namespace {

/// The up to four bytes behind the cipher key (RFC 4106 §8.1, RFC 4309 §7.1).
wire::Bytes salt_of(const channel::InstallSa& sa, const crypto::esp::Form& form) {
  return sa.key.view().subspan(sa.suite.encryption_key_bytes(), form.salt_bytes);
}

/// The engine's key: cipher key, then integrity key, without the salt between (RFC 7296 §2.17).
crypto::SecretBytes key_of(const channel::InstallSa& sa, const crypto::esp::Form& form) {
  const wire::Bytes keymat = sa.key.view();
  const std::size_t cipher_bytes = sa.suite.encryption_key_bytes();
  crypto::SecretBytes key(keymat.size() - form.salt_bytes);
  std::ranges::copy(keymat.first(cipher_bytes), key.span().begin());
  std::ranges::copy(keymat.subspan(cipher_bytes + form.salt_bytes),
                    key.span().subspan(cipher_bytes).begin());
  return key;
}

/// A counter is a good IV for counter modes; for AES-CBC the engine makes the IV of the whole block
/// (esp_crypto.hpp), and NULL has none.
void write_iv(wire::MutableBytes iv, std::uint64_t counter) {
  std::ranges::fill(iv, std::uint8_t{0});
  if (iv.size() >= sizeof(counter)) wire::store_u64(iv.last(sizeof(counter)).data(), counter);
}

}  // namespace

EspTunnel::State* EspTunnel::state_of(const channel::InstallSa& sa) {
  const auto known = states_.find(sa.sa);
  if (known != states_.end()) return known->second.get();
  std::erase_if(states_, [&](const auto& one) { return !data_plane_.sas.contains(one.first); });
  const auto transform = crypto::esp::find_transform(sa.suite);
  if (!transform || sa.key.view().size() != sa.suite.keymat_bytes()) return nullptr;
  auto state = std::make_unique<State>();
  state->transform = &crypto::esp::transform(*transform);
  if (!engine_.expand(sa.suite, key_of(sa, state->form()).view(), state->key)) return nullptr;
  return states_.emplace(sa.sa, std::move(state)).first->second.get();
}

crypto::esp::Operation EspTunnel::operation(const channel::InstallSa& sa, const State& state,
                                            std::size_t text_bytes) {
  const crypto::esp::Form& form = state.form();
  std::uint8_t* const iv = esp() + wire::esp::kHeaderBytes;
  const wire::Bytes salt = salt_of(sa, form);
  std::ranges::copy(salt, nonce_.begin());
  std::copy_n(iv, std::min<std::size_t>(form.iv_bytes, nonce_.size() - salt.size()),
              nonce_.begin() + form.salt_bytes);
  // SPI and sequence number (RFC 4106 §5). No SA lives for 2^32 packets: the high half is zero.
  wire::Writer aad(aad_);
  aad.u32(static_cast<std::uint32_t>(sa.spi));
  if (sa.esn) aad.u32(0);
  aad.bytes({esp() + 4, 4});
  std::uint8_t* const text = iv + form.iv_bytes;
  return {.key = &state.key,
          .text = text,
          .nonce = nonce_.data(),
          .aad = aad_.data(),
          .icv = text + text_bytes,
          .text_bytes = static_cast<std::uint32_t>(text_bytes),
          .aad_bytes = static_cast<std::uint8_t>(aad.size())};
}

// 1. The SA that the newest policy names. 2. Its next sequence number, header and IV. 3. The packet
// and its trailer behind them. 4. Sealed, the ICV behind that.
std::optional<EspTunnel::Sealed> EspTunnel::seal(wire::Bytes packet) {
  const auto* const installed = data_plane_.outbound_of(0);
  State* const state = installed != nullptr ? state_of(installed->sa) : nullptr;
  if (state == nullptr || packet.size() > kMaxPacketBytes) return std::nullopt;
  const channel::InstallSa& sa = installed->sa;
  const crypto::esp::Form& form = state->form();
  ++state->sequence;
  wire::store_u32(esp(), static_cast<std::uint32_t>(sa.spi));
  wire::store_u32(esp() + 4, static_cast<std::uint32_t>(state->sequence));
  write_iv({esp() + wire::esp::kHeaderBytes, form.iv_bytes}, state->sequence);
  const std::size_t padding = wire::esp::padding_for(packet.size(), form.alignment);
  std::uint8_t* const text = esp() + wire::esp::kHeaderBytes + form.iv_bytes;
  std::ranges::copy(packet, text);
  wire::esp::write_trailer(text + packet.size(), padding, wire::protocol::kIpv4);
  const std::size_t text_bytes = packet.size() + padding + wire::esp::kTrailerBytes;
  const crypto::esp::Operation sealing = operation(sa, *state, text_bytes);
  engine_.seal(sa.suite, {&sealing, 1});
  return Sealed{sa.spi, sa.local, sa.remote, sa.udp_encapsulation,
                wire::Bytes(esp(), text + text_bytes + form.icv_bytes)};
}

// 1. The SA of the SPI. 2. Opened. 3. Nothing of it is looked at before the ICV agrees. 4. What is
// in front of the trailer.
std::expected<EspTunnel::Opened, EspTunnel::Refusal> EspTunnel::open(wire::Bytes received) {
  if (received.size() < wire::esp::kHeaderBytes || received.size() > kMaxEspBytes) {
    return std::unexpected(Refusal::malformed);
  }
  const auto* const installed = data_plane_.inbound(channel::Spi{wire::load_u32(received.data())});
  const State* const state = installed != nullptr ? state_of(installed->sa) : nullptr;
  if (state == nullptr) return std::unexpected(Refusal::unknown_spi);
  const crypto::esp::Form& form = state->form();
  const std::size_t around = wire::esp::kHeaderBytes + form.iv_bytes + form.icv_bytes;
  if (received.size() < around + wire::esp::kTrailerBytes ||
      (received.size() - around) % form.alignment != 0) {
    return std::unexpected(Refusal::malformed);
  }
  std::ranges::copy(received, esp());
  std::array<std::uint8_t, crypto::esp::kMaxIcvBytes> computed{};
  crypto::esp::Operation opening = operation(installed->sa, *state, received.size() - around);
  opening.icv = computed.data();
  engine_.open(installed->sa.suite, {&opening, 1});
  if (!crypto::equal_constant_time(received.last(form.icv_bytes),
                                   wire::Bytes(computed).first(form.icv_bytes))) {
    return std::unexpected(Refusal::icv_wrong);
  }
  const wire::Bytes text(opening.text, opening.text_bytes);
  const auto trailer = wire::esp::read_trailer(text);
  if (!trailer || trailer->next_header != wire::protocol::kIpv4) {
    return std::unexpected(Refusal::malformed);
  }
  return Opened{installed->sa.spi, text.first(trailer->payload_bytes)};
}

}  // namespace culvert::load
