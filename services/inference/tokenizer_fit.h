#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace yangtuo {

// OK when a tokenizer of `pieces` pieces can feed an embedding of `rows` rows; FAILED_PRECONDITION
// names both and, where they are those of a known family, what belongs together. Fewer pieces than
// rows are fine: such rows are padding, or tokens added beside the tokenizer.
absl::Status CheckTokenizerFit(std::int32_t pieces, std::int32_t rows,
                               const std::string& tokenizer);

// Checks tokenizer.model beside the model and returns its SHA-256, hexadecimal; "" when the folder
// has none.
absl::StatusOr<std::string> CheckTokenizerOf(const std::filesystem::path& model, std::int32_t rows);

}  // namespace yangtuo
