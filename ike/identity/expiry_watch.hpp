// Warns of certificates before they expire: 30, 7 and 1 days ahead, and when they have. Each stage
// once.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "ike/identity/certificates.hpp"

namespace culvert::ike {

class ExpiryWatch {
 public:
  struct Notice {
    Certificates::Loaded certificate;
    std::int64_t days_left = 0;  ///< whole days; negative once it has expired
  };
  /// Those that entered a stage since the last call. `now`: Unix seconds.
  [[nodiscard]] std::vector<Notice> due(const std::vector<Certificates::Loaded>& loaded,
                                        std::int64_t now);

 private:
  std::map<std::string, int> stages_;  ///< by file and subject: 0 none … 4 expired
};

}  // namespace culvert::ike
