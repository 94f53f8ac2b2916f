#pragma once

#include <string>

#include "absl/strings/escaping.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "inference_core/formats/tensor_files.h"

namespace yangtuo {

// The rows of a tensor in row-major order, read one by one.
inline std::string BytesOf(const StoredTensor& tensor) {
  const auto row_bytes = static_cast<std::size_t>(tensor.bytes_per_row());
  std::string bytes(row_bytes * static_cast<std::size_t>(tensor.rows()), '\0');
  for (std::int64_t row = 0; row < tensor.rows(); ++row) {
    CopyRows(tensor, row, 1,
             std::as_writable_bytes(std::span(bytes))
                 .subspan(static_cast<std::size_t>(row) * row_bytes, row_bytes));
  }
  return bytes;
}

// The plain tensors of files as torch_peer.py prints them.
inline std::string Listing(const TensorFiles& files) {
  std::string text;
  for (const std::string& name : files.Names()) {
    const StoredTensor tensor = *files.Find(name);
    const char* const type = tensor.dtype == DType::kF32   ? "float32"
                             : tensor.dtype == DType::kF16 ? "float16"
                                                           : "bfloat16";
    text += absl::StrFormat("%s %s [%s] %s\n", name, type, absl::StrJoin(tensor.shape, ","),
                            absl::BytesToHexString(BytesOf(tensor)));
  }
  return text;
}

}  // namespace yangtuo
