// Records in a piece of memory that outlives this process. A commit replaces any number of records
// at once: whoever is killed at whatever instant finds, next time, all of it or nothing of it.
//
// The memory is cut into blocks. A commit writes new blocks beside the old ones, then raises one
// number in the header (the commit), then wipes the old ones. A block counts when its marker says
// so, its checksum agrees and its sequence is committed; of one record the highest sequence counts.
// The marker is one word: written last, cleared first. Pure memory, no system calls, one thread.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <vector>

#include "ike/machine/record.hpp"

namespace culvert::ike {

class Checkpoint {
 public:
  static constexpr std::size_t kHeaderBytes = 4096;
  static constexpr std::size_t kBlockBytes = 1024;
  static constexpr std::size_t kBlockHeaderBytes = 32;
  static constexpr std::size_t kBlockContentBytes = kBlockBytes - kBlockHeaderBytes;
  /// A record's blocks: as much as an IKE SA with a hundred children and a long certificate path.
  static constexpr std::size_t kMostBlocksPerRecord = 1024;

  /// One store to the memory; for tests that cut a commit short.
  struct Write {
    std::size_t offset = 0;
    std::vector<std::uint8_t> bytes;
    bool whole = false;  ///< one aligned word: it cannot be torn
  };

  /// `memory`: page-aligned, zeroed or what an earlier life left, at least the header and a block.
  /// `make_real(end)`: bytes below `end` will be touched; false when there is no memory for them.
  Checkpoint(crypto::MutableBytes memory, std::function<bool(std::size_t end)> make_real);

  /// What an earlier life recorded; or why there is nothing, and then the memory is empty and
  /// ready.
  [[nodiscard]] std::optional<NotResumed> recover(Records& records);
  /// Wipes everything and begins anew.
  void format();
  /// All or nothing. False: no room, or given up before; the memory holds no record any more, since
  /// an outdated one is worse than none.
  [[nodiscard]] bool commit(const Records& changes);

  [[nodiscard]] bool usable() const { return usable_; }
  [[nodiscard]] std::size_t records() const { return index_.size(); }
  [[nodiscard]] std::size_t blocks_in_use() const { return used_blocks_ - free_.size(); }
  void observe(std::vector<Write>* writes) { writes_ = writes; }

 private:
  struct BlockHeader;
  struct Version;
  using Blocks = std::vector<std::uint32_t>;

  [[nodiscard]] std::size_t capacity() const;
  [[nodiscard]] static std::size_t blocks_for(const Record& record);
  [[nodiscard]] std::optional<std::uint32_t> take_block();
  void write_block(std::uint32_t block, const RecordName& name, std::uint64_t sequence,
                   crypto::Bytes part, std::uint64_t marker);
  void wipe_block(std::uint32_t block);
  void give_up();
  [[nodiscard]] bool header_is_ours(bool& ever_written) const;
  [[nodiscard]] std::optional<NotResumed> read_blocks(Records& records);
  [[nodiscard]] bool gather(const std::map<RecordName, Version>& newest, Records& records);
  void put(std::size_t offset, crypto::Bytes bytes);
  void put_word(std::size_t offset, std::uint64_t value);
  [[nodiscard]] std::uint64_t word(std::size_t offset) const;
  [[nodiscard]] static std::size_t offset_of(std::uint32_t block) {
    return kHeaderBytes + block * kBlockBytes;
  }

  crypto::MutableBytes memory_;
  std::function<bool(std::size_t)> make_real_;
  std::map<RecordName, Blocks> index_;
  Blocks free_;
  std::uint32_t used_blocks_ = 0;  ///< ever touched; the rest of the memory is zero
  std::uint64_t committed_ = 0;
  bool usable_ = false;
  std::vector<Write>* writes_ = nullptr;
};

}  // namespace culvert::ike
