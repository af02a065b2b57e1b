#include "ike/daemon/recovery.hpp"

#include <algorithm>
#include <utility>

#include "ike/machine/record_codec.hpp"
#include "runtime/log.hpp"

namespace culvert::ike {
namespace {

/// The daemon's own requests have the top bit set; below these stand snapshot and lease.
constexpr std::uint64_t kFirstKeepRequest = (1ULL << 63) | 16U;
/// As many as the request ring takes beside the others; more SPIs than that are never open.
constexpr std::size_t kMostKeepRequests = 1000;
/// After the memory was full: IKE SAs end and others may be recorded again.
constexpr std::chrono::seconds kTryAgain{60};

std::size_t requests_for(std::size_t spis) {
  return std::min((spis + channel::kMaxLeasedSpis - 1) / channel::kMaxLeasedSpis,
                  kMostKeepRequests);
}

}  // namespace

void Recovery::connected(const channel::Descriptor& held, bool afresh) {
  disconnected();
  open(held);
  if (afresh) {
    if (checkpoint_) checkpoint_->format();
    record_all_ = true;
    return;
  }
  look_back();
}

void Recovery::disconnected() {
  checkpoint_.reset();
  mapping_.reset();
  records_.clear();
  spis_.clear();
  held_.clear();
  open_requests_ = 0;
  try_again_at_.reset();
}

void Recovery::open(const channel::Descriptor& held) {
  if (!held.valid()) return;
  auto mapping =
      channel::HeldMapping::open(held, Checkpoint::kHeaderBytes + Checkpoint::kBlockBytes);
  if (!mapping) {
    runtime::log(runtime::Level::warning, "checkpoint_unusable", {{"why", mapping.error()}});
    return;
  }
  mapping_.emplace(std::move(*mapping));
  checkpoint_.emplace(mapping_->memory(),
                      [this](std::size_t end) { return mapping_->make_real(end); });
}

void Recovery::look_back() {
  report_ = {};
  if (!checkpoint_) {
    report_.nothing_to_resume = NotResumed::not_held;
    return;
  }
  if (const auto refused = checkpoint_->recover(records_)) {
    report_.nothing_to_resume = refused;
    if (*refused == NotResumed::none_recorded) return;
    runtime::log(runtime::Level::warning, "checkpoint_refused",
                 {{"reason", info(*refused).name},
                  {"why", info(*refused).meaning},
                  {"effect", "tunnels are established anew beside the SAs that stand"}});
    return;
  }
  spis_ = spis_of(records_);
  open_requests_ = requests_for(spis_.size());
}

std::vector<channel::Request> Recovery::requests() const {
  std::vector<channel::Request> all;
  for (std::size_t at = 0; at < requests_for(spis_.size()); ++at) {
    channel::Request request;
    request.type = channel::RequestType::keep_spis;
    request.id = channel::RequestId{kFirstKeepRequest + at};
    request.body.keep_spis = channel::KeepSpis{};
    const std::size_t from = at * channel::kMaxLeasedSpis;
    const std::size_t count = std::min(spis_.size() - from, channel::kMaxLeasedSpis);
    request.body.keep_spis.count = static_cast<std::uint32_t>(count);
    std::copy_n(spis_.begin() + static_cast<std::ptrdiff_t>(from), count,
                request.body.keep_spis.spis.begin());
    all.push_back(request);
  }
  return all;
}

bool Recovery::handle(const channel::Completion& completion) {
  const auto id = static_cast<std::uint64_t>(completion.request);
  if (id < kFirstKeepRequest || id >= kFirstKeepRequest + kMostKeepRequests) return false;
  for (std::uint32_t at = 0; at < completion.spi_count; ++at) held_.insert(completion.spis[at]);
  if (open_requests_ > 0) --open_requests_;
  return true;
}

void Recovery::begin(Machine& machine, const std::vector<channel::SnapshotSa>& sas,
                     const std::vector<channel::SnapshotPolicy>& policies, SpiStock& spis,
                     Instant now, std::vector<Action>& actions) {
  if (report_.nothing_to_resume) {
    if (!sas.empty() || !policies.empty()) machine.adopt(sas, policies, now, actions);
    machine.start(now, actions);
    return;
  }
  for (const channel::Spi spi : held_) spis.keep(spi);
  report_ = machine.resume(records_, sas, policies, held_, now, actions);
  records_.clear();
}

void Recovery::record(Machine& machine, Instant now) {
  Records changes;
  if (try_again_at_ && now >= *try_again_at_) {
    try_again_at_.reset();
    checkpoint_->format();
    record_all_ = true;
  }
  machine.take_records(std::exchange(record_all_, false), changes);
  if (!checkpoint_ || try_again_at_ || changes.empty()) return;
  if (checkpoint_->commit(changes)) {
    warn_unless_locked();
    return;
  }
  try_again_at_ = now + kTryAgain;
  runtime::log(runtime::Level::error, "checkpoint_abandoned",
               {{"why", "no memory for the records"},
                {"effect", "until there is, a restart establishes tunnels anew"},
                {"remedy", "raise dataplane.limits.sas or give the system more memory"}});
}

void Recovery::warn_unless_locked() {
  if (mapping_->locked() || std::exchange(warned_, true)) return;
  runtime::log(runtime::Level::warning, "checkpoint_not_locked",
               {{"effect", "key material may be swapped out"}, {"remedy", "raise LimitMEMLOCK"}});
}

nlohmann::json Recovery::status() const {
  nlohmann::json refused = nlohmann::json::object();
  for (const auto& [reason, count] : report_.refused)
    refused[std::string(info(reason).name)] = count;
  nlohmann::json status{{"resumed_ike_sas", report_.resumed},
                        {"refused_records", std::move(refused)},
                        {"not_resumed", nullptr},
                        {"recording", checkpoint_.has_value() && checkpoint_->usable()},
                        {"records", checkpoint_ ? checkpoint_->records() : 0}};
  if (report_.nothing_to_resume) {
    const NotResumedInfo& row = info(*report_.nothing_to_resume);
    status["not_resumed"] = {{"reason", row.name}, {"meaning", row.meaning}};
  }
  return status;
}

void Recovery::add_metrics(runtime::MetricFamilies& families) const {
  using runtime::Family;
  families.push_back(Family::gauge("culvert_ike_resumed_ike_sas",
                                   "IKE SAs that this process resumed when it started")
                         .add({}, static_cast<double>(report_.resumed))
                         .take());
  Family refused = Family::gauge("culvert_ike_refused_records",
                                 "Records that this process could not resume, by reason");
  for (const NotResumedInfo& row : all_not_resumed()) {
    const auto found = report_.refused.find(row.reason);
    const bool whole = report_.nothing_to_resume == row.reason;
    const std::uint64_t count = found != report_.refused.end() ? found->second : whole ? 1 : 0;
    refused.add({{"reason", std::string(row.name)}}, static_cast<double>(count));
  }
  families.push_back(refused.take());
  families.push_back(
      Family::gauge("culvert_ike_recording", "1 while a restart would resume the IKE SAs")
          .add({}, checkpoint_ && checkpoint_->usable() ? 1 : 0)
          .take());
}

}  // namespace culvert::ike
