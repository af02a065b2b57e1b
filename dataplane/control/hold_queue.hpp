// Packets that wait: for a neighbour's address, or for an SA. Bounded a key and in total. Pure:
// what an item is, and how one is dropped, is the caller's.
#pragma once

#include <cstddef>
#include <map>
#include <utility>
#include <vector>

namespace culvert::dataplane::control {

template <typename Key, typename Item>
class HoldQueue {
 public:
  constexpr HoldQueue(std::size_t per_key, std::size_t total) : per_key_(per_key), total_(total) {}

  [[nodiscard]] bool is_full(const Key& key) const {
    if (size_ >= total_) return true;
    const auto found = queues_.find(key);
    return found != queues_.end() && found->second.size() >= per_key_;
  }
  /// Precondition: not full for this key, or nothing waits for it.
  void push(const Key& key, Item item) {
    queues_[key].push_back(std::move(item));
    ++size_;
  }
  /// What has waited longest for `key`; nullptr: nothing does. Until the next call of another.
  [[nodiscard]] const Item* first(const Key& key) const {
    const auto found = queues_.find(key);
    return found == queues_.end() ? nullptr : &found->second.front();
  }
  /// All that waits for `key`, in order of arrival; they are the caller's now.
  [[nodiscard]] std::vector<Item> take(const Key& key) {
    const auto found = queues_.find(key);
    if (found == queues_.end()) return {};
    std::vector<Item> items = std::move(found->second);
    size_ -= items.size();
    queues_.erase(found);
    return items;
  }
  /// Everything, at the end.
  [[nodiscard]] std::vector<Item> take_all() {
    std::vector<Item> items;
    for (auto& [key, queue] : queues_) {
      for (Item& item : queue) items.push_back(std::move(item));
    }
    queues_.clear();
    size_ = 0;
    return items;
  }
  [[nodiscard]] std::size_t size() const { return size_; }

 private:
  std::size_t per_key_;
  std::size_t total_;
  std::size_t size_ = 0;
  std::map<Key, std::vector<Item>> queues_;
};

}  // namespace culvert::dataplane::control
