#include "config/field.hpp"

#include <algorithm>
#include <array>
#include <unordered_map>

#include "config/limits.hpp"

namespace culvert::config {
namespace {

/// Keys that operators bring along from other gateways' files, and what they are here.
struct ForeignKey {
  std::string_view key;
  std::string_view advice;
};
constexpr std::array kForeignKeys{
    ForeignKey{"local_addrs", "write local: {address: …}"},
    ForeignKey{"remote_addrs", "write remote: {address: …}"},
    ForeignKey{"local_port", "leave it out: IKE uses 500 and 4500"},
    ForeignKey{"remote_port", "leave it out: IKE uses 500 and 4500"},
    ForeignKey{"left", "write local: {address: …}"},
    ForeignKey{"right", "write remote: {address: …}"},
    ForeignKey{"leftsubnet", "write local_ts in the child"},
    ForeignKey{"rightsubnet", "write remote_ts in the child"},
    ForeignKey{"leftid", "write local: {id: …}"},
    ForeignKey{"rightid", "write remote: {id: …}"},
    ForeignKey{"ike", "write proposals: […]"},
    ForeignKey{"esp", "write esp_proposals: […] in the child"},
    ForeignKey{"auto", "write start_action in the child"},
    ForeignKey{"psk", "write psk_file: a file that holds the key"},
    ForeignKey{"secret", "write psk_file: a file that holds the key"},
    ForeignKey{"certs", "write certificate: a file"},
    ForeignKey{"dpd_timeout", "leave it out: retransmission decides when a peer is gone"},
    ForeignKey{"dpd_action", "leave it out: a child comes back as its start_action says"},
    ForeignKey{"close_action", "leave it out: a child comes back as its start_action says"},
    ForeignKey{"version", "leave it out: this gateway speaks IKEv2 only"},
    ForeignKey{"keyexchange", "leave it out: this gateway speaks IKEv2 only"},
    ForeignKey{"copy_df", "write df: copy, set or clear"},
    ForeignKey{"ethernets", "write dataplane: {interfaces: […]}"},
    ForeignKey{"gateway4", "write a route {to: 0.0.0.0/0, via: …}"},
    ForeignKey{"gateway6", "write a route {to: ::/0, via: …}"},
};

std::string advice_for(std::string_view key, std::span<const std::string_view> known) {
  const auto foreign = std::ranges::find(kForeignKeys, key, &ForeignKey::key);
  if (foreign != kForeignKeys.end()) return std::string(foreign->advice);
  const std::string_view near = nearest(key, known);
  if (!near.empty()) return "did you mean \"" + std::string(near) + "\"?";
  return "remove it";
}

/// The path of a key as it stands in the file, which may be any text.
std::string path_of(const Field& map, std::string_view key) {
  const bool plain = std::ranges::all_of(key, [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '-';
  });
  const std::string name =
      plain && key.size() <= limits::kNameCharacters ? std::string(key) : quote(key);
  return map.path.empty() ? name : map.path + "." + name;
}

}  // namespace

std::string describe(const Field& field) {
  if (!field.present()) return "nothing";
  switch (field.node->kind) {
    case Node::Kind::null:
      return "nothing";
    case Node::Kind::scalar:
      return quote(field.node->text);
    case Node::Kind::list:
      return "a list";
    case Node::Kind::map:
      return "a map";
  }
  return "nothing";
}

MapReader::MapReader(const Field& field, std::string_view expected) : field_(field) {
  if (!field.present()) return;
  if (field.node->kind != Node::Kind::map) {
    field.error({describe(field), std::string(expected), "write \"key: value\" pairs"});
    return;
  }
  map_ = field.node;
  report_duplicates();
}

void MapReader::report_duplicates() {
  std::unordered_map<std::string_view, Location> seen;
  for (const Node::Entry& entry : map_->entries) {
    const auto [first, is_new] = seen.try_emplace(entry.key, entry.location);
    if (is_new) continue;
    field_.diagnostics->error(
        entry.location, path_of(field_, entry.key),
        {"the key " + quote(entry.key) + " a second time", "each key once",
         "it stands in line " + std::to_string(first->second.line) + " already; remove one"});
  }
}

Field MapReader::take(std::string_view key) {
  known_.push_back(key);
  Field result{field_.diagnostics, nullptr, field_.location, field_.path};
  if (!result.path.empty()) result.path += '.';
  result.path += key;
  if (map_ == nullptr) return result;
  const auto entry = std::ranges::find(map_->entries, key, &Node::Entry::key);
  if (entry == map_->entries.end()) return result;
  result.node = &entry->value;
  result.location = entry->value.location;
  result.diagnostics->remember(result.path, result.location);
  return result;
}

Field MapReader::require(std::string_view key, std::string_view expected, std::string_view advice) {
  Field result = take(key);
  if (is_map() && !result.present()) {
    result.error({"nothing", std::string(expected), std::string(advice)});
  }
  return result;
}

void MapReader::finish() {
  if (map_ == nullptr) return;
  std::vector<std::string_view> sorted = known_;
  std::ranges::sort(sorted);
  for (const Node::Entry& entry : map_->entries) {
    if (std::ranges::find(known_, entry.key) != known_.end()) continue;
    field_.diagnostics->error(entry.location, path_of(field_, entry.key),
                              {"the unknown key " + quote(entry.key), alternatives(sorted),
                               advice_for(entry.key, known_)});
  }
}

std::vector<Field> read_items(const Field& field, std::string_view expected, std::size_t limit) {
  std::vector<Field> items;
  if (!field.present() || field.node->kind == Node::Kind::null) {
    if (field.present()) {
      field.error({"nothing", "a list of " + std::string(expected), "write [] for an empty list"});
    }
    return items;
  }
  if (field.node->kind == Node::Kind::map) {
    field.error({"a map", "a list of " + std::string(expected),
                 "put \"- \" in front of each, or brackets around them"});
    return items;
  }
  if (field.node->kind != Node::Kind::list) {
    items.push_back(field);
    return items;
  }
  for (std::size_t index = 0; index < field.node->items.size(); ++index) {
    const Node& node = field.node->items[index];
    items.push_back({field.diagnostics, &node, node.location, indexed(field.path, index)});
    field.diagnostics->remember(items.back().path, node.location);
  }
  if (items.size() > limit) {
    items[limit].error({std::to_string(items.size()) + " " + std::string(expected),
                        "at most " + std::to_string(limit), "remove some"});
    items.resize(limit);
  }
  return items;
}

}  // namespace culvert::config
