#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "absl/status/status.h"

namespace yangtuo {

// Where the tensors of a model go. Which tensors there are, with names, types and shapes, was said
// when the sink was made; so were the files, written aside under other names until Finish renames
// them. One thread.
class TensorSink {
 public:
  // Removes what was written, unless Finish was OK.
  virtual ~TensorSink() = default;

  // The next `rows.size() / row_bytes()` rows of tensor `index`. Tensors come in any order, the
  // rows of one in theirs. RESOURCE_EXHAUSTED for a full disk.
  virtual absl::Status Append(std::size_t index, std::span<const std::byte> rows) = 0;

  // FAILED_PRECONDITION when rows are missing.
  virtual absl::Status Finish() = 0;
};

}  // namespace yangtuo
