#include "ike/machine/named.hpp"

#include <algorithm>
#include <vector>

#include "config/diagnostics.hpp"

namespace culvert::ike {
namespace {

using Connections = std::span<const config::Connection* const>;

/// So many are listed; a gateway may have thousands.
constexpr std::size_t kListed = 10;

std::string full_name(const Named& named) {
  return named.connection->name + "/" + named.child->name;
}

std::vector<Named> children_named(Connections connections, std::string_view name) {
  std::vector<Named> found;
  for (const config::Connection* const connection : connections) {
    for (const config::Child& child : connection->children) {
      if (child.name == name) found.push_back({connection, &child});
    }
  }
  return found;
}

const config::Connection* connection_named(Connections connections, std::string_view name) {
  const auto found = std::ranges::find(connections, name, &config::Connection::name);
  return found == connections.end() ? nullptr : *found;
}

std::string list(std::span<const std::string> names) {
  std::string text;
  for (const std::string& name : names.first(std::min(names.size(), kListed))) {
    text += (text.empty() ? "" : ", ") + name;
  }
  if (names.size() > kListed) text += " and " + std::to_string(names.size() - kListed) + " more";
  return text;
}

std::vector<std::string> full_names(std::span<const Named> children) {
  std::vector<std::string> names;
  for (const Named& child : children) names.push_back(full_name(child));
  return names;
}

std::vector<Named> children_of(const config::Connection& connection) {
  std::vector<Named> children;
  for (const config::Child& child : connection.children) children.push_back({&connection, &child});
  return children;
}

/// What there is, and what of it the name is near to.
std::string unknown(Connections connections, CommandVerb verb, std::string_view name) {
  const bool of_ike = verb == CommandVerb::rekey_ike;
  std::vector<std::string> names;
  for (const config::Connection* const connection : connections) {
    if (verb != CommandVerb::rekey_child) names.push_back(connection->name);
    for (const config::Child& child : connection->children) {
      if (!of_ike) names.push_back(connection->name + "/" + child.name);
    }
  }
  std::vector<std::string_view> words;
  for (const config::Connection* const connection : connections) {
    words.push_back(connection->name);
    for (const config::Child& child : connection->children) {
      if (!of_ike) words.push_back(child.name);
    }
  }
  const std::string_view near = config::nearest(name, words);
  return std::string("there is no such ") + (of_ike ? "connection" : "connection or child") + ": " +
         config::quote(name) +
         (near.empty() ? "" : " (did you mean " + config::quote(near) + "?)") +
         (names.empty() ? "; none is configured" : "; there are: " + list(names));
}

std::expected<Named, std::string> the_one(std::span<const Named> children, std::string_view name) {
  if (children.size() == 1) return children.front();
  return std::unexpected(config::quote(name) + " is not one child: write " +
                         list(full_names(children)));
}

}  // namespace

std::expected<Named, std::string> find_named(Connections connections, CommandVerb verb,
                                             std::string_view name) {
  const std::size_t slash = name.find('/');  // no name has one
  if (slash != std::string_view::npos) {
    if (const auto* const of = connection_named(connections, name.substr(0, slash))) {
      const auto child =
          std::ranges::find(of->children, name.substr(slash + 1), &config::Child::name);
      if (child != of->children.end() && verb != CommandVerb::rekey_ike) return Named{of, &*child};
    }
    return std::unexpected(unknown(connections, verb, name));
  }
  const config::Connection* const connection = connection_named(connections, name);
  const std::vector<Named> children = children_named(connections, name);
  switch (verb) {
    case CommandVerb::rekey_ike:
      if (connection != nullptr) return Named{connection};
      break;
    case CommandVerb::rekey_child:
      if (!children.empty()) return the_one(children, name);
      if (connection != nullptr) return the_one(children_of(*connection), name);
      break;
    case CommandVerb::initiate:
    case CommandVerb::terminate:
      if (connection != nullptr) return Named{connection};
      if (!children.empty()) return the_one(children, name);
      break;
  }
  return std::unexpected(unknown(connections, verb, name));
}

}  // namespace culvert::ike
