#pragma once

// What must hold for whatever a reader of tensor files accepts or refuses.

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "inference_core/formats/stored_tensor.h"

namespace yangtuo::fuzz {

inline void Require(bool holds) {
  if (!holds) {
    std::abort();
  }
}

inline void CheckMessage(const absl::Status& status) {
  // Goes into gRPC messages: short, and dump() throws unless it is UTF-8.
  Require(nlohmann::json(std::string(status.message())).dump().size() < 4096);
}

inline void CheckRefusal(const absl::Status& status) {
  Require(status.code() == absl::StatusCode::kDataLoss ||
          status.code() == absl::StatusCode::kUnimplemented);
  CheckMessage(status);
}

// Every row can be read, and lies within `file`.
inline void CheckTensor(const StoredTensor& tensor, std::span<const std::byte> file) {
  Require(tensor.data.empty() ||
          (tensor.data.data() >= file.data() &&
           tensor.data.data() + tensor.data.size() <= file.data() + file.size()));
  for (const std::int64_t size : tensor.shape) {
    Require(size >= 0);
  }
  if (!tensor.unsupported_type.empty()) {
    return;
  }
  const std::int64_t bytes = tensor.rows() * tensor.bytes_per_row();
  if (tensor.strides.empty()) {
    Require(bytes == static_cast<std::int64_t>(tensor.data.size()));
  }
  Require(bytes >= 0 && bytes <= static_cast<std::int64_t>(file.size()));
  std::vector<std::byte> copy(static_cast<std::size_t>(bytes));
  CopyRows(tensor, 0, tensor.rows(), copy);
}

}  // namespace yangtuo::fuzz
