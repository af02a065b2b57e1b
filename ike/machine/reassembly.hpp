// Fragments of one message on their way to being whole (RFC 7383 §2.6). Bounded: one message a
// direction and IKE SA, so many fragments, so many bytes, whoever sends them.
#pragma once

#include <cstdint>
#include <map>
#include <optional>

#include "crypto/secret.hpp"
#include "wire/ike/message.hpp"

namespace culvert::ike {

/// Fragments of one message: 32 KiB at 256 octets each.
inline constexpr std::uint16_t kMaxFragments = 128;
/// Octets of one reassembled message. A chain of three post-quantum certificates fits; 4096
/// half-open IKE SAs together hold 128 MiB at most.
inline constexpr std::size_t kMaxReassembledBytes = 32768;

class Reassembly {
 public:
  struct Whole {
    wire::ike::PayloadType first_inner{};
    crypto::SecretBytes chain;
  };

  /// Asked before the costly verification: fragments that are there already, or of an older
  /// division of the same message, or more than we take, are not looked at (RFC 7383 §2.6).
  [[nodiscard]] bool wants(const wire::ike::Header& header,
                           const wire::ike::EncryptedFragment& fragment) const {
    if (fragment.total > kMaxFragments) return false;
    if (!is_of(header)) return true;
    if (fragment.total != total_) return fragment.total > total_;
    return !pieces_.contains(fragment.number);
  }

  /// A fragment whose ICV was right. The whole message when it was the last that lacked.
  [[nodiscard]] std::optional<Whole> add(const wire::ike::Header& header,
                                         const wire::ike::EncryptedFragment& fragment,
                                         crypto::SecretBytes plain) {
    // RFC 7383 §2.6: a greater total means the sender divided anew, into smaller pieces; what came
    // of the old division is worth nothing.
    if (!is_of(header) || fragment.total > total_) begin(header, fragment.total);
    if (bytes_ + plain.size() > kMaxReassembledBytes) {
      clear();
      return std::nullopt;
    }
    bytes_ += plain.size();
    if (fragment.number == 1) first_inner_ = fragment.first_inner;
    pieces_.emplace(fragment.number, std::move(plain));
    if (pieces_.size() < total_) return std::nullopt;
    return join();
  }

  void clear() {
    pieces_.clear();
    total_ = 0;
    bytes_ = 0;
  }
  [[nodiscard]] std::size_t bytes() const { return bytes_; }

 private:
  [[nodiscard]] bool is_of(const wire::ike::Header& header) const {
    return total_ != 0 && header.message_id == message_id_ && header.exchange == exchange_;
  }
  void begin(const wire::ike::Header& header, std::uint16_t total) {
    clear();
    message_id_ = header.message_id;
    exchange_ = header.exchange;
    total_ = total;
  }
  [[nodiscard]] Whole join() {
    Whole whole{first_inner_, crypto::SecretBytes(bytes_)};
    std::size_t at = 0;
    for (const auto& [number, piece] : pieces_) {
      const crypto::Bytes view = piece.view();
      std::copy(view.begin(), view.end(), whole.chain.span().begin() + static_cast<long>(at));
      at += view.size();
    }
    clear();
    return whole;
  }

  std::uint32_t message_id_ = 0;
  wire::ike::ExchangeType exchange_{};
  std::uint16_t total_ = 0;  ///< 0: nothing is being put together
  std::size_t bytes_ = 0;
  wire::ike::PayloadType first_inner_{};
  std::map<std::uint16_t, crypto::SecretBytes> pieces_;  ///< by fragment number
};

}  // namespace culvert::ike
