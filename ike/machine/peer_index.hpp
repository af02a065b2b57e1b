// IKE SAs by their connection, and within one that serves many peers by whom the peer says it is.
#pragma once

#include <functional>
#include <ranges>
#include <set>

#include "ike/machine/ike_sa.hpp"

namespace culvert::ike {

class PeerIndex {
 private:
  struct Entry {
    const config::Connection* connection;
    std::uint64_t identity;
    std::uint64_t spi;  ///< ours
    IkeSa* ike;
    friend bool operator<(const Entry& a, const Entry& b) {
      if (a.connection != b.connection) return std::less<>()(a.connection, b.connection);
      return a.identity != b.identity ? a.identity < b.identity : a.spi < b.spi;
    }
  };
  template <typename Iterator>
  static auto sas(Iterator first, Iterator last) {
    return std::ranges::subrange(first, last) |
           std::views::transform([](const Entry& entry) { return entry.ike; });
  }

 public:
  /// Again whenever its connection or its peer's identity has become another.
  void file(IkeSa& ike) {
    forget(ike);
    ike.filed = {ike.connection, identity_key(ike)};
    all_.insert(entry_of(ike));
  }
  void forget(IkeSa& ike) {
    all_.erase(entry_of(ike));
    ike.filed = {};
  }
  /// Of a connection.
  [[nodiscard]] auto of(const config::Connection& connection) const {
    return sas(all_.lower_bound(Entry{&connection, 0, 0, nullptr}),
               all_.upper_bound(Entry{&connection, ~0ULL, ~0ULL, nullptr}));
  }
  /// Those that may be with the same peer; others may be among them.
  [[nodiscard]] auto with_peer_of(const IkeSa& ike) const {
    const std::uint64_t key = identity_key(ike);
    return sas(all_.lower_bound(Entry{ike.connection, key, 0, nullptr}),
               all_.upper_bound(Entry{ike.connection, key, ~0ULL, nullptr}));
  }

 private:
  static Entry entry_of(IkeSa& ike) {
    return {ike.filed.connection, ike.filed.identity, ike.local_spi, &ike};
  }
  /// Equal for equal identities. 0 where the connection has one peer only.
  static std::uint64_t identity_key(const IkeSa& ike);

  std::set<Entry> all_;
};

}  // namespace culvert::ike
