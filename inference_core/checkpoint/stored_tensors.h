#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "inference_core/checkpoint/tensor_source.h"
#include "inference_core/formats/stored_tensor.h"

namespace yangtuo {

// Rows of equal size in a mapped file.
struct StoredRows {
  std::span<const std::byte> bytes;  // rows * row_bytes, unless `strided`
  std::int64_t row_bytes = 0;
  std::string origin;  // file and the tensor's name there, for messages
  // A tensor whose rows do not lie one behind the other.
  std::optional<StoredTensor> strided = std::nullopt;
};

// A tensor of a supported type, as rows.
[[nodiscard]] StoredRows RowsOf(const StoredTensor& tensor);

// Rows of a tensor whose bytes lie side by side: those of part 0, then those of part 1, and so on.
// A plain tensor has one part; columns that are shared out over files, or scales stored apart, are
// further ones. All parts have the same number of rows.
struct StoredBand {
  std::int64_t rows = 0;
  std::vector<StoredRows> parts;
};

// Where a tensor lies: bands of rows, one below the other.
struct StoredPlace {
  TensorSpec spec;
  std::vector<StoredBand> bands;
  // Above 0: rows are stored interleaved in heads of so many (llama_tensors.h, InterleavedRow) and
  // read as halves.
  std::int64_t interleaved_head_dim = 0;
};

// The tensors at `places`, read from mapped files that `files` keeps alive. Every place has as many
// rows and row bytes as its spec says: checked by whoever made it.
[[nodiscard]] std::shared_ptr<const TensorSource> MakeStoredSource(
    std::vector<StoredPlace> places, std::shared_ptr<const void> files);

}  // namespace yangtuo
