#include "tools/convert/output_options.h"

#include <array>
#include <optional>

#include "absl/status/status.h"
#include "absl/strings/str_format.h"
#include "inference_core/base/status_macros.h"
#include "inference_core/quant/quant.h"

namespace yangtuo {
namespace {

struct FormatName {
  const char* name;
  CheckpointFormat format;
};

constexpr std::array<FormatName, 5> kFormats = {{{"safetensors", CheckpointFormat::kSafetensors},
                                                 {"bin", CheckpointFormat::kTorchBin},
                                                 {"pth", CheckpointFormat::kMeta},
                                                 {"gguf", CheckpointFormat::kGguf},
                                                 {"llama2.c", CheckpointFormat::kLlama2C}}};

}  // namespace

void AddOutputFlags(CLI::App& app, OutputOptions& options) {
  app.add_option("--output", options.output, "a new folder, or a .gguf file")
      ->required()
      ->type_name("PATH");
  app.add_option("--format", options.format,
                 "safetensors, bin (pytorch_model.bin), pth (Meta's consolidated.NN.pth) or gguf; "
                 "default: gguf for a name that ends so, else safetensors")
      ->check(CLI::IsMember({"safetensors", "bin", "pth", "gguf"}));
  app.add_option("--shards", options.shards,
                 "files of pth: 1, 2, 4 or 8; default: as Meta publishes this size")
      ->check(CLI::IsMember({1, 2, 4, 8}));
  app.add_option("--max-shard-size", options.max_shard_bytes,
                 "most bytes of a safetensors or bin file, e.g. 2GB; default 5GB")
      ->transform(CLI::AsSizeValue(true));
  app.add_option("--threads", options.threads, "default: as many as this process may use")
      ->check(CLI::Range(1, 256));
  app.add_flag("--dry-run", options.dry_run,
               "say what would be done and what it needs; write nothing");
  app.add_flag("--json", options.json, "the report as JSON on standard output");
}

absl::StatusOr<CheckpointFormat> FormatNamed(const OutputOptions& options) {
  std::optional<CheckpointFormat> format;
  if (options.format.empty()) {
    format = options.output.extension() == ".gguf" ? CheckpointFormat::kGguf
                                                   : CheckpointFormat::kSafetensors;
  }
  for (const FormatName& known : kFormats) {
    format = options.format == known.name ? known.format : format;
  }
  if (!format.has_value()) {
    return absl::InvalidArgumentError(
        absl::StrFormat("expected format safetensors, bin, pth or gguf, found %s", options.format));
  }
  if (options.shards > 0 && *format != CheckpointFormat::kMeta) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "--shards is for --format pth; %s has as many files as --max-shard-size makes it",
        std::string(NameOf(*format))));
  }
  if (options.max_shard_bytes > 0 && *format != CheckpointFormat::kSafetensors &&
      *format != CheckpointFormat::kTorchBin) {
    return absl::InvalidArgumentError(
        absl::StrFormat("--max-shard-size is for formats safetensors and bin, not for %s",
                        std::string(NameOf(*format))));
  }
  return *format;
}

std::string_view NameOf(CheckpointFormat format) {
  for (const FormatName& known : kFormats) {
    if (known.format == format) {
      return known.name;
    }
  }
  return "?";
}

std::int32_t MetaShardsFor(const LlamaConfig& config) {
  return config.hidden >= 8192 ? 8 : config.hidden >= 6656 ? 4 : config.hidden >= 5120 ? 2 : 1;
}

absl::StatusOr<DType> TypeNamed(std::string_view name) {
  if (const std::optional<DType> type = DTypeNamed(name)) {
    return *type;
  }
  std::string known;
  for (int i = 0; i <= static_cast<int>(DType::kInt4); ++i) {
    known += absl::StrFormat("%s%s", known.empty() ? "" : ", ",
                             std::string(NameOf(static_cast<DType>(i))));
  }
  return absl::InvalidArgumentError(
      absl::StrFormat("expected a type (%s), found \"%s\"", known, std::string(name)));
}

absl::StatusOr<TypePolicy> ConversionTypes(std::string_view type, const Checkpoint& input,
                                           CheckpointFormat output) {
  std::optional<DType> matrices;
  if (!type.empty()) {
    YANGTUO_ASSIGN_OR_RETURN(matrices, TypeNamed(type));
  }
  const bool gguf = output == CheckpointFormat::kGguf;
  const bool follow = matrices.has_value() || input.format == CheckpointFormat::kGguf;
  const DType main = matrices.value_or(input.tensors->tensors().front().dtype);
  return TypePolicy([=](const TensorSpec& from) {
    if (from.shape.size() >= 2) {
      return matrices.value_or(from.dtype);
    }
    return gguf ? DType::kF32 : follow && IsPlain(main) ? main : from.dtype;
  });
}

}  // namespace yangtuo
