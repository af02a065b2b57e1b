#include "ike/daemon/checkpoint.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cassert>
#include <cstddef>
#include <cstring>
#include <utility>

#include <zlib.h>

namespace culvert::ike {
namespace {

using crypto::Bytes;

/// "CULVERTK", little-endian.
constexpr std::uint64_t kMagic = 0x4B54'5245'564C'5543;
constexpr std::uint64_t kAbandoned = 0x4B54'5245'564C'0000;
/// Raise it with every change of this file's layout or of a record's
/// (ike/machine/record_fields.hpp).
constexpr std::uint64_t kLayoutVersion = 8;
constexpr std::size_t kBuildBytes = 48;

// The header's words.
constexpr std::size_t kMagicAt = 0, kVersionAt = 8, kBytesAt = 16, kBuildAt = 24;
constexpr std::size_t kCommittedAt = 128, kUsedAt = 192;

// A marker: the number of parts, this part, what the block is.
constexpr std::uint64_t kIsPart = 1, kIsRemoval = 2;
constexpr std::uint64_t marker_of(std::size_t part, std::size_t parts) {
  return std::uint64_t{parts} << 32U | std::uint64_t{part} << 16U | kIsPart;
}
constexpr std::size_t parts_in(std::uint64_t marker) { return marker >> 32U; }
constexpr std::size_t part_in(std::uint64_t marker) { return marker >> 16U & 0xffffU; }

/// CRC-32: a torn or overwritten block is recognised, an attacker is not kept out. Of a block's
/// header (its checksum 0) and content.
std::uint32_t checksum_of(Bytes header, Bytes content) {
  const auto of_header = ::crc32_z(0, header.data(), header.size());
  if (content.empty()) return static_cast<std::uint32_t>(of_header);  // null would begin anew
  return static_cast<std::uint32_t>(::crc32_z(of_header, content.data(), content.size()));
}

std::array<std::uint8_t, kBuildBytes> this_build() {
  std::array<std::uint8_t, kBuildBytes> build{};
  const std::string_view text = CULVERT_VERSION;
  std::copy_n(text.begin(), std::min(text.size(), build.size()), build.begin());
  return build;
}

}  // namespace

struct Checkpoint::BlockHeader {
  std::uint64_t id;
  std::uint64_t sequence;
  std::uint32_t checksum;  ///< over the other fields and the content
  std::uint16_t kind;
  std::uint16_t bytes;  ///< of content
  std::uint64_t marker;
};

struct Checkpoint::Version {
  std::uint64_t sequence = 0;
  Blocks blocks;  ///< by part, kNone where missing
  std::size_t present = 0;
  bool removal = false;
  static constexpr std::uint32_t kNone = ~0U;
};

Checkpoint::Checkpoint(crypto::MutableBytes memory, std::function<bool(std::size_t)> make_real)
    : memory_(memory), make_real_(std::move(make_real)) {
  static_assert(sizeof(BlockHeader) == kBlockHeaderBytes);
  static_assert(offsetof(BlockHeader, marker) == 24);
  assert(memory.size() >= kHeaderBytes + kBlockBytes);
  assert(reinterpret_cast<std::uintptr_t>(memory.data()) % alignof(std::uint64_t) == 0);
}

std::size_t Checkpoint::capacity() const {
  return std::min<std::size_t>((memory_.size() - kHeaderBytes) / kBlockBytes, UINT32_MAX);
}

std::size_t Checkpoint::blocks_for(const Record& record) {
  return std::max<std::size_t>(
      1, (record.content.size() + kBlockContentBytes - 1) / kBlockContentBytes);
}

void Checkpoint::put(std::size_t offset, Bytes bytes) {
  if (writes_ != nullptr) writes_->push_back({offset, {bytes.begin(), bytes.end()}, false});
  const crypto::MutableBytes there = memory_.subspan(offset, bytes.size());
  if (!bytes.empty()) std::memcpy(there.data(), bytes.data(), bytes.size());
}

/// Everything written before is there before it, everything after after it: an exchange is a full
/// fence.
void Checkpoint::put_word(std::size_t offset, std::uint64_t value) {
  if (writes_ != nullptr) {
    const auto bytes = std::bit_cast<std::array<std::uint8_t, 8>>(value);
    writes_->push_back({offset, {bytes.begin(), bytes.end()}, true});
  }
  std::atomic_ref(*reinterpret_cast<std::uint64_t*>(memory_.data() + offset)).exchange(value);
}

std::uint64_t Checkpoint::word(std::size_t offset) const {
  std::uint64_t value = 0;
  std::memcpy(&value, memory_.data() + offset, sizeof(value));
  return value;
}

std::optional<std::uint32_t> Checkpoint::take_block() {
  if (!free_.empty()) {
    const std::uint32_t block = free_.back();
    free_.pop_back();
    return block;
  }
  if (used_blocks_ >= capacity() || !make_real_(offset_of(used_blocks_ + 1))) return std::nullopt;
  put_word(kUsedAt, used_blocks_ + 1);
  return used_blocks_++;
}

void Checkpoint::write_block(std::uint32_t block, const RecordName& name, std::uint64_t sequence,
                             Bytes part, std::uint64_t marker) {
  BlockHeader header{name.id,
                     sequence,
                     0,
                     static_cast<std::uint16_t>(name.kind),
                     static_cast<std::uint16_t>(part.size()),
                     marker};
  const auto view = [&] { return std::bit_cast<std::array<std::uint8_t, 32>>(header); };
  header.checksum = checksum_of(view(), part);
  const std::size_t at = offset_of(block);
  put(at + kBlockHeaderBytes, part);
  put(at, Bytes(view()).first(offsetof(BlockHeader, marker)));
  put_word(at + offsetof(BlockHeader, marker), marker);
}

/// Free first, then without a trace: a block that is half wiped is free all the same.
void Checkpoint::wipe_block(std::uint32_t block) {
  const std::size_t at = offset_of(block);
  put_word(at + offsetof(BlockHeader, marker), 0);
  if (writes_ != nullptr) writes_->push_back({at, std::vector<std::uint8_t>(kBlockBytes), false});
  crypto::wipe(memory_.data() + at, kBlockBytes);
  free_.push_back(block);
}

void Checkpoint::format() {
  put_word(kMagicAt, 0);
  const auto most = static_cast<std::uint32_t>(capacity());
  // What the header claims is in use may be anything; beyond the memory it is not.
  used_blocks_ = static_cast<std::uint32_t>(std::min<std::uint64_t>(word(kUsedAt), most));
  index_.clear();
  free_.clear();
  if (used_blocks_ > 0 && !make_real_(offset_of(used_blocks_))) used_blocks_ = 0;
  for (std::uint32_t block = used_blocks_; block-- > 0;) wipe_block(block);
  committed_ = 0;
  put_word(kCommittedAt, 0);
  put_word(kUsedAt, used_blocks_);
  put_word(kVersionAt, kLayoutVersion);
  put_word(kBytesAt, memory_.size());
  put(kBuildAt, this_build());
  put_word(kMagicAt, kMagic);
  usable_ = true;
}

void Checkpoint::give_up() {
  format();
  put_word(kMagicAt, kAbandoned);
  usable_ = false;
}

bool Checkpoint::commit(const Records& changes) {
  // 1. room for everything  2. new blocks  3. the commit  4. the old ones, then the removals
  if (!usable_) return false;
  std::vector<Blocks> taken(changes.size());
  for (std::size_t at = 0; at < changes.size(); ++at) {
    const bool nothing = changes[at].content.empty() && !index_.contains(changes[at].name);
    const std::size_t wanted = nothing ? 0 : blocks_for(changes[at]);
    while (taken[at].size() < wanted) {
      const auto block = wanted <= kMostBlocksPerRecord ? take_block() : std::nullopt;
      if (!block) {
        give_up();
        return false;
      }
      taken[at].push_back(*block);
    }
  }
  const std::uint64_t sequence = committed_ + 1;
  for (std::size_t at = 0; at < changes.size(); ++at) {
    const Bytes content = changes[at].content.view();
    for (std::size_t part = 0; part < taken[at].size(); ++part) {
      const std::size_t from = part * kBlockContentBytes;
      write_block(taken[at][part], changes[at].name, sequence,
                  content.subspan(from, std::min(kBlockContentBytes, content.size() - from)),
                  marker_of(part, taken[at].size()) | (content.empty() ? kIsRemoval : 0));
    }
  }
  put_word(kCommittedAt, sequence);
  committed_ = sequence;
  Blocks removals;
  for (std::size_t at = 0; at < changes.size(); ++at) {
    if (taken[at].empty()) continue;
    const RecordName& name = changes[at].name;
    const Blocks before = std::exchange(index_[name], std::move(taken[at]));
    for (const std::uint32_t block : before) wipe_block(block);
    if (!changes[at].content.empty()) continue;
    removals.insert(removals.end(), index_[name].begin(), index_[name].end());
    index_.erase(name);
  }
  for (const std::uint32_t block : removals) wipe_block(block);
  return true;
}

bool Checkpoint::header_is_ours(bool& ever_written) const {
  ever_written = word(kMagicAt) != 0;
  const auto build = this_build();
  return word(kMagicAt) == kMagic && word(kVersionAt) == kLayoutVersion &&
         word(kBytesAt) == memory_.size() && word(kUsedAt) <= capacity() &&
         std::ranges::equal(build, memory_.subspan(kBuildAt, kBuildBytes));
}

std::optional<NotResumed> Checkpoint::recover(Records& records) {
  records.clear();
  bool ever_written = false;
  std::optional<NotResumed> refused;
  if (!make_real_(kHeaderBytes)) {
    refused = NotResumed::none_recorded;
  } else if (!header_is_ours(ever_written)) {
    refused = word(kMagicAt) == kAbandoned ? NotResumed::abandoned
              : ever_written               ? NotResumed::other_build
                                           : NotResumed::none_recorded;
  } else {
    refused = read_blocks(records);
    if (!refused && records.empty()) return NotResumed::none_recorded;
  }
  if (!refused) return std::nullopt;
  records.clear();
  format();
  return refused;
}

std::optional<NotResumed> Checkpoint::read_blocks(Records& records) {
  used_blocks_ = static_cast<std::uint32_t>(word(kUsedAt));
  committed_ = word(kCommittedAt);
  if (used_blocks_ > 0 && !make_real_(offset_of(used_blocks_))) return NotResumed::corrupt;
  std::map<RecordName, Version> newest;
  Blocks leftover;
  for (std::uint32_t block = 0; block < used_blocks_; ++block) {
    const std::size_t at = offset_of(block);
    std::array<std::uint8_t, kBlockHeaderBytes> raw{};
    std::ranges::copy(memory_.subspan(at, raw.size()), raw.begin());
    auto header = std::bit_cast<BlockHeader>(raw);
    if (header.marker == 0 || header.sequence > committed_) {
      leftover.push_back(block);  // wiped by halves, or of a commit that did not come to be
      continue;
    }
    const std::size_t parts = parts_in(header.marker), part = part_in(header.marker);
    const std::uint32_t claimed = std::exchange(header.checksum, 0);
    const bool sound =
        header.bytes <= kBlockContentBytes && part < parts && parts <= kMostBlocksPerRecord &&
        checksum_of(std::bit_cast<std::array<std::uint8_t, 32>>(header),
                    memory_.subspan(at + kBlockHeaderBytes, header.bytes)) == claimed;
    if (!sound) return NotResumed::corrupt;
    Version& version = newest[{RecordKind{header.kind}, header.id}];
    if (header.sequence < version.sequence) {
      leftover.push_back(block);
      continue;
    }
    if (header.sequence > version.sequence) {
      for (const std::uint32_t old : version.blocks) {
        if (old != Version::kNone) leftover.push_back(old);
      }
      version = {header.sequence, Blocks(parts, Version::kNone), 0,
                 (header.marker & kIsRemoval) != 0};
    }
    if (parts != version.blocks.size() || version.blocks[part] != Version::kNone) {
      return NotResumed::corrupt;
    }
    version.blocks[part] = block;
    ++version.present;
  }
  index_.clear();
  free_.clear();
  for (const auto& [name, version] : newest) {
    if (version.removal)
      leftover.insert(leftover.end(), version.blocks.begin(), version.blocks.end());
  }
  if (!gather(newest, records)) return NotResumed::corrupt;
  for (const std::uint32_t block : leftover) wipe_block(block);
  usable_ = true;
  return std::nullopt;
}

/// The records of the newest versions, each with all its parts.
bool Checkpoint::gather(const std::map<RecordName, Version>& newest, Records& records) {
  for (const auto& [name, version] : newest) {
    if (version.present != version.blocks.size()) return false;
    if (version.removal) continue;
    crypto::SecretBytes content(version.blocks.size() * kBlockContentBytes);
    std::size_t bytes = 0;
    for (const std::uint32_t block : version.blocks) {
      const std::size_t at = offset_of(block);
      std::uint16_t part_bytes = 0;
      std::memcpy(&part_bytes, memory_.data() + at + offsetof(BlockHeader, bytes), 2);
      if (part_bytes > kBlockContentBytes) return false;
      std::ranges::copy(memory_.subspan(at + kBlockHeaderBytes, part_bytes),
                        content.span().subspan(bytes).begin());
      bytes += part_bytes;
    }
    records.push_back({name, crypto::SecretBytes(content.view().first(bytes))});
    index_[name] = version.blocks;
  }
  return true;
}

}  // namespace culvert::ike
