// A SAD whose one worker is online: grace periods end when the test says so.
#pragma once

#include <algorithm>
#include <memory>

#include <catch2/catch.hpp>

#include "dataplane/tables/sa.hpp"
#include "dataplane/tables/sad.hpp"
#include "tests/unit/dataplane/sa_request.hpp"
#include "tests/unit/dataplane/tables/one_worker.hpp"

namespace culvert::test {

inline constexpr std::uint32_t kSlots = 16;

inline bool all_zero(const void* memory, std::size_t bytes) {
  const auto* const first = static_cast<const std::uint8_t*>(memory);
  return std::all_of(first, first + bytes, [](std::uint8_t byte) { return byte == 0; });
}

struct Database {
  dataplane::Reclaimer reclaimer{1};
  std::unique_ptr<crypto::esp::Engine> engine = crypto::esp::make_engine();
  std::unique_ptr<dataplane::Sad> sad =
      dataplane::Sad::create(kSlots, 1, *engine, reclaimer).value();

  Database() { reclaimer.online(kWorker); }
  ~Database() { reclaimer.offline(kWorker); }
  Database(const Database&) = delete;
  Database& operator=(const Database&) = delete;

  void pass_grace() {
    reclaimer.quiescent(kWorker);
    reclaimer.poll();
  }
  std::uint32_t lease() const {
    const auto spis = sad->lease_spis(1);
    REQUIRE(spis.size() == 1);
    return static_cast<std::uint32_t>(spis.front());
  }
  channel::Outcome try_install(const channel::InstallSa& request) const {
    const auto slot = sad->install(request, 1);
    return slot ? channel::Outcome::ok : slot.error();
  }
  channel::Outcome try_manual(const channel::InstallSa& request) const {
    const auto slot = sad->install_manual(request, 1);
    return slot ? channel::Outcome::ok : slot.error();
  }
};

}  // namespace culvert::test
