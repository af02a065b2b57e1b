// Replacing a child (RFC 7296 §1.3.3, RFC 7296 §2.8), make before break, and both sides doing so at
// once (§2.8.1): of the two results the one made with the lowest of the four nonces goes, and
// whoever made it deletes it.
#include <algorithm>
#include <utility>

#include "ike/machine/core.hpp"

namespace culvert::ike {

using crypto::Bytes;

void Core::child_rekey_answered(IkeSa& ike, channel::SaId old_child, ChildSa& successor,
                                Bytes lower_nonce) {
  ChildSa& old = *find_child(old_child);
  old.replaced_by = successor.inbound_sa;
  successor.replaces = true;
  if (ike.exchange && ike.exchange->task.kind == TaskKind::rekey_child &&
      ike.exchange->task.child == old_child) {
    // §2.8.1: ours is on its way; which one stays is known when its answer comes.
    ike.exchange->rival_child = successor.inbound_sa;
    ike.exchange->rival_nonce.assign(lower_nonce.begin(), lower_nonce.end());
    return;
  }
  old.state = ChildState::replaced;
  ++counters_.child_rekeys_ok;
  ++state_of(*ike.connection).rekeys[successor.child_id].ok;
  report(Level::info, "child_rekeyed",
         {{"connection", ike.connection->name},
          {"child", child_config(successor.child_id).name},
          {"role", "responder"},
          {"spi_in", spi_text(successor.inbound_spi)},
          {"spi_out", spi_text(successor.outbound_spi)}});
  // We go on sending on the old SA until the initiator surely has the new one.
  put_in_use(successor, false);
}

void Core::child_rekey_finished(IkeSa& ike, Exchange& exchange, ChildSa& successor,
                                Bytes lower_nonce) {
  ChildSa* old = find_child(exchange.task.child);
  ChildSa* rival = find_child(exchange.rival_child);
  successor.replaces = true;
  // RFC 7296 §2.8.1: the nonces decide, also when the peer has ended meanwhile what it made: it
  // knows ours as the one that goes.
  const bool collided = !exchange.rival_nonce.empty();
  if (collided && std::ranges::lexicographical_compare(lower_nonce, exchange.rival_nonce)) {
    // Ours has the lowest nonce: it goes. The peer deletes the old one.
    successor.redundant = true;
    if (old != nullptr) old->state = ChildState::replaced;
    if (rival != nullptr) {
      put_in_use(*rival, false);
    } else if (live_child(successor.child_id) == nullptr) {
      ConnectionState& state = state_of(*ike.connection);
      state.keep.erase(successor.child_id);
      finish_commands(std::exchange(exchange.task.commands, {}), false,
                      "the peer ended the child meanwhile");
      ensure_soon(state);
    }
    enqueue(ike, Task{.kind = TaskKind::delete_child, .child = successor.inbound_sa}, true);
    return;
  }
  if (rival != nullptr) rival->redundant = true;
  ++counters_.child_rekeys_ok;
  ++state_of(*ike.connection).rekeys[successor.child_id].ok;
  report(Level::info, "child_rekeyed",
         {{"connection", ike.connection->name},
          {"child", child_config(successor.child_id).name},
          {"role", "initiator"},
          {"spi_in", spi_text(successor.inbound_spi)},
          {"spi_out", spi_text(successor.outbound_spi)}});
  put_in_use(successor, true);
  if (old != nullptr && old->state != ChildState::deleting) {
    old->state = ChildState::replaced;
    old->replaced_by = successor.inbound_sa;
    // Peers that take the Delete at its word stop receiving on the old SA at once.
    enqueue(ike,
            Task{.kind = TaskKind::delete_child,
                 .child = old->inbound_sa,
                 .not_before = now_ + tuning_.replaced_sa_linger},
            true);
  }
}

}  // namespace culvert::ike
