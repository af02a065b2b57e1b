#include "benchmarks/suites.hpp"

#include <algorithm>
#include <initializer_list>
#include <utility>

namespace culvert::benchmarks {
namespace {

constexpr std::uint32_t kImix = 0;
constexpr std::initializer_list<Direction> kBoth{Direction::out, Direction::in};

std::vector<Case> rates() {
  std::vector<Case> cases;
  for (const Direction direction : kBoth) {
    for (const std::uint32_t size : {64U, 128U, 256U, 512U, 1024U, 1280U, 1420U, kImix}) {
      cases.push_back(ordinary_case(direction, size, 1));
    }
    for (const std::uint32_t size : {64U, 512U, 1420U, kImix}) {
      cases.push_back(ordinary_case(direction, size, 1024));
    }
  }
  return cases;
}

/// Inbound the SAD can be looked at alone, for no policy is needed to find an SA.
std::vector<Case> sas() {
  std::vector<Case> cases;
  for (const std::uint32_t count : {100'000U, 1'000'000U}) {
    for (const Direction direction : kBoth) {
      for (const std::uint32_t size : {64U, kImix}) {
        cases.push_back(ordinary_case(direction, size, count));
      }
      if (direction == Direction::out) continue;
      for (const std::uint32_t size : {64U, kImix}) {
        cases.push_back(ordinary_case(direction, size, count));
        cases.back().has_sa_policies = false;
        cases.back().other_policies = 10;
      }
    }
  }
  return cases;
}

/// Cold: each packet's flow came 65536 packets ago the last time, more than the caches hold.
std::vector<Case> policies() {
  std::vector<Case> cases;
  for (const Direction direction : kBoth) {
    for (const bool is_cold : {false, true}) {
      for (const std::uint32_t count : {10U, 1000U, 10'000U, 100'000U}) {
        Case test = ordinary_case(direction, 64, 1);
        test.other_policies = count - 1;
        if (is_cold) {
          test.flows = 65'536;
          test.remembered = 8192;
          test.variant = "cold flows";
        }
        cases.push_back(test);
      }
    }
    // What a search costs whose table has many forms of policies.
    Case test = ordinary_case(direction, 64, 1);
    test.other_policies = 10'000 - 1;
    test.has_many_shapes = true;
    test.flows = 65'536;
    test.remembered = 8192;
    test.variant = "cold flows, 351 shapes";
    cases.push_back(test);
  }
  return cases;
}

/// In order, over as many numbers as the largest window has; and in none, within half a window.
std::vector<Case> windows() {
  std::vector<Case> cases;
  for (const std::uint32_t window : {64U, 1024U, 65'536U}) {
    Case test = ordinary_case(Direction::in, 64, 1);
    test.replay_window = window;
    test.least_frames = 65'536;
    test.variant = "window " + std::to_string(window);
    cases.push_back(test);
    test.disorder = window / 2;
    test.variant += ", out of order";
    cases.push_back(test);
  }
  return cases;
}

/// Ten bad packets for each good one: what is left of the good rate that the same I/O allows.
std::vector<Case> floods() {
  std::vector<Case> cases;
  for (const auto& [flood, name] :
       {std::pair(Flood::unknown_spis, "flood of unknown SPIs"),
        std::pair(Flood::wrong_icvs, "flood of wrong ICVs"),
        std::pair(Flood::replays, "flood of replays"),
        std::pair(Flood::from_elsewhere, "flood of the SPI from elsewhere")}) {
    Case test = ordinary_case(Direction::in, 64, 1);
    test.flood = flood;
    test.variant = name;
    test.least_frames = 64 * (1 + kBadPerGood) * 6;  // whole bursts, whole groups
    cases.push_back(test);
  }
  return cases;
}

/// What differs from the ordinary family outside and inside.
std::vector<Case> ipv6() {
  constexpr auto v4 = wire::Family::v4, v6 = wire::Family::v6;
  std::vector<Case> cases;
  const auto add = [&](Direction direction, wire::Family inner, wire::Family outer,
                       std::uint32_t size, std::uint32_t sas) {
    cases.push_back(ordinary_case(direction, size, sas));
    cases.back().inner = inner;
    cases.back().outer = outer;
    cases.back().variant = inner == outer ? "IPv6" : inner == v6 ? "IPv6 in IPv4" : "IPv4 in IPv6";
  };
  for (const Direction direction : kBoth) {
    for (const std::uint32_t size : {64U, 512U, 1420U, kImix}) add(direction, v6, v6, size, 1);
    for (const std::uint32_t size : {64U, kImix}) {
      add(direction, v6, v6, size, 1024);
      add(direction, v6, v4, size, 1);
      add(direction, v4, v6, size, 1);
    }
  }
  return cases;
}

/// What a NAT on the way and extended sequence numbers cost.
std::vector<Case> forms() {
  std::vector<Case> cases;
  for (const Direction direction : kBoth) {
    for (const std::uint32_t size : {64U, 1420U, kImix}) {
      cases.push_back(ordinary_case(direction, size, 1));
      cases.back().has_udp = true;
      cases.back().variant = "NAT-T";
      if (direction == Direction::out) continue;
      cases.push_back(ordinary_case(direction, size, 1));
      cases.back().has_inbound_esn = true;
      cases.back().variant = "ESN";
    }
  }
  return cases;
}

std::vector<Case> transforms() {
  std::vector<Case> cases;
  for (const Direction direction : kBoth) {
    for (std::size_t id = 0; id < crypto::esp::kTransformCount; ++id) {
      Case test = ordinary_case(direction, kImix, 1);
      test.transform = static_cast<crypto::esp::TransformId>(id);
      cases.push_back(test);
    }
  }
  return cases;
}

std::vector<Case> workers() {
  std::vector<Case> cases;
  for (const Direction direction : kBoth) {
    for (const std::uint32_t size : {64U, kImix}) {
      for (const std::uint32_t count : {1U, 2U, 4U, 8U}) {
        cases.push_back(ordinary_case(direction, size, 1024));
        cases.back().workers = count;
      }
    }
  }
  return cases;
}

}  // namespace

Case ordinary_case(Direction direction, std::uint32_t size, std::uint32_t sas) {
  Case test;
  test.direction = direction;
  test.size = size;
  test.sas = sas;
  if (sas > 1) test.flows = 1;
  test.remembered = std::max(test.remembered, sas);  // as who has so many would write
  return test;
}

std::vector<Case> quick_cases() {
  std::vector<Case> cases;
  for (const Direction direction : kBoth) {
    for (const std::uint32_t count : {1U, 1024U}) {
      for (const std::uint32_t size : {64U, 512U, 1420U, kImix}) {
        cases.push_back(ordinary_case(direction, size, count));
      }
    }
  }
  // As many as the limits allow, where the machine has memory for them: half a minute a direction.
  for (const Direction direction : kBoth) {
    for (const std::uint32_t size : {64U, kImix}) {
      cases.push_back(ordinary_case(direction, size, 1'000'000));
    }
  }
  return cases;
}

std::vector<Case> stage_cases() {
  std::vector<Case> cases;
  for (const Direction direction : kBoth) {
    for (const std::uint32_t size : {64U, 1420U, kImix}) {
      cases.push_back(ordinary_case(direction, size, 1));
    }
    for (const std::uint32_t count : {1024U, 1'000'000U}) {
      cases.push_back(ordinary_case(direction, 64, count));
    }
  }
  return cases;
}

std::vector<Suite> all_suites() {
  return {{"rates", rates()},     {"workers", workers()},       {"policies", policies()},
          {"windows", windows()}, {"floods", floods()},         {"ipv6", ipv6()},
          {"forms", forms()},     {"transforms", transforms()}, {"sas", sas()}};
}

}  // namespace culvert::benchmarks
