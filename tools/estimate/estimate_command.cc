#include "tools/estimate/estimate_command.h"

#include <array>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <unistd.h>

#include "CLI/CLI.hpp"
#include "absl/strings/str_format.h"
#include "inference_core/base/status_macros.h"
#include "inference_core/checkpoint/checkpoint.h"
#include "inference_core/quant/quant.h"
#include "tools/common/json_text.h"
#include "tools/common/progress_bar.h"
#include "tools/common/table.h"
#include "tools/common/terminal.h"
#include "tools/common/weight_type_flag.h"
#include "tools/convert/conversion.h"
#include "tools/estimate/estimate.h"

namespace yangtuo {
namespace {

constexpr char kExamples[] = R"(Examples:
  yangtuo estimate --shape 7b --type int4 --context 2048 --concurrency 8
  yangtuo estimate alpaca-13b --type int8
  yangtuo estimate --shape 33b                  every type in a table

Memory is that of a worker with all layers; n shards share weights and KV cache between them. Sizes are
in powers of 1000 (GB), as disks are sold; divide by 1.074 for GiB.)";

struct EstimateOptions {
  std::string path;
  std::string shape;
  std::string type;
  std::string kv_type = "bf16";
  std::int32_t vocab = 0;
  std::int64_t context = 0;
  std::int64_t concurrency = 1;
  bool json = false;
};

constexpr std::array<DType, 8> kTypes = {DType::kF32,  DType::kBF16, DType::kInt8, DType::kQ8_0,
                                         DType::kQ6_K, DType::kQ4_K, DType::kQ4_0, DType::kInt4};

absl::StatusOr<LlamaConfig> ConfigOf(const EstimateOptions& options) {
  if (options.path.empty() == options.shape.empty()) {
    return absl::InvalidArgumentError("expected a model's path or --shape, one of the two");
  }
  if (!options.path.empty() && options.vocab > 0) {
    return absl::InvalidArgumentError("--vocab goes with --shape: a model has its own vocabulary");
  }
  if (!options.path.empty()) {
    YANGTUO_ASSIGN_OR_RETURN(const Checkpoint model, OpenCheckpoint(options.path));
    return model.config;
  }
  const std::optional<LlamaConfig> config = ShapeNamed(options.shape, options.vocab);
  if (!config.has_value()) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "--shape: expected 1.3b, 7b, 13b, 33b or 65b, found \"%s\"", options.shape));
  }
  return *config;
}

nlohmann::ordered_json Encode(const Estimate& estimate, DType type) {
  return {{"type", NameOf(type)},
          {"parameters", estimate.parameters},
          {"weights_bytes", estimate.weights},
          {"kv_bytes_per_token", estimate.kv_per_token},
          {"kv_bytes", estimate.kv},
          {"activation_bytes", estimate.activations},
          {"memory_bytes", estimate.memory},
          {"merge_memory_bytes", estimate.merge_memory},
          {"f16_disk_bytes", estimate.f16_disk}};
}

int RunEstimate(const EstimateOptions& options) {
  const absl::StatusOr<LlamaConfig> config = ConfigOf(options);
  if (!config.ok()) {
    return FailCommand("estimate", config.status());
  }
  std::vector<DType> types(kTypes.begin(), kTypes.end());
  if (!options.type.empty()) {
    const std::optional<DType> type = DTypeNamed(options.type);
    if (!type.has_value()) {
      return FailCommand("estimate", absl::InvalidArgumentError(absl::StrFormat(
                                         "--type: there is no type \"%s\"", options.type)));
    }
    types = {*type};
  }
  Table table{.columns = {{"TYPE"},
                          {"BITS", Align::kRight},
                          {"WEIGHTS", Align::kRight},
                          {"KV CACHE", Align::kRight},
                          {"STEP", Align::kRight},
                          {"MEMORY", Align::kRight}},
              .rows = {}};
  nlohmann::ordered_json json = nlohmann::ordered_json::array();
  Estimate estimate;
  for (const DType type : types) {
    estimate = EstimateModel({.config = *config,
                              .type = type,
                              .kv_type = KvTypeOf(options.kv_type),
                              .context = options.context,
                              .concurrency = options.concurrency});
    json.push_back(Encode(estimate, type));
    table.rows.push_back({std::string(NameOf(type)),
                          absl::StrFormat("%.2f", 8.0 * static_cast<double>(estimate.weights) /
                                                      static_cast<double>(estimate.parameters)),
                          FormatBytes(estimate.weights), FormatBytes(estimate.kv),
                          FormatBytes(estimate.activations), FormatBytes(estimate.memory)});
  }
  if (options.json) {
    WriteAll(STDOUT_FILENO, JsonText(json));
    return 0;
  }
  WriteAll(
      STDOUT_FILENO,
      absl::StrFormat(
          "%d parameters; %d request%s of %d tokens, %s of %s KV cache a token\n\n%s\n"
          "merging an adapter into it: %s of disk for the f16 result, less than %s of memory\n",
          estimate.parameters, options.concurrency, options.concurrency == 1 ? "" : "s",
          options.context > 0 ? options.context : config->context_tokens,
          FormatBytes(estimate.kv_per_token), options.kv_type, FormatTable(table, 0),
          FormatBytes(estimate.f16_disk), FormatBytes(estimate.merge_memory)));
  return 0;
}

}  // namespace

void AddEstimateCommand(CLI::App& parent, std::function<int()>& run) {
  CLI::App& app =
      *parent.add_subcommand("estimate", "memory and disk that a model takes, before it is there");
  const auto options = std::make_shared<EstimateOptions>();
  app.add_option("path", options->path, "a model's folder or file")->type_name("PATH");
  app.add_option("--shape", options->shape, "instead: 1.3b, 7b, 13b, 33b or 65b");
  app.add_option("--vocab", options->vocab, "vocabulary of the shape; default: the Chinese one's")
      ->check(CLI::PositiveNumber);
  app.add_option("--type", options->type, "weight type; default: all in a table");
  app.add_option("--kv-type", options->kv_type, "what the KV cache is kept as")
      ->check(CLI::IsMember(KvTypeNames()))
      ->capture_default_str();
  app.add_option("--context", options->context, "tokens of a request; default: the model's context")
      ->check(CLI::PositiveNumber);
  app.add_option("--concurrency", options->concurrency, "requests at the same time")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_flag("--json", options->json, "as JSON, in bytes");
  app.footer(kExamples);
  app.callback([&run, options] { run = [options] { return RunEstimate(*options); }; });
}

}  // namespace yangtuo
