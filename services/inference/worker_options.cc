#include "services/inference/worker_options.h"

#include <charconv>
#include <chrono>
#include <filesystem>
#include <map>
#include <optional>
#include <string_view>
#include <utility>

#include "absl/strings/str_format.h"
#include "inference_core/base/status_macros.h"

namespace yangtuo {
namespace {

constexpr char kExamples[] = R"(Examples:
  yangtuo-worker --model models/chinese-alpaca-2-7b
  yangtuo-worker --model M --shard=1/2 --listen 127.0.0.1:50054 --admin-listen 127.0.0.1:9402
  yangtuo-worker --model M --shard=0/2 --next 127.0.0.1:50060
The last two make one group: the shard with the first layers leads it and serves gateways.)";

// "a<separator>b" with both numbers whole.
std::optional<std::pair<std::int32_t, std::int32_t>> ParsePair(std::string_view text,
                                                               char separator) {
  const std::size_t at = text.find(separator);
  if (at == std::string_view::npos) {
    return std::nullopt;
  }
  const auto parse = [](std::string_view digits, std::int32_t& value) {
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
    return error == std::errc() && end == digits.data() + digits.size();
  };
  std::pair<std::int32_t, std::int32_t> numbers;
  if (!parse(text.substr(0, at), numbers.first) || !parse(text.substr(at + 1), numbers.second)) {
    return std::nullopt;
  }
  return numbers;
}

CLI::Option* AddSeconds(CLI::App& app, const char* flag, Duration& value, const char* description) {
  return app
      .add_option_function<double>(
          flag,
          [&value](double seconds) {
            value = std::chrono::duration_cast<Duration>(std::chrono::duration<double>(seconds));
          },
          description)
      ->check(CLI::Range(0.0, 86400.0))
      ->default_function([&value] { return absl::StrFormat("%g", ToSeconds(value)); })
      ->capture_default_str();
}

void AddModelFlags(CLI::App& app, WorkerOptions& options) {
  constexpr char kGroup[] = "Model";
  app.add_option("--model", options.model, "Folder in Hugging Face layout")->group(kGroup);
  app.add_option("--model-name", options.model_name, "Name that clients use; default: the folder's")
      ->group(kGroup);
  app.add_option("--shard", options.shard,
                 "Hold shard I of N nearly equal ranges of layers, written I/N; 0 leads")
      ->group(kGroup);
  app.add_option("--layers", options.layers,
                 "Hold layers A up to, not including, B, written A:B (instead of --shard)")
      ->group(kGroup);
  app.add_option("--next", options.next,
                 "Shard address (host:port) of the worker with the following layers")
      ->group(kGroup);
  app.add_option("--shard-listen", options.shard_listen,
                 "Where the worker with the preceding layers finds this one; unused by the leader")
      ->capture_default_str()
      ->group(kGroup);
  app.add_option("--weight-type", options.weight_type,
                 "auto (bf16 where the CPU multiplies it, else f32), f32 or bf16")
      ->transform(
          CLI::CheckedTransformer(std::map<std::string, WeightType>{{"auto", WeightType::kAuto},
                                                                    {"f32", WeightType::kF32},
                                                                    {"bf16", WeightType::kBF16}},
                                  CLI::ignore_case)
              .description("{auto,f32,bf16}"))
      ->default_str("auto")
      ->group(kGroup);
}

void AddMemoryFlags(CLI::App& app, WorkerOptions& options) {
  constexpr char kGroup[] = "Memory and threads";
  app.add_option("--context", options.context_tokens,
                 "Positions of a sequence, prompt and answer together; 0: the model's")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str()
      ->group(kGroup);
  app.add_option("--kv-memory", options.kv_memory_bytes,
                 "KV cache of this worker in bytes, or with a unit: 512MiB, 4GiB")
      ->transform(CLI::AsSizeValue(false))
      ->capture_default_str()
      ->group(kGroup);
  app.add_option("--kv-blocks", options.kv_blocks,
                 "KV cache in blocks of 32 positions instead; 0: what --kv-memory holds")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str()
      ->group(kGroup);
  app.add_option("--threads", options.threads, "Compute threads; 0: one per usable physical core")
      ->check(CLI::Range(0, 1024))
      ->capture_default_str()
      ->group(kGroup);
}

void AddBatchingFlags(CLI::App& app, WorkerOptions& options) {
  constexpr char kGroup[] = "Batching";
  app.add_option("--step-tokens", options.engine.step_tokens,
                 "Rows of one step; bounds its length, and with it the delay of a cancellation")
      ->check(CLI::Range(1, 8192))
      ->capture_default_str()
      ->group(kGroup);
  app.add_option("--prompt-chunk", options.engine.prompt_chunk,
                 "Most prompt rows of one sequence in a step; 0: no limit but --step-tokens")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str()
      ->group(kGroup);
  app.add_option("--max-running", options.engine.max_running, "Sequences computed together")
      ->check(CLI::Range(1, 65536))
      ->capture_default_str()
      ->group(kGroup);
  app.add_option("--max-waiting", options.engine.max_waiting,
                 "Sequences that may wait; more are refused with RESOURCE_EXHAUSTED")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str()
      ->group(kGroup);
  app.add_option("--max-waiting-tokens", options.engine.max_waiting_tokens,
                 "Prompt tokens that may wait")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str()
      ->group(kGroup);
  AddSeconds(app, "--recovery-seconds", options.engine.recovery_limit,
             "How long sequences wait for a lost shard before they fail")
      ->group(kGroup);
  AddSeconds(app, "--step-limit-seconds", options.timing.step_limit,
             "A shard that makes no progress for this long while steps are pending is hung")
      ->group(kGroup);
}

}  // namespace

void AddWorkerFlags(CLI::App& app, WorkerOptions& options) {
  AddModelFlags(app, options);
  AddMemoryFlags(app, options);
  AddBatchingFlags(app, options);
  app.footer(kExamples);
}

absl::Status CheckWorkerOptions(const WorkerOptions& options) {
  if (options.model.empty()) {
    return absl::InvalidArgumentError("--model is missing: give the folder of a model");
  }
  std::error_code error;
  if (!std::filesystem::is_directory(options.model, error)) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "--model %s: there is no such folder; it must hold config.json and *.safetensors",
        options.model));
  }
  if (!options.shard.empty() && !options.layers.empty()) {
    return absl::InvalidArgumentError("--shard and --layers say the same: give one of them");
  }
  if (options.kv_blocks == 0 && options.kv_memory_bytes <= 0) {
    return absl::InvalidArgumentError("--kv-memory must be positive");
  }
  YANGTUO_ASSIGN_OR_RETURN(const LlamaConfig config, ReadLlamaConfig(options.model));
  YANGTUO_ASSIGN_OR_RETURN(const LayerRange range, LayersOf(options, config.layers));
  if (range.last < config.layers && options.next.empty()) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "this worker holds layers %d to %d of %d: --next must name the worker that continues",
        range.first, range.last - 1, config.layers));
  }
  if (range.last == config.layers && !options.next.empty()) {
    return absl::InvalidArgumentError(
        "this worker holds the last layers: nothing follows, so --next must be left out");
  }
  return absl::OkStatus();
}

std::string PublicModelName(const WorkerOptions& options) {
  if (!options.model_name.empty()) {
    return options.model_name;
  }
  const std::filesystem::path path = std::filesystem::absolute(options.model).lexically_normal();
  return (path.has_filename() ? path : path.parent_path()).filename().string();
}

absl::StatusOr<LayerRange> LayersOf(const WorkerOptions& options, std::int32_t num_layers) {
  if (!options.layers.empty()) {
    const auto range = ParsePair(options.layers, ':');
    if (!range.has_value() || range->first < 0 || range->first >= range->second ||
        range->second > num_layers) {
      return absl::InvalidArgumentError(
          absl::StrFormat("--layers %s: expected A:B with 0 <= A < B <= %d, the model's layers",
                          options.layers, num_layers));
    }
    return LayerRange{.first = range->first, .last = range->second};
  }
  if (!options.shard.empty()) {
    const auto place = ParsePair(options.shard, '/');
    if (!place.has_value() || place->first < 0 || place->first >= place->second ||
        place->second > num_layers) {
      return absl::InvalidArgumentError(
          absl::StrFormat("--shard %s: expected I/N with 0 <= I < N <= %d, the model's layers",
                          options.shard, num_layers));
    }
    return ShardLayers(num_layers, place->first, place->second);
  }
  return LayerRange{.first = 0, .last = num_layers};
}

}  // namespace yangtuo
