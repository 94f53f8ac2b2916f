#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "inference_core/checkpoint/checkpoint.h"
#include "inference_core/checkpoint/conversion_plan.h"
#include "inference_core/checkpoint/model_writer.h"
#include "tools/convert/copy_tensors.h"
#include "tools/convert/output_options.h"

namespace yangtuo {

// A model to be written in another form.
struct Conversion {
  std::string command;  // "merge-lora", for messages
  std::string doing;    // "merging", for the progress bar
  Checkpoint input;
  OutputOptions options;
  TypePolicy types;
  std::vector<std::string> notes = {};  // what the user should know of the input
  // Weights of a tensor's columns for quantization; none: all count the same.
  std::function<std::span<const float>(const TensorSpec& from)> importance = {};
};

// What will be done, checked as far as it can be before anything is written.
struct PreparedConversion {
  ConversionPlan plan;
  OutputModel output;
  std::int32_t threads = 1;
  std::int64_t free_disk_bytes = 0;
  double estimated_seconds = 0;  // of a dry run only
  std::vector<std::string> warnings;
};

// What was done.
struct ConversionReport {
  std::vector<CopiedTensor> tensors;
  std::string digest;  // the new model's, as its manifest has it
  double seconds = 0;
  [[nodiscard]] std::int64_t rounded() const;
  // Over all tensors in types with scales: sum of squared errors over sum of squares; 0 without
  // any.
  [[nodiscard]] double relative_squared_error() const;
};

// RESOURCE_EXHAUSTED when the disk is too small, INVALID_ARGUMENT when format and types do not go
// together.
absl::StatusOr<PreparedConversion> Prepare(const Conversion& conversion);

// Writes the model with its configuration, tokenizer and manifest. `stop` ends it early, CANCELLED:
// nothing is left then.
absl::StatusOr<ConversionReport> Run(
    const Conversion& conversion, const PreparedConversion& prepared,
    const std::function<void(std::int64_t bytes_read)>& on_progress, const std::atomic<bool>& stop);

// For people, and for scripts.
[[nodiscard]] std::string DescribePlan(const Conversion& conversion,
                                       const PreparedConversion& prepared);
[[nodiscard]] std::string DescribeReport(const PreparedConversion& prepared,
                                         const ConversionReport& report);
// Without a report: of a dry run.
[[nodiscard]] std::string EncodeReport(const Conversion& conversion,
                                       const PreparedConversion& prepared,
                                       const ConversionReport* report);

// All of it, with a progress bar and Ctrl-C; messages go to standard error. Returns the exit code.
int RunConversion(const Conversion& conversion);

// Prints "yangtuo COMMAND: MESSAGE"; returns 1.
int FailCommand(const std::string& command, const absl::Status& status);

}  // namespace yangtuo
