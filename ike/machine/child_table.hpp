// All children by the SaId of their inbound half, and those of one configured child: a connection
// towards any address has thousands of them, each with selectors of its own.
#pragma once

#include <map>
#include <ranges>
#include <set>
#include <tuple>
#include <vector>

#include "ike/machine/child_sa.hpp"

namespace culvert::ike {

/// Traffic may go from one to another that is equal in these.
template <typename Item>
auto likeness_of(const Item& item) {
  return std::tie(item.child_id, item.local_selectors, item.remote_selectors);
}

class ChildTable {
 public:
  using Map = std::map<channel::SaId, ChildSa>;

  /// False: no child is outdated, and nobody needs to look through thousands for one.
  bool any_outdated = false;

  /// From then on neither whose child it is nor selectors of the child change.
  ChildSa& add(ChildSa child) {
    const channel::SaId id = child.inbound_sa;
    any_outdated |= child.outdated;
    const auto [place, added] = all_.emplace(id, std::move(child));
    if (added) order_.insert(&place->second);
    return place->second;
  }
  ChildSa take(channel::SaId id) {
    const auto found = all_.find(id);
    order_.erase(&found->second);
    ChildSa child = std::move(found->second);
    all_.erase(found);
    return child;
  }
  void clear() {
    order_.clear();
    all_.clear();
  }

  [[nodiscard]] ChildSa& at(channel::SaId id) { return all_.at(id); }
  [[nodiscard]] const ChildSa& at(channel::SaId id) const { return all_.at(id); }
  [[nodiscard]] bool contains(channel::SaId id) const { return all_.contains(id); }
  [[nodiscard]] ChildSa* find(channel::SaId id) {
    const auto found = all_.find(id);
    return found == all_.end() ? nullptr : &found->second;
  }
  [[nodiscard]] Map::const_iterator begin() const { return all_.begin(); }
  [[nodiscard]] Map::const_iterator end() const { return all_.end(); }

  /// Pointers to all of a configured child.
  [[nodiscard]] auto of(config::ChildId child_id) const {
    return std::ranges::subrange(order_.lower_bound(child_id), order_.upper_bound(child_id));
  }
  /// Those with the selectors of `child`, itself included if it is here, oldest first.
  [[nodiscard]] auto like(const ChildSa& child) const {
    return std::ranges::subrange(order_.lower_bound(Like{child}), order_.upper_bound(Like{child}));
  }

 private:
  struct Like {
    const ChildSa& child;
  };
  struct Order {
    using is_transparent = void;
    bool operator()(const ChildSa* a, const ChildSa* b) const {
      const auto order = likeness_of(*a) <=> likeness_of(*b);
      return order != 0 ? order < 0 : a->inbound_sa < b->inbound_sa;
    }
    bool operator()(const ChildSa* a, config::ChildId child_id) const {
      return a->child_id < child_id;
    }
    bool operator()(config::ChildId child_id, const ChildSa* b) const {
      return child_id < b->child_id;
    }
    bool operator()(const ChildSa* a, const Like& b) const {
      return likeness_of(*a) < likeness_of(b.child);
    }
    bool operator()(const Like& a, const ChildSa* b) const {
      return likeness_of(a.child) < likeness_of(*b);
    }
  };

  Map all_;
  std::set<ChildSa*, Order> order_;
};

}  // namespace culvert::ike
