// Bounds of what we accept in one IKE message. Every one refuses the message, none truncates it.
#pragma once

#include <cstddef>

namespace culvert::wire::ike {

/// Bytes of a message: what an IPv4 UDP datagram can carry (65535 - 20 - 8). The channel's
/// datagrams are smaller; this bounds what can be built.
inline constexpr std::size_t kMaxMessageBytes = 65507;
/// Payloads of one chain. An IKE_AUTH with a long certificate chain and MOBIKE addresses has 40.
inline constexpr std::size_t kMaxPayloads = 100;
/// Proposals of one SA payload. Clients that list every combination they know send some 30.
inline constexpr std::size_t kMaxProposals = 64;
/// Transforms of one proposal; all that IANA names of one generation are below 60.
inline constexpr std::size_t kMaxTransforms = 100;
/// Attributes of one transform. One is defined (key length); more are refused one by one anyway.
inline constexpr std::size_t kMaxAttributes = 16;
/// Selectors of one TS payload. Narrowing looks at every pair, so its work grows with this.
inline constexpr std::size_t kMaxTrafficSelectors = 64;
/// SPIs of one Delete payload: more than fit in a datagram of the usual 1280 bytes thrice over.
inline constexpr std::size_t kMaxDeletedSpis = 1024;
/// Key exchange data in bytes: MODP-8192 has 1024, the largest public key we foresee 1568.
inline constexpr std::size_t kMaxKeyExchangeBytes = 2048;
/// Identity data in bytes: a distinguished name of a dozen long attributes.
inline constexpr std::size_t kMaxIdentityBytes = 2048;
/// RFC 7296 §3.9: a nonce has between 16 and 256 octets, inclusive.
inline constexpr std::size_t kMinNonceBytes = 16, kMaxNonceBytes = 256;

}  // namespace culvert::wire::ike
