// Every limit of the configuration in one place, with its unit and its reason. A value beyond its
// limit is refused by the check, so that nothing behind it has to ask again.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>

namespace culvert::config::limits {

// ---- the text ---------------------------------------------------------------------------------
inline constexpr std::size_t kFileBytes = 16U << 20U;  ///< bytes: kPolicies in some 120 each
inline constexpr std::size_t kDepth = 16;              ///< nested maps and lists; we need 6
inline constexpr std::size_t kNodes = 1U << 21U;       ///< values: bounds the memory of the tree
inline constexpr std::size_t kDiagnostics = 200;       ///< reported; the rest is only counted
inline constexpr std::size_t kShownCharacters = 60;    ///< of a value, in a message

// ---- names ------------------------------------------------------------------------------------
inline constexpr std::size_t kInstanceCharacters = 32;  ///< part of a Unix socket's path (108)
inline constexpr std::size_t kNameCharacters = 64;      ///< metric label and log field
inline constexpr std::size_t kIdentityBytes = 255;      ///< ID payload we send

// ---- the data plane ---------------------------------------------------------------------------
inline constexpr std::uint32_t kWorkers = 127;  ///< DPDK's RTE_MAX_LCORE less the main thread
inline constexpr std::uint32_t kCore = 1023;    ///< highest core number; CPU_SETSIZE, as DPDK's
inline constexpr std::size_t kInterfaces = 64;  ///< VLANs of a device count each
inline constexpr std::size_t kInterfaceAddresses = 64;
inline constexpr std::size_t kRoutes = 8192;  ///< the data plane's table has neighbours beside
inline constexpr std::size_t kNeighbors = 4096;
inline constexpr std::uint32_t kMtuMin = 576;     ///< bytes; RFC 1122 §3.3.3
inline constexpr std::uint32_t kMtuMinV6 = 1280;  ///< bytes; RFC 8200 §5
inline constexpr std::uint32_t kMtuMax = 9000;    ///< bytes; one packet buffer
inline constexpr std::uint32_t kSas = 1U << 20U;  ///< each direction
inline constexpr std::uint32_t kPolicies = 1U << 17U;
inline constexpr std::uint32_t kFlowsMin = 64;
inline constexpr std::uint32_t kFlowsMax = 1U << 22U;  ///< 1.3 GiB a worker
inline constexpr std::uint32_t kMemoryMibMin = 64;     ///< MiB
inline constexpr std::uint32_t kMemoryMibMax = 1U << 20U;

// ---- connections ------------------------------------------------------------------------------
inline constexpr std::size_t kProposals = 32;     ///< a list; numbered by one byte on the wire
inline constexpr std::size_t kSelectors = 16;     ///< a side; channel::kMaxSelectors
inline constexpr std::uint32_t kSasPerChild = 2;  ///< slots a direction: old and new in a rekey
inline constexpr std::chrono::seconds kTimeMax{365 * 24 * 3600};
inline constexpr std::chrono::seconds kDpdShort{5};  ///< below: a warning, five tries take longer
inline constexpr std::chrono::seconds kRekeyShort{60};        ///< below: a warning
inline constexpr std::uint64_t kRekeyBytesShort = 1U << 20U;  ///< below: a warning, ms of traffic
inline constexpr std::uint64_t kRekeyPacketsShort = 1000;     ///< likewise
inline constexpr std::uint32_t kFragmentSizeMin = 256;    ///< bytes of IP packet; some payload fits
inline constexpr std::uint32_t kFragmentSizeShort = 576;  ///< below: a warning; RFC 7383 §2.5.1
inline constexpr std::uint32_t kFragmentSizeMax = 8092;  ///< channel::kMaxDatagramBytes and headers
inline constexpr std::uint32_t kReplayWindowMin = 32;    ///< packets; RFC 4303 §3.4.3
inline constexpr std::uint32_t kReplayWindowMax = 65536;
inline constexpr std::uint32_t kDscpMax = 63;  ///< six bits; RFC 2474 §3
/// A second, of one SA: the main thread makes them, some at once above one in two milliseconds.
inline constexpr std::uint32_t kDummyPacketsPerSa = 1000;
/// A second, of all SAs: some hundredths of the main thread's time.
inline constexpr std::uint32_t kDummyPacketsTotal = 20000;
inline constexpr std::uint32_t kDummyBytesMin = 40;  ///< bytes; an IPv6 header
inline constexpr std::uint32_t kSpiMin = 256;        ///< RFC 4303 §2.1 reserves 1..255

// ---- what a peer may make of its children's selectors (docs/decisions/0017)
// ---------------------- A policy that is negotiated is as many rules as it has pairs of selectors,
// either way; a search asks once for each shape among all rules. What the configuration names is
// not counted.
inline constexpr std::size_t kRulesOfPeer = 1024;  ///< of an IKE SA: 128 children of four pairs
inline constexpr std::size_t kShapesOfPeer = 64;   ///< of an IKE SA: a µs of each search
inline constexpr std::size_t kShapesOfAll = 1024;  ///< in force: tens of µs of each search
/// For each of limits.policies: a host behind as many networks of ours as a child may have.
inline constexpr std::size_t kRulesPerPolicy = 2 * kSelectors;
/// Of one child, that a search compares one by one: a trap, and what is negotiated before and after
/// a change of the configuration, each with all selectors that a child may have.
inline constexpr std::size_t kRulesAlike = 3 * 2 * kSelectors * kSelectors;

// ---- the policy table's check -------------------------------------------------------------------
inline constexpr std::size_t kComparedSelectors = 1U << 18U;     ///< pairs; bounds memory
inline constexpr std::size_t kSelectorComparisons = 30'000'000;  ///< about a second

// ---- secrets ----------------------------------------------------------------------------------
inline constexpr std::size_t kSecretBytes = 4096;       ///< bytes of a key or PSK file
inline constexpr std::size_t kComparedIdentities = 16;  ///< of an entry, with those of connections
inline constexpr std::size_t kComparedPatterns = 256;   ///< of connections' peers; bounds the time
inline constexpr std::size_t kPskShort = 16;            ///< bytes; below: a warning
inline constexpr std::size_t kPrivateKeyBytes = 64U << 10U;  ///< bytes; RSA-16384 in PEM has 13 kB
inline constexpr std::size_t kCertificateBytes = 1U << 20U;  ///< bytes; a bundle of 500
inline constexpr std::size_t kCrlBytes = 64U << 20U;         ///< bytes; a million entries
inline constexpr std::size_t kUrlCharacters = 2048;          ///< of a list or an OCSP responder
inline constexpr std::chrono::seconds kGraceLong{7 * 24 * 3600};  ///< above: a warning
inline constexpr std::size_t kAuthorities = 256;                  ///< one CERTREQ names them all

}  // namespace culvert::config::limits
