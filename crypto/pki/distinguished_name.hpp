// Distinguished names (RFC 5280 §4.1.2.4) between text and DER.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "crypto/secret.hpp"

namespace culvert::crypto::pki {

/// "CN=hq, O=Example, C=DE" in the order in which the attributes stand in the certificate. A comma
/// within a value is written "\,". nullopt: an unknown attribute, or none.
[[nodiscard]] std::optional<std::vector<std::uint8_t>> parse_distinguished_name(
    std::string_view text);
/// The same back, printable; "(malformed name)" when it is none.
[[nodiscard]] std::string distinguished_name_text(Bytes der);
/// Equal by the rules of RFC 5280 §7.1: without regard to case, space and string type.
[[nodiscard]] bool same_distinguished_name(Bytes a, Bytes b);

}  // namespace culvert::crypto::pki
