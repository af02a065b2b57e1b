// What of the machine's state outlives its process: one record for each IKE SA with its children,
// one for each connection that an operator holds down. A record is named, replaced as a whole, and
// removed when what it describes has ended.
#pragma once

#include <compare>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "crypto/secret.hpp"

namespace culvert::ike {

enum class RecordKind : std::uint16_t {
  ike_sa = 1,      ///< id: our SPI
  connection = 2,  ///< id: config::ConnectionId
};
struct RecordName {
  RecordKind kind{};
  std::uint64_t id = 0;
  friend auto operator<=>(const RecordName&, const RecordName&) = default;
};
/// Key material inside.
struct Record {
  RecordName name;
  crypto::SecretBytes content;  ///< empty: there is none of this name any more
};
using Records = std::vector<Record>;

/// Why an earlier life's records, or one of them, are not resumed. The SAs are then established
/// anew beside those that the data plane holds.
enum class NotResumed : std::uint8_t {
  none_recorded,          ///< no IKE SA in an earlier life, or no earlier life
  not_held,               ///< the data plane had no memory for records
  other_build,            ///< written by another release
  corrupt,                ///< a checksum is wrong, or a part is missing
  abandoned,              ///< the earlier life ran out of room for records and said so
  malformed,              ///< a record does not parse
  configuration_changed,  ///< the connection is not configured any more, or otherwise
  spi_not_held,           ///< an SPI that the peer knows was given to another SA
};
struct NotResumedInfo {
  NotResumed reason{};
  std::string_view name;     ///< snake_case, stable
  std::string_view meaning;  ///< one sentence in the operator's words
};
const NotResumedInfo& info(NotResumed reason);
std::span<const NotResumedInfo> all_not_resumed();

/// How this process found its IKE SAs when it started.
struct ResumeReport {
  std::uint64_t resumed = 0;                    ///< IKE SAs, without those that only linger
  std::map<NotResumed, std::uint64_t> refused;  ///< records
  std::optional<NotResumed> nothing_to_resume;  ///< why there was no record at all
};

}  // namespace culvert::ike
