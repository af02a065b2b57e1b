// The checkpoint's memory: records come back as they were committed, whole or not at all, whatever
// octet the writer was killed at.
#include <algorithm>
#include <map>

#include <catch2/catch.hpp>
#include <unistd.h>

#include "channel/held_memory.hpp"
#include "ike/daemon/checkpoint.hpp"

namespace culvert::ike {
namespace {

using Octets = std::vector<std::uint8_t>;
using Contents = std::map<RecordName, Octets>;

constexpr std::size_t kBlocks = 24;

/// Memory that outlives its checkpoints.
struct Memory {
  std::vector<std::uint64_t> words = std::vector<std::uint64_t>(
      (Checkpoint::kHeaderBytes + kBlocks * Checkpoint::kBlockBytes) / 8);
  [[nodiscard]] crypto::MutableBytes bytes() {
    return {reinterpret_cast<std::uint8_t*>(words.data()), words.size() * 8};
  }
  [[nodiscard]] bool has(const Octets& sought) {
    const auto all = bytes();
    return std::search(all.begin(), all.end(), sought.begin(), sought.end()) != all.end();
  }
};

Checkpoint over(Memory& memory) {
  return Checkpoint(memory.bytes(), [](std::size_t) { return true; });
}
RecordName ike_sa(std::uint64_t id) { return {RecordKind::ike_sa, id}; }

Octets octets(std::size_t size, std::uint8_t seed) {
  Octets made(size);
  std::uint32_t state = seed * 2654435761U + 1;
  for (std::uint8_t& octet : made) {
    state = state * 1664525U + 1013904223U;
    octet = static_cast<std::uint8_t>(state >> 24U);
  }
  return made;
}
Records changes(const Contents& contents) {
  Records records;
  for (const auto& [name, content] : contents)
    records.push_back({name, crypto::SecretBytes(content)});
  return records;
}
Contents contents(const Records& records) {
  Contents all;
  for (const Record& record : records) {
    const auto view = record.content.view();
    all[record.name] = Octets(view.begin(), view.end());
  }
  return all;
}
/// What a process that starts now finds.
Contents recovered(Memory memory) {
  Checkpoint checkpoint = over(memory);
  Records records;
  const auto refused = checkpoint.recover(records);
  INFO((refused ? info(*refused).name : std::string_view("not refused")));
  REQUIRE_FALSE(refused);
  return contents(records);
}
NotResumed refusal(Memory& memory) {
  Checkpoint checkpoint = over(memory);
  Records records;
  const auto refused = checkpoint.recover(records);
  REQUIRE(refused);
  CHECK(records.empty());
  return *refused;
}

TEST_CASE("checkpoint: what was committed is found again, the latest of each record") {
  Memory memory;
  Checkpoint checkpoint = over(memory);
  checkpoint.format();
  const Contents first{{ike_sa(1), octets(10, 1)}, {ike_sa(2), octets(3000, 2)}};
  REQUIRE(checkpoint.commit(changes(first)));
  CHECK(recovered(memory) == first);

  REQUIRE(checkpoint.commit(changes({{ike_sa(2), octets(900, 3)}, {ike_sa(3), octets(1, 4)}})));
  REQUIRE(checkpoint.commit(changes({{ike_sa(1), {}}})));
  CHECK(recovered(memory) == Contents{{ike_sa(2), octets(900, 3)}, {ike_sa(3), octets(1, 4)}});
  CHECK(checkpoint.records() == 2);
}

TEST_CASE("checkpoint: a record of any size, and the sizes around a block") {
  for (const std::size_t size : {1U, 991U, 992U, 993U, 1983U, 1984U, 1985U, 9000U}) {
    CAPTURE(size);
    Memory memory;
    Checkpoint checkpoint = over(memory);
    checkpoint.format();
    REQUIRE(checkpoint.commit(changes({{ike_sa(7), octets(size, 1)}})));
    CHECK(recovered(memory) == Contents{{ike_sa(7), octets(size, 1)}});
  }
}

TEST_CASE("checkpoint: killed at any octet of a commit, all of it or nothing of it is there") {
  Memory before;
  Contents old{
      {ike_sa(1), octets(1500, 1)}, {ike_sa(2), octets(40, 2)}, {ike_sa(3), octets(993, 3)}};
  const Contents fresh{
      {ike_sa(1), octets(2500, 4)}, {ike_sa(3), octets(10, 5)}, {ike_sa(4), octets(600, 6)}};
  std::vector<Checkpoint::Write> writes;
  Memory after;
  {
    Checkpoint checkpoint = over(before);
    checkpoint.format();
    REQUIRE(checkpoint.commit(changes(old)));
    after = before;
    Checkpoint next = over(after);
    Records found;
    REQUIRE_FALSE(next.recover(found));
    next.observe(&writes);
    Contents wanted = fresh;
    wanted[ike_sa(2)] = {};  // removed in the same commit
    REQUIRE(next.commit(changes(wanted)));
  }
  std::size_t olds = 0, news = 0;
  const auto look = [&](const Memory& memory) {
    const Contents seen = recovered(memory);
    const bool is_old = seen == old, is_new = seen == fresh;
    olds += is_old ? 1 : 0;
    news += is_new ? 1 : 0;
    if (!is_old && !is_new) FAIL("neither what was nor what was to be");
  };
  Memory torn = before;
  look(torn);
  for (const Checkpoint::Write& write : writes) {
    // A word cannot be torn; anything else can at every octet.
    for (std::size_t done = 0; done < write.bytes.size(); ++done) {
      torn.bytes()[write.offset + done] = write.bytes[done];
      if (!write.whole || done + 1 == write.bytes.size()) look(torn);
    }
  }
  CHECK(olds > 3000);
  CHECK(news > 3000);
  CHECK(std::ranges::equal(torn.words, after.words));
}

TEST_CASE("checkpoint: killed while it recovers, the next one recovers the same") {
  Memory memory;
  std::vector<Checkpoint::Write> writes;
  {
    Checkpoint checkpoint = over(memory);
    checkpoint.format();
    REQUIRE(checkpoint.commit(changes({{ike_sa(1), octets(1500, 1)}})));
    // A commit that does not come to be leaves blocks behind.
    Memory torn = memory;
    Checkpoint next = over(torn);
    Records found;
    REQUIRE_FALSE(next.recover(found));
    next.observe(&writes);
    REQUIRE(next.commit(changes({{ike_sa(1), octets(1500, 2)}})));
    for (std::size_t at = 0; at < 6; ++at) {
      std::ranges::copy(writes[at].bytes, memory.bytes().subspan(writes[at].offset).begin());
    }
  }
  writes.clear();
  Memory torn = memory;
  {
    Memory scratch = memory;
    Checkpoint checkpoint = over(scratch);
    checkpoint.observe(&writes);
    Records found;
    REQUIRE_FALSE(checkpoint.recover(found));
  }
  REQUIRE_FALSE(writes.empty());
  const Contents expected{{ike_sa(1), octets(1500, 1)}};
  for (const Checkpoint::Write& write : writes) {
    std::ranges::copy(write.bytes, torn.bytes().subspan(write.offset).begin());
    CHECK(recovered(torn) == expected);
  }
}

TEST_CASE("checkpoint: nothing of a replaced or removed record stays in memory") {
  Memory memory;
  Checkpoint checkpoint = over(memory);
  checkpoint.format();
  const Octets secret = octets(32, 9);
  Octets content = octets(1200, 1);
  std::ranges::copy(secret, content.begin() + 500);
  REQUIRE(checkpoint.commit(changes({{ike_sa(1), content}})));
  CHECK(memory.has(secret));
  REQUIRE(checkpoint.commit(changes({{ike_sa(1), octets(1200, 2)}})));
  CHECK_FALSE(memory.has(secret));
  REQUIRE(checkpoint.commit(changes({{ike_sa(1), content}})));
  REQUIRE(checkpoint.commit(changes({{ike_sa(1), {}}})));
  CHECK_FALSE(memory.has(secret));
  CHECK(checkpoint.blocks_in_use() == 0);
}

TEST_CASE("checkpoint: removing what was never recorded takes no room") {
  Memory memory;
  Checkpoint checkpoint = over(memory);
  checkpoint.format();
  for (std::uint64_t id = 1; id < 100; ++id)
    REQUIRE(checkpoint.commit(changes({{ike_sa(id), {}}})));
  CHECK(checkpoint.blocks_in_use() == 0);
}

TEST_CASE("checkpoint: without room it holds nothing rather than something outdated") {
  Memory memory;
  Checkpoint checkpoint = over(memory);
  checkpoint.format();
  const Octets secret = octets(900, 1);
  REQUIRE(checkpoint.commit(changes({{ike_sa(1), secret}})));
  CHECK_FALSE(checkpoint.commit(changes({{ike_sa(2), octets(30000, 2)}})));
  CHECK_FALSE(checkpoint.usable());
  CHECK_FALSE(checkpoint.commit(changes({{ike_sa(1), octets(5, 3)}})));
  CHECK_FALSE(memory.has(secret));
  CHECK(refusal(memory) == NotResumed::abandoned);
  // Whoever comes next begins anew.
  CHECK(refusal(memory) == NotResumed::none_recorded);
}

TEST_CASE("checkpoint: no memory for another block is noticed before it is touched") {
  Memory memory;
  std::size_t allowed = Checkpoint::kHeaderBytes + 2 * Checkpoint::kBlockBytes;
  Checkpoint checkpoint(memory.bytes(), [&](std::size_t end) { return end <= allowed; });
  checkpoint.format();
  // Old and new stand side by side until the commit.
  REQUIRE(checkpoint.commit(changes({{ike_sa(1), octets(10, 1)}})));
  REQUIRE(checkpoint.commit(changes({{ike_sa(1), octets(10, 2)}})));
  CHECK_FALSE(checkpoint.commit(changes({{ike_sa(2), octets(1500, 2)}})));
  const auto beyond = memory.bytes().subspan(allowed);
  CHECK(std::ranges::all_of(beyond, [](std::uint8_t octet) { return octet == 0; }));
}

TEST_CASE("checkpoint: it is reused for ever in the same room") {
  Memory memory;
  Checkpoint checkpoint = over(memory);
  checkpoint.format();
  for (std::uint32_t round = 0; round < 2000; ++round) {
    const auto size = 100 + round * 37 % 3000;
    REQUIRE(
        checkpoint.commit(changes({{ike_sa(1), octets(size, static_cast<std::uint8_t>(round))}})));
  }
  CHECK(checkpoint.blocks_in_use() <= 4);
}

TEST_CASE("checkpoint: damage of any octet that is in use is recognised or changes nothing") {
  Memory memory;
  const Contents wanted{{ike_sa(1), octets(1500, 1)}, {ike_sa(2), octets(40, 2)}};
  {
    Checkpoint checkpoint = over(memory);
    checkpoint.format();
    REQUIRE(checkpoint.commit(changes(wanted)));
  }
  const std::size_t end = Checkpoint::kHeaderBytes + 4 * Checkpoint::kBlockBytes;
  std::size_t refused = 0;
  for (std::size_t at = Checkpoint::kHeaderBytes; at < end; ++at) {
    Memory damaged = memory;
    damaged.bytes()[at] ^= 0x40U;
    Checkpoint checkpoint = over(damaged);
    Records records;
    const auto why = checkpoint.recover(records);
    if (why) {
      ++refused;
      CHECK(*why == NotResumed::corrupt);
    } else {
      // A marker or a sequence gone wrong loses the record at worst; never another content.
      for (const auto& [name, content] : contents(records)) CHECK(wanted.at(name) == content);
    }
  }
  CHECK(refused > 1500);
}

TEST_CASE("checkpoint: fresh memory, another build and another layout are told apart") {
  Memory memory;
  CHECK(refusal(memory) == NotResumed::none_recorded);
  {
    Checkpoint checkpoint = over(memory);
    Records found;
    REQUIRE(checkpoint.recover(found) == NotResumed::none_recorded);  // and ready
    REQUIRE(checkpoint.commit(changes({{ike_sa(1), octets(50, 1)}})));
  }
  for (const std::size_t at : {8U, 16U, 24U, 30U}) {  // version, size, build
    CAPTURE(at);
    Memory other = memory;
    other.bytes()[at] ^= 1U;
    CHECK(refusal(other) == NotResumed::other_build);
    CHECK_FALSE(other.has(octets(50, 1)));
  }
}

TEST_CASE("checkpoint: a lost part of a record is corruption, not an older record") {
  Memory memory;
  Checkpoint checkpoint = over(memory);
  checkpoint.format();
  REQUIRE(checkpoint.commit(changes({{ike_sa(1), octets(1500, 1)}})));
  // The second block's marker: free.
  const std::size_t marker = Checkpoint::kHeaderBytes + Checkpoint::kBlockBytes + 24;
  std::ranges::fill(memory.bytes().subspan(marker, 8), std::uint8_t{0});
  CHECK(refusal(memory) == NotResumed::corrupt);
}

TEST_CASE("held memory: sealed, larger than what is used, kept over its users") {
  constexpr std::size_t kBytes = 64UL << 20U;
  auto held = channel::HeldMemory::create(kBytes);
  REQUIRE(held);
  const Contents wanted{{ike_sa(1), octets(5000, 1)}};
  for (int life = 0; life < 3; ++life) {
    const channel::Descriptor passed(::dup(held->file()));
    auto mapping = channel::HeldMapping::open(passed, Checkpoint::kHeaderBytes);
    REQUIRE(mapping);
    CHECK(mapping->memory().size() == kBytes);
    Checkpoint checkpoint(mapping->memory(),
                          [&](std::size_t end) { return mapping->make_real(end); });
    Records found;
    const auto refused = checkpoint.recover(found);
    CHECK(refused.has_value() == (life == 0));
    if (life == 0) {
      REQUIRE(checkpoint.commit(changes(wanted)));
    } else {
      CHECK(contents(found) == wanted);
    }
    held->lock();
  }
  CHECK_FALSE(channel::HeldMapping::open(channel::Descriptor(::dup(held->file())), kBytes + 1));
}

}  // namespace
}  // namespace culvert::ike
