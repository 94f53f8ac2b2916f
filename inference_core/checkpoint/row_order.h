#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace yangtuo {

// Turns the rows of queries or keys, as they come in the order of halves, into the interleaved
// order that files keep (llama_tensors.h). A head at a time: its first interleaved row pairs the
// head's first row with one from the middle.
class HeadInterleaver {
 public:
  HeadInterleaver(std::int64_t head_dim, std::int64_t row_bytes);

  // Takes whole rows; returns those of the heads that are complete now, valid until the next call.
  std::span<const std::byte> Take(std::span<const std::byte> rows);

 private:
  std::int64_t head_dim_;
  std::int64_t row_bytes_;
  std::vector<std::byte> waiting_;  // rows of a head that is not complete
  std::vector<std::byte> ordered_;
};

}  // namespace yangtuo
