#include <catch2/catch.hpp>

#include "ike/daemon/spi_stock.hpp"

namespace culvert::ike {
namespace {

using namespace std::chrono_literals;
constexpr Instant kStart = 100s;

channel::Completion lease_of(std::uint32_t first, std::uint32_t count) {
  channel::Completion lease;
  lease.spi_count = count;
  for (std::uint32_t index = 0; index < count; ++index) {
    lease.spis[index] = channel::Spi{first + index};
  }
  return lease;
}

}  // namespace

TEST_CASE("spi stock: what was leased is given out, each SPI once") {
  SpiStock stock;
  CHECK_FALSE(stock.take());
  stock.add(lease_of(0x1000, 2), kStart);
  const auto one = stock.take();
  const auto other = stock.take();
  REQUIRE(one);
  REQUIRE(other);
  CHECK(*one != *other);
  CHECK_FALSE(stock.take());
}

TEST_CASE("spi stock: as many blocks are asked for at once as a storm of rekeys takes") {
  SpiStock stock(SpiStock::low_water_for(65536));
  const auto ask = [&] {
    std::uint32_t asked = 0;
    for (; stock.wants_lease(kStart); ++asked) stock.lease_sent();
    return asked;
  };
  CHECK(ask() == 1);  // whether there are any
  stock.add(lease_of(0x1000, 64), kStart);
  CHECK(ask() == 15);
  for (std::uint32_t block = 1; block < 16; ++block) {
    stock.add(lease_of(0x1000 + 64 * block, 64), kStart);
  }
  CHECK_FALSE(stock.awaits_lease());
  CHECK_FALSE(stock.wants_lease(kStart));
  CHECK(stock.take());
  CHECK(stock.wants_lease(kStart));
}

TEST_CASE("spi stock: a small data plane is not emptied ahead of need") {
  CHECK(SpiStock::low_water_for(1024) == 128);
  CHECK(SpiStock::low_water_for(128) == SpiStock::kLowWater);
  CHECK(SpiStock::low_water_for(16) == 8);
  CHECK(SpiStock::low_water_for(1) == 1);
  SpiStock stock(SpiStock::low_water_for(16));
  CHECK(stock.block() == 8);
  stock.lease_sent();
  stock.add(lease_of(0x1000, 8), kStart);
  CHECK_FALSE(stock.wants_lease(kStart));
  CHECK(stock.take());
  CHECK(stock.wants_lease(kStart));
}

TEST_CASE("spi stock: an SPI that was not used comes back into the stock") {
  SpiStock stock;
  stock.add(lease_of(0x1000, 1), kStart);
  const channel::Spi spi = stock.take().value();
  stock.give_back(spi);
  CHECK(stock.take() == spi);
}

TEST_CASE("spi stock: after a refusal another SPI is offered while there is one") {
  SpiStock stock;
  stock.add(lease_of(0x1000, 3), kStart);
  const channel::Spi refused = stock.take().value();
  stock.give_back(refused);
  CHECK(stock.take() != refused);
  stock.add(lease_of(0x2000, 1), kStart);
  CHECK(stock.take() != refused);
  CHECK(stock.take() != refused);
  CHECK(stock.take() == refused);
}

TEST_CASE("spi stock: an SPI is not taken back twice, nor one that nobody leased") {
  SpiStock stock;
  stock.add(lease_of(0x1000, 1), kStart);
  const channel::Spi spi = stock.take().value();
  stock.give_back(spi);
  stock.give_back(spi);
  stock.give_back(channel::Spi{0x9999});
  CHECK(stock.size() == 1);
}

TEST_CASE("spi stock: an SPI of a data plane that is gone does not enter the next one's lease") {
  SpiStock stock;
  stock.add(lease_of(0x1000, 1), kStart);
  const channel::Spi old = stock.take().value();
  stock.clear();
  stock.add(lease_of(0x2000, 1), kStart);
  stock.give_back(old);
  CHECK(stock.take() == channel::Spi{0x2000});
  CHECK_FALSE(stock.take());
}

TEST_CASE("spi stock: an SPI in use is the data plane's, not the stock's") {
  SpiStock stock;
  stock.add(lease_of(0x1000, 1), kStart);
  const channel::Spi spi = stock.take().value();
  stock.installed(spi);
  stock.give_back(spi);
  CHECK(stock.size() == 0);
}

TEST_CASE("spi stock: it asks below the low water mark, for one lease at a time") {
  SpiStock stock;
  CHECK(stock.wants_lease(kStart));
  stock.lease_sent();
  CHECK_FALSE(stock.wants_lease(kStart));
  stock.add(lease_of(0x1000, channel::kMaxLeasedSpis), kStart);
  CHECK_FALSE(stock.wants_lease(kStart));
  REQUIRE(stock.take());
  CHECK(stock.wants_lease(kStart));
}

TEST_CASE("spi stock: a refused lease is not asked for again at once") {
  SpiStock stock;
  stock.lease_sent();
  channel::Completion refused = lease_of(0x1000, 3);
  refused.outcome = channel::Outcome::no_room;
  stock.add(refused, kStart);
  CHECK(stock.size() == 0);
  CHECK_FALSE(stock.wants_lease(kStart));
  CHECK(stock.wants_lease(kStart + SpiStock::kRefusedPause));
}

}  // namespace culvert::ike
