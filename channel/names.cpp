// The words for the channel's enums.
#include "channel/messages.hpp"

namespace culvert::channel {

std::string_view to_string(Outcome outcome) {
  switch (outcome) {
    case Outcome::ok:
      return "ok";
    case Outcome::unknown_request:
      return "unknown_request";
    case Outcome::invalid_field:
      return "invalid_field";
    case Outcome::unknown_sa:
      return "unknown_sa";
    case Outcome::unknown_policy:
      return "unknown_policy";
    case Outcome::duplicate:
      return "duplicate";
    case Outcome::spi_not_leased:
      return "spi_not_leased";
    case Outcome::unsupported_suite:
      return "unsupported_suite";
    case Outcome::no_room:
      return "no_room";
    case Outcome::no_route:
      return "no_route";
    case Outcome::over_budget:
      return "over_budget";
  }
  return "unknown";
}

std::string_view to_string(RequestType type) {
  switch (type) {
    case RequestType::none:
      return "none";
    case RequestType::install_sa:
      return "install_sa";
    case RequestType::install_policy:
      return "install_policy";
    case RequestType::switch_outbound:
      return "switch_outbound";
    case RequestType::delete_policy:
      return "delete_policy";
    case RequestType::delete_sa:
      return "delete_sa";
    case RequestType::update_endpoints:
      return "update_endpoints";
    case RequestType::lease_spis:
      return "lease_spis";
    case RequestType::query_sa:
      return "query_sa";
    case RequestType::take_snapshot:
      return "take_snapshot";
    case RequestType::keep_spis:
      return "keep_spis";
  }
  return "unknown";
}

std::string_view to_string(EventType type) {
  switch (type) {
    case EventType::none:
      return "none";
    case EventType::completion:
      return "completion";
    case EventType::acquire:
      return "acquire";
    case EventType::soft_expire:
      return "soft_expire";
    case EventType::hard_expire:
      return "hard_expire";
    case EventType::unknown_spi:
      return "unknown_spi";
    case EventType::peer_moved:
      return "peer_moved";
    case EventType::snapshot_sa:
      return "snapshot_sa";
    case EventType::snapshot_policy:
      return "snapshot_policy";
  }
  return "unknown";
}

std::string_view to_string(ExpiryCause cause) {
  switch (cause) {
    case ExpiryCause::time:
      return "time";
    case ExpiryCause::bytes:
      return "bytes";
    case ExpiryCause::packets:
      return "packets";
    case ExpiryCause::sequence:
      return "sequence";
  }
  return "unknown";
}

}  // namespace culvert::channel
