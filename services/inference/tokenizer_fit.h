#pragma once

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "inference_core/checkpoint/checkpoint.h"

namespace yangtuo {

// OK when a tokenizer of `pieces` pieces can feed an embedding of `rows` rows; FAILED_PRECONDITION
// names both and, where they are those of a known family, what belongs together. Fewer pieces than
// rows are fine: such rows are padding, or tokens added beside the tokenizer.
absl::Status CheckTokenizerFit(std::int32_t pieces, std::int32_t rows,
                               const std::string& tokenizer);

// Checks the model's tokenizer and returns its SHA-256, hexadecimal; "" when it has none.
absl::StatusOr<std::string> CheckTokenizerOf(const Checkpoint& checkpoint);

}  // namespace yangtuo
