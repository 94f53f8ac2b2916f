#pragma once

#include <cstdint>
#include <filesystem>

#include "absl/status/statusor.h"
#include "tools/eval/perplexity.h"
#include "tools/quantize/importance.h"

namespace yangtuo {

struct CalibrationOptions {
  std::filesystem::path model;
  std::filesystem::path text;  // documents separated by empty lines; all of them are read
  std::int32_t threads = 0;    // 0: one per usable core
};

struct Calibration {
  Importance importance;  // of every matrix that the model multiplies with
  std::int64_t tokens = 0;
  double perplexity = 0;  // of the text: far above a usual one, it is of another kind or language
};

// Runs the model over a text and takes for each column of each matrix the mean square of what it
// was multiplied with. The whole model is loaded as a worker would. `on_progress` gets bytes of the
// text. Errors as the model's and the tokenizer's readers say; INVALID_ARGUMENT for an empty text.
absl::StatusOr<Calibration> Calibrate(const CalibrationOptions& options,
                                      const TextProgress& on_progress);

}  // namespace yangtuo
