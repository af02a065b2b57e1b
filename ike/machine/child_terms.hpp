// What both sides agree on for a child, before it is made.
#pragma once

#include <memory>

#include "crypto/ike/ike_crypto.hpp"
#include "ike/machine/proposals.hpp"
#include "ike/machine/selectors.hpp"

namespace culvert::ike {

struct ChildTerms {
  ChosenEsp chosen;
  SelectorPair selectors;                                  ///< as initiator
  std::unique_ptr<crypto::ike::KeyExchange> key_exchange;  ///< ours, as responder with PFS
  crypto::SecretBytes secret;                              ///< empty without PFS
};

}  // namespace culvert::ike
