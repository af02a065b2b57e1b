#include "dataplane/control/child_directory.hpp"

#include <utility>

namespace culvert::dataplane::control {
namespace {

StartedBy starter_of(const config::Connection& connection, const config::Child& child) {
  if (!connection.remote.address) return StartedBy::peer;
  switch (child.start_action) {
    case config::StartAction::start:
      return StartedBy::configuration;
    case config::StartAction::trap:
      return StartedBy::traffic;
    case config::StartAction::none:
      return StartedBy::command;
  }
  return StartedBy::configuration;
}

}  // namespace

std::string_view to_string(StartedBy started_by) {
  switch (started_by) {
    case StartedBy::configuration:
      return "configuration";
    case StartedBy::traffic:
      return "traffic";
    case StartedBy::command:
      return "command";
    case StartedBy::peer:
      return "peer";
  }
  return "";
}

void ChildDirectory::take(const config::Config& config, const std::set<ChildId>& borne) {
  auto before = std::exchange(entries_, {});
  const auto order = std::make_shared<std::vector<ChildId>>();
  for (const config::Connection& connection : config.connections) {
    for (const config::Child& child : connection.children) {
      const auto position = static_cast<std::uint32_t>(order->size());
      ChildName name{.connection = connection.name,
                     .child = child.name,
                     .started_by = starter_of(connection, child)};
      const auto known = before.find(child.id);
      auto terms = after(known == before.end() ? nullptr : &known->second, child);
      entries_[child.id] = {std::move(name), &child, position, std::move(terms)};
      order->push_back(child.id);
    }
  }
  for (const config::ManualSa& sa : config.manual_sas) take_manual(sa, *order);
  in_order_ = order;
  for (const ChildId child : borne) {
    const auto known = before.find(child);
    if (known == before.end()) continue;
    known->second.configured = nullptr;
    entries_.try_emplace(child, std::move(known->second));
  }
}

std::vector<ChildTerms> ChildDirectory::after(const Entry* before, const config::Child& child) {
  std::vector<ChildTerms> terms{terms_of(child)};
  if (before == nullptr || before->terms.empty()) return terms;
  if (before->terms.front() == terms.front()) return before->terms;
  terms.push_back(before->terms.front());
  return terms;
}

/// Both directions of a name are one.
void ChildDirectory::take_manual(const config::ManualSa& sa, std::vector<ChildId>& order) {
  const auto [entry, is_new] = entries_.try_emplace(sa.id);
  if (is_new) {
    entry->second.name = {std::string(kManualConnection), sa.name, true, false, false};
    order.push_back(sa.id);
  }
  const bool is_in = sa.direction == config::ManualSa::Direction::in;
  (is_in ? entry->second.name.in : entry->second.name.out) = true;
}

const ChildName& ChildDirectory::name(ChildId child) const {
  static const ChildName kNobody;
  const auto found = entries_.find(child);
  return found == entries_.end() ? kNobody : found->second.name;
}

const config::Child* ChildDirectory::find(ChildId child) const {
  const auto found = entries_.find(child);
  return found == entries_.end() ? nullptr : found->second.configured;
}

std::span<const ChildTerms> ChildDirectory::terms(ChildId child) const {
  const auto found = entries_.find(child);
  if (found == entries_.end() || found->second.configured == nullptr) return {};
  return found->second.terms;
}

std::optional<std::uint32_t> ChildDirectory::position(ChildId child) const {
  const auto found = entries_.find(child);
  if (found == entries_.end() || found->second.configured == nullptr) return std::nullopt;
  return found->second.position;
}

}  // namespace culvert::dataplane::control
