#include "inference_core/checkpoint/row_order.h"

#include <cassert>
#include <cstring>

#include "inference_core/checkpoint/llama_tensors.h"

namespace yangtuo {

HeadInterleaver::HeadInterleaver(std::int64_t head_dim, std::int64_t row_bytes)
    : head_dim_(head_dim), row_bytes_(row_bytes) {}

std::span<const std::byte> HeadInterleaver::Take(std::span<const std::byte> rows) {
  const auto row_bytes = static_cast<std::size_t>(row_bytes_);
  const std::size_t head_bytes = static_cast<std::size_t>(head_dim_) * row_bytes;
  assert(rows.size() % row_bytes == 0);
  waiting_.insert(waiting_.end(), rows.begin(), rows.end());
  const std::size_t complete = waiting_.size() / head_bytes * head_bytes;
  ordered_.resize(complete);
  for (std::size_t at = 0; at < complete; at += row_bytes) {
    const auto row = static_cast<std::int64_t>(at / row_bytes);
    const auto to = static_cast<std::size_t>(InterleavedRow(row, head_dim_)) * row_bytes;
    std::memcpy(ordered_.data() + to, waiting_.data() + at, row_bytes);
  }
  waiting_.erase(waiting_.begin(), waiting_.begin() + static_cast<std::ptrdiff_t>(complete));
  return ordered_;
}

}  // namespace yangtuo
