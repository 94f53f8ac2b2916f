#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "inference_core/checkpoint/checkpoint.h"
#include "inference_core/grammar/answer_constraint.h"

namespace yangtuo {

// OK when a tokenizer of `pieces` pieces can feed an embedding of `rows` rows; FAILED_PRECONDITION
// names both and, where they are those of a known family, what belongs together. Fewer pieces than
// rows are fine: such rows are padding, or tokens added beside the tokenizer.
absl::Status CheckTokenizerFit(std::int32_t pieces, std::int32_t rows,
                               const std::string& tokenizer);

// What a worker knows of the tokenizer beside its model.
struct KnownTokenizer {
  std::string digest;                              // SHA-256, hexadecimal; "" when there is none
  std::shared_ptr<AnswerConstraints> constraints;  // null without one that every byte is in
};

// Checks the model's tokenizer.
absl::StatusOr<KnownTokenizer> CheckTokenizerOf(const Checkpoint& checkpoint);

}  // namespace yangtuo
