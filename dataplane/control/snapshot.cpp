#include "dataplane/control/snapshot.hpp"

#include <algorithm>

namespace culvert::dataplane::control {

Snapshot::Progress Snapshot::work() {
  const std::size_t most = std::min(room(), kPiecesAtOnce);
  if (most == 0) return Progress::stuck;
  if (has_sas_) {
    if (send_policies(most)) return Progress::ended;
  } else {
    has_sas_ =
        associations_.visit_some(above_, most, [this](const SaRecord& record) { send(record); });
  }
  return room() == 0 ? Progress::full : Progress::more;
}

std::size_t Snapshot::room() const {
  const std::size_t room = channel_.event_room();
  return room - std::min(room, kRoomForOthers);
}

/// What the key daemon made and may take over again; manual SAs are not its business.
void Snapshot::send(const SaRecord& record) {
  if (associations_.is_manual(record)) return;
  const channel::InstallSa& spec = record.spec;
  channel::Event event;
  event.type = channel::EventType::snapshot_sa;
  event.body.snapshot_sa = {spec.sa,    spec.child_id, spec.direction,        spec.spi,
                            spec.local, spec.remote,   spec.udp_encapsulation};
  channel_.send(event);
}

/// True: there are no more.
bool Snapshot::send_policies(std::size_t most) {
  const NegotiatedPolicies& all = policies_.negotiated();
  auto item = all.lower_bound(next_policy_);
  for (; most != 0 && item != all.end(); --most, ++item) {
    channel::Event event;
    event.type = channel::EventType::snapshot_policy;
    event.body.snapshot_policy = {item->first, item->second.child_id, item->second.outbound_sa};
    channel_.send(event);
  }
  if (item == all.end()) return true;
  next_policy_ = item->first;
  return false;
}

}  // namespace culvert::dataplane::control
