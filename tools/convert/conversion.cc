#include "tools/convert/conversion.h"

#include <algorithm>
#include <filesystem>
#include <system_error>
#include <unistd.h>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_format.h"
#include "inference_core/base/clock.h"
#include "inference_core/base/cpu.h"
#include "inference_core/base/output_file.h"
#include "inference_core/base/status_macros.h"
#include "inference_core/checkpoint/manifest.h"
#include "inference_core/tokenizer/hf_tokenizer_files.h"
#include "tools/common/interrupt.h"
#include "tools/common/progress_bar.h"
#include "tools/common/terminal.h"
#include "tools/convert/model_side_files.h"

namespace yangtuo {
namespace {

constexpr std::uint64_t kDefaultShardBytes = 5'000'000'000;
// A disk that is slow, but not unusually so.
constexpr double kDiskBytesPerSecond = 300e6;
// Headers, tokenizer, configuration, manifest.
constexpr std::int64_t kSideFileBytes = std::int64_t{16} << 20;

absl::StatusOr<OutputModel> OutputOf(const Conversion& conversion, const ConversionPlan& plan,
                                     CheckpointFormat format) {
  const OutputOptions& options = conversion.options;
  OutputModel output;
  output.path = options.output;
  output.format = format;
  output.config = conversion.input.config;
  for (const PlannedTensor& tensor : plan.tensors) {
    output.tensors.push_back(tensor.to);
  }
  output.tokenizer_model = conversion.input.tokenizer_model;
  output.chat_template = conversion.input.chat_template;
  if (!conversion.input.tokenizer_file.empty()) {
    YANGTUO_ASSIGN_OR_RETURN(const HfTokenizerFiles files,
                             ReadHfTokenizerFiles(conversion.input.tokenizer_file.parent_path()));
    output.added_tokens = files.added_tokens;
  }
  output.meta_shards = options.shards > 0 ? options.shards : MetaShardsFor(output.config);
  output.max_shard_bytes =
      options.max_shard_bytes > 0 ? options.max_shard_bytes : kDefaultShardBytes;
  return output;
}

absl::Status CheckDisk(const PreparedConversion& prepared) {
  const std::int64_t needed = prepared.plan.bytes_written + kSideFileBytes;
  if (prepared.free_disk_bytes < needed) {
    return absl::ResourceExhaustedError(absl::StrFormat(
        "%s: the disk has %s free, the model takes %s; free %s or give another place",
        prepared.output.path.string(), FormatBytes(prepared.free_disk_bytes), FormatBytes(needed),
        FormatBytes(needed - prepared.free_disk_bytes)));
  }
  return absl::OkStatus();
}

// Said before the work, and by a dry run too; the writer refuses again.
absl::Status CheckTarget(const OutputModel& output) {
  std::error_code error;
  if (output.format != CheckpointFormat::kGguf && std::filesystem::exists(output.path, error) &&
      !std::filesystem::is_empty(output.path, error)) {
    return absl::AlreadyExistsError(absl::StrFormat(
        "%s is there already and not empty; give a new folder", output.path.string()));
  }
  return absl::OkStatus();
}

// What the user should know of types.
std::vector<std::string> WarningsOf(const ConversionPlan& plan) {
  std::vector<std::string> warnings;
  std::int64_t kept = 0;
  std::int64_t recoded = 0;
  const PlannedTensor* example = nullptr;
  for (const PlannedTensor& tensor : plan.tensors) {
    recoded += FidelityOf(tensor.from.dtype, tensor.to.dtype) == Fidelity::kRecoded ? 1 : 0;
    kept += tensor.kept_plain() ? 1 : 0;
    example = tensor.kept_plain() ? &tensor : example;
  }
  if (kept > 0) {
    warnings.push_back(absl::StrFormat(
        "%d tensors stay %s: their rows do not divide into blocks of %s (%s has rows of %d, blocks "
        "have %d)",
        kept, NameOf(example->to.dtype), NameOf(example->asked), example->from.name,
        example->from.cols(), LayoutOf(example->asked).elements));
  }
  if (recoded > 0) {
    warnings.push_back(
        absl::StrFormat("%d tensors are quantized already and lose a second time; "
                        "start from the 16-bit model if you can",
                        recoded));
  }
  return warnings;
}

}  // namespace

std::int64_t ConversionReport::rounded() const {
  std::int64_t sum = 0;
  for (const CopiedTensor& tensor : tensors) {
    sum += tensor.rounded;
  }
  return sum;
}

double ConversionReport::relative_squared_error() const {
  double square = 0;
  double error = 0;
  for (const CopiedTensor& tensor : tensors) {
    square += tensor.square;
    error += tensor.squared_error;
  }
  return square > 0 ? error / square : 0;
}

absl::StatusOr<PreparedConversion> Prepare(const Conversion& conversion) {
  PreparedConversion prepared;
  prepared.threads = conversion.options.threads > 0 ? conversion.options.threads
                                                    : GetCpuLimits().compute_threads();
  YANGTUO_ASSIGN_OR_RETURN(const CheckpointFormat format, FormatNamed(conversion.options));
  YANGTUO_ASSIGN_OR_RETURN(
      prepared.plan, PlanConversion(*conversion.input.tensors, conversion.types, prepared.threads));
  YANGTUO_ASSIGN_OR_RETURN(prepared.output, OutputOf(conversion, prepared.plan, format));
  YANGTUO_RETURN_IF_ERROR(CheckOutput(prepared.output));
  YANGTUO_RETURN_IF_ERROR(CheckTarget(prepared.output));
  YANGTUO_ASSIGN_OR_RETURN(const std::uint64_t free, FreeDiskBytes(prepared.output.path));
  prepared.free_disk_bytes = static_cast<std::int64_t>(std::min<std::uint64_t>(free, INT64_MAX));
  YANGTUO_RETURN_IF_ERROR(CheckDisk(prepared));
  prepared.warnings = conversion.notes;
  for (std::string& warning : WarningsOf(prepared.plan)) {
    prepared.warnings.push_back(std::move(warning));
  }
  if (conversion.options.dry_run) {
    CopyOptions copy;
    copy.threads = prepared.threads;
    copy.importance = conversion.importance;
    YANGTUO_ASSIGN_OR_RETURN(
        prepared.estimated_seconds,
        EstimateSeconds(*conversion.input.tensors, prepared.plan, copy, kDiskBytesPerSecond));
  }
  return prepared;
}

absl::StatusOr<ConversionReport> Run(
    const Conversion& conversion, const PreparedConversion& prepared,
    const std::function<void(std::int64_t bytes_read)>& on_progress,
    const std::atomic<bool>& stop) {
  const SteadyClock clock;
  const TimePoint begin = clock.Now();
  ConversionReport report;
  YANGTUO_ASSIGN_OR_RETURN(const std::unique_ptr<ModelWriter> writer,
                           ModelWriter::Create(prepared.output));
  YANGTUO_RETURN_IF_ERROR(AddSideFiles(conversion.input, prepared.output, *writer));
  CopyOptions copy;
  copy.threads = prepared.threads;
  copy.importance = conversion.importance;
  copy.on_progress = on_progress;
  copy.stop = &stop;
  YANGTUO_ASSIGN_OR_RETURN(report.tensors,
                           CopyTensors(*conversion.input.tensors, prepared.plan, *writer, copy));
  YANGTUO_ASSIGN_OR_RETURN(report.digest, AddManifest(prepared.output, report.tensors, *writer));
  YANGTUO_RETURN_IF_ERROR(writer->Finish());
  report.seconds = ToSeconds(clock.Now() - begin);
  return report;
}

int FailCommand(const std::string& command, const absl::Status& status) {
  WriteAll(STDERR_FILENO,
           absl::StrFormat("yangtuo %s: %s\n", command, std::string(status.message())));
  return 1;
}

int RunConversion(const Conversion& conversion) {
  InterruptWatch interrupts;
  std::atomic<bool> stop = false;
  interrupts.SetHandler([&stop](int) { stop = true; });
  const absl::StatusOr<PreparedConversion> prepared = Prepare(conversion);
  if (!prepared.ok()) {
    return FailCommand(conversion.command, prepared.status());
  }
  const bool json = conversion.options.json;
  WriteAll(json ? STDERR_FILENO : STDOUT_FILENO, DescribePlan(conversion, *prepared));
  if (conversion.options.dry_run) {
    if (json) {
      WriteAll(STDOUT_FILENO, EncodeReport(conversion, *prepared, nullptr));
    }
    return 0;
  }
  const SteadyClock clock;
  absl::StatusOr<ConversionReport> report;
  {
    ProgressBar bar(Terminal::LookAt(STDERR_FILENO), conversion.doing, prepared->plan.bytes_read,
                    clock.Now());
    report = Run(
        conversion, *prepared, [&](std::int64_t bytes_read) { bar.Show(bytes_read, clock.Now()); },
        stop);
  }
  if (absl::IsCancelled(report.status())) {
    WriteAll(STDERR_FILENO,
             absl::StrFormat("yangtuo %s: stopped; nothing was written\n", conversion.command));
    return kExitInterrupted;
  }
  if (!report.ok()) {
    return FailCommand(conversion.command, report.status());
  }
  WriteAll(STDOUT_FILENO, json ? EncodeReport(conversion, *prepared, &*report)
                               : DescribeReport(*prepared, *report));
  return 0;
}

}  // namespace yangtuo
