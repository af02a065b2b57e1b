// Routes and policies of another configuration come into force together. Main thread.
#pragma once

#include <functional>

#include "dataplane/control/forwarding.hpp"
#include "dataplane/control/policy_book.hpp"

namespace culvert::dataplane::control {

/// `forwarding` has reserved the topology, `policies` see the configuration. No packet meets the
/// policies of one configuration and a route that only the other one has, which may leave in clear
/// what both protect: 1. the policies are built aside; 2. routes that go, come or lead elsewhere
/// lead nowhere; 3. the policies are in force; 4. the routes are, and nothing that was found of a
/// flow between 3 and 4 is kept. Workers read the policies once a burst and routes after them, so
/// that before 3 and before 4 each has begun another burst. `before_swap` is called directly before
/// 3, which 1 may have kept waiting for long.
inline void change_over(Forwarding& forwarding, PolicyBook& policies, Reclaimer& reclaimer,
                        const std::function<void()>& before_swap) {
  bool is_withdrawn = false;
  policies.publish([&] {
    is_withdrawn = forwarding.withdraw();
    if (is_withdrawn) reclaimer.wait();
    before_swap();
  });
  if (is_withdrawn) reclaimer.wait();
  forwarding.commit();
}

}  // namespace culvert::dataplane::control
