// A key exchange that costs next to nothing, in X25519's place: a third of a schedule's time would
// go into arithmetic that its own tests know. In the program `simulate` only (see its link
// arguments): to other tests a key exchange is what it is.
#pragma once

namespace culvert::simulation {

/// Whether X25519 keys made from now on are real ones. They are, until told otherwise.
void use_real_key_exchange(bool real);

}  // namespace culvert::simulation
