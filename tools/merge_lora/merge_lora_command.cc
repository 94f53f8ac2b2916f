#include "tools/merge_lora/merge_lora_command.h"

#include <algorithm>
#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/strings/str_format.h"
#include "tools/convert/conversion.h"

namespace yangtuo {
namespace {

constexpr char kExamples[] = R"(Examples:
  yangtuo merge-lora --base llama-7b-hf --lora chinese-alpaca-lora-7b --output alpaca-7b
  yangtuo merge-lora --base llama-13b-hf --lora chinese-llama-plus-lora-13b \
      --lora chinese-alpaca-plus-lora-13b --output alpaca-plus-13b --format pth --shards 2
  yangtuo merge-lora --base llama-7b-hf --lora chinese-alpaca-lora-7b --output alpaca.gguf --type q4_0
  yangtuo merge-lora --base llama-7b-hf --lora chinese-alpaca-lora-7b --output x --dry-run

Adapters are merged in the order given: the pre-trained one first, the instruction-tuned one after it.
Sums are accumulated in double and rounded once for each adapter, so that the result has the same
digest on every machine. A few rows are in memory at a time, whatever the size of the model.)";

struct MergeLoraOptions {
  std::string base;
  std::vector<std::string> adapters;
  std::string type = "f16";
  OutputOptions output;
};

int RunMergeLora(const MergeLoraOptions& options) {
  constexpr char kCommand[] = "merge-lora";
  const absl::StatusOr<DType> type = TypeNamed(options.type);
  if (!type.ok()) {
    return FailCommand(kCommand, type.status());
  }
  const absl::StatusOr<CheckpointFormat> format = FormatNamed(options.output);
  if (!format.ok()) {
    return FailCommand(kCommand, format.status());
  }
  absl::StatusOr<Checkpoint> base = OpenCheckpoint(options.base);
  if (!base.ok()) {
    return FailCommand(kCommand, base.status());
  }
  std::vector<std::string> notes;
  if (const auto quantized =
          std::count_if(base->tensors->tensors().begin(), base->tensors->tensors().end(),
                        [](const TensorSpec& tensor) { return !IsPlain(tensor.dtype); });
      quantized > 0) {
    notes.push_back(absl::StrFormat(
        "%d tensors of the base are quantized: the merged model has their loss; start from the "
        "16-bit base if you can",
        quantized));
  }
  const std::vector<std::filesystem::path> folders(options.adapters.begin(),
                                                   options.adapters.end());
  // A quantized model is made of the f16 one, in the same pass.
  absl::StatusOr<Checkpoint> merged =
      WithAdapters(*std::move(base), folders, IsPlain(*type) ? *type : DType::kF16);
  if (!merged.ok()) {
    return FailCommand(kCommand, merged.status());
  }
  absl::StatusOr<TypePolicy> types = ConversionTypes(options.type, *merged, *format);
  if (!types.ok()) {
    return FailCommand(kCommand, types.status());
  }
  return RunConversion({.command = kCommand,
                        .doing = "merging",
                        .input = *std::move(merged),
                        .options = options.output,
                        .types = *std::move(types),
                        .notes = std::move(notes)});
}

}  // namespace

void AddMergeLoraCommand(CLI::App& parent, std::function<int()>& run) {
  CLI::App& app =
      *parent.add_subcommand("merge-lora", "merge published LoRA adapters into their base model");
  const auto options = std::make_shared<MergeLoraOptions>();
  app.add_option("--base", options->base, "the model that the first adapter was trained on")
      ->required()
      ->type_name("PATH");
  app.add_option("--lora", options->adapters, "an adapter's folder; again for each further one")
      ->required()
      ->type_name("DIR");
  app.add_option("--type", options->type,
                 "type of the matrices: f16, bf16, f32, q8_0, q4_0, q4_k, q6_k, int8, int4; "
                 "default f16");
  AddOutputFlags(app, options->output);
  app.footer(kExamples);
  app.callback([&run, options] { run = [options] { return RunMergeLora(*options); }; });
}

}  // namespace yangtuo
