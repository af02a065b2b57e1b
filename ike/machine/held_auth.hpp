// IKE_AUTH whose decision waits for the status of the peer's certificates: the peer's message is
// kept, unanswered, until the status has come or Tuning::status_wait is over. A peer that repeats
// itself meanwhile is not heard twice.
#pragma once

#include <string_view>

#include "ike/machine/ike_sa.hpp"

namespace culvert::ike {

class Core;

class HeldAuth {
 public:
  explicit HeldAuth(Core& core) : core_(core) {}
  void hold(IkeSa& ike, HeldMessage message);
  /// Judges what is held once more; after its time by what is known.
  void resume(IkeSa& ike);
  /// All that wait for that.
  void resume_those_awaiting(std::string_view name);

 private:
  Core& core_;
};

}  // namespace culvert::ike
