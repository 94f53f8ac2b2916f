#include "services/inference/worker_options.h"

#include <chrono>
#include <filesystem>
#include <map>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "inference_core/base/status_macros.h"
#include "inference_core/kernels/kv_layout.h"
#include "services/common/listen_address.h"

namespace yangtuo {
namespace {

constexpr char kModel[] = "Model";
constexpr char kShards[] = "Shards";
constexpr char kCapacity[] = "Capacity";
constexpr char kRecovery[] = "Recovery";
constexpr char kNextShard[] = "{next}";

constexpr char kExamples[] = R"(Examples:
  yangtuo-worker --model models/poem-alpaca
  yangtuo-worker --model models/alpaca-7b --weight-type int4 --kv-memory 8GiB --max-running 32
  yangtuo-worker --model models/llama-7b --adapter adapters/chinese-llama --weight-type int8
  yangtuo-worker --model models/alpaca-7b-q4_k.gguf --weight-type gguf

  Two workers with half of the layers each; the second one starts first or last, as you like:
  yangtuo-worker --model models/poem-alpaca --shard=1/2 --listen 127.0.0.1:0 \
                 --admin-listen 127.0.0.1:0 --shard-listen 127.0.0.1:50060
  yangtuo-worker --model models/poem-alpaca --shard=0/2 --next 127.0.0.1:50060

  One template for all three workers of a group, which machines "alpaca-0" to "alpaca-2" run:
  yangtuo-worker --model models/alpaca-7b --shard=$INDEX/3 --next 'alpaca-{next}:50060' \
                 --shard-listen 0.0.0.0:50060)";

// Whether --next names all followers of a group at once.
bool IsTemplate(const std::string& next) { return absl::StrContains(next, kNextShard); }

// Two numbers with `separator` between them.
std::optional<std::pair<std::int32_t, std::int32_t>> ParsePair(const std::string& text,
                                                               char separator) {
  const std::vector<std::string> parts = absl::StrSplit(text, separator);
  std::pair<std::int32_t, std::int32_t> pair;
  if (parts.size() != 2 || !absl::SimpleAtoi(parts[0], &pair.first) ||
      !absl::SimpleAtoi(parts[1], &pair.second)) {
    return std::nullopt;
  }
  return pair;
}

void AddSeconds(CLI::App& app, const char* flag, Duration& value, const char* description) {
  app.add_option_function<double>(
         flag,
         [&value](double seconds) {
           value = std::chrono::duration_cast<Duration>(std::chrono::duration<double>(seconds));
         },
         description)
      ->check(CLI::Range(0.01, 86400.0))
      ->default_function([&value] { return absl::StrFormat("%g", ToSeconds(value)); })
      ->capture_default_str()
      ->group(kRecovery);
}

void AddModelFlags(CLI::App& app, WorkerOptions& options) {
  static const std::map<std::string, WeightType> kWeightTypes = {
      {"auto", WeightType::kAuto}, {"f32", WeightType::kF32},   {"bf16", WeightType::kBF16},
      {"int8", WeightType::kInt8}, {"int4", WeightType::kInt4}, {"gguf", WeightType::kGguf}};
  app.add_option_function<std::string>(
         "--model", [&options](const std::string& path) { options.stage.model = path; },
         "Model: a folder in Hugging Face or Meta layout, or a GGUF or llama2.c file")
      ->type_name("PATH")
      ->group(kModel);
  app.add_option_function<std::vector<std::string>>(
         "--adapter",
         [&options](const std::vector<std::string>& paths) {
           options.stage.adapters.assign(paths.begin(), paths.end());
         },
         "LoRA adapter to merge into the model while it is read; may be given again")
      ->type_name("FOLDER")
      ->allow_extra_args(false)
      ->group(kModel);
  app.add_option("--model-name", options.model_name,
                 "Public name of the model; default: the folder's")
      ->group(kModel);
  app.add_option_function<std::string>(
         "--weight-type",
         [&options](const std::string& name) { options.stage.weight_type = kWeightTypes.at(name); },
         "What products compute with; auto: int8 or int4 where the model is stored in few bits, "
         "else bf16 where the CPU multiplies it, else f32; gguf: the blocks of a GGUF file to the "
         "letter")
      ->check(CLI::IsMember(kWeightTypes))
      ->default_function([&options] {
        for (const auto& [name, type] : kWeightTypes) {
          if (type == options.stage.weight_type) {
            return name;
          }
        }
        return std::string();
      })
      ->capture_default_str()
      ->group(kModel);
  static const std::map<std::string, kernels::IntegerPath> kInstructionSets = {
      {"auto", kernels::IntegerPath::kFastest},
      {"portable", kernels::IntegerPath::kPortable},
      {"avx2", kernels::IntegerPath::kAvx2},
      {"avx_vnni", kernels::IntegerPath::kAvxVnni},
      {"avx512_vnni", kernels::IntegerPath::kAvx512Vnni}};
  app.add_option_function<std::string>(
         "--integer-instructions",
         [&options](const std::string& name) {
           options.stage.integer_path = kInstructionSets.at(name);
         },
         "Instruction set of int8, int4 and gguf products, which all give the same tokens; auto: "
         "the "
         "best that the CPU has")
      ->check(CLI::IsMember(kInstructionSets))
      ->default_function([&options] {
        for (const auto& [name, path] : kInstructionSets) {
          if (path == options.stage.integer_path) {
            return name;
          }
        }
        return std::string();
      })
      ->capture_default_str()
      ->group(kModel);
  app.add_option_function<std::string>(
         "--packed-weights",
         [&options](const std::string& place) { options.packed_weights = place; },
         "Where weights that are searched for while a model loads (int4 of other types) are kept, "
         "so that the next start is a matter of seconds: beside (in .yangtuo beside the model, if "
         "it can be written), off, or a folder")
      ->type_name("beside|off|FOLDER")
      ->default_function([&options] { return options.packed_weights; })
      ->capture_default_str()
      ->group(kModel);
  app.add_option("--context", options.stage.context_tokens,
                 "Longest sequence in tokens; 0: the model's")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str()
      ->group(kModel);
}

void AddShardFlags(CLI::App& app, WorkerOptions& options) {
  CLI::Option* layers =
      app.add_option("--layers", options.layers, "Hold layers a up to, not including, b only")
          ->type_name("a:b")
          ->group(kShards);
  app.add_option("--shard", options.shard, "Hold the i-th of n nearly equal parts, from 0")
      ->type_name("i/n")
      ->excludes(layers)
      ->group(kShards);
  app.add_option("--next", options.next,
                 "Shard address of the worker with the following layers; {next} in it stands for "
                 "that shard's number, and the last shard ignores such an address")
      ->type_name("HOST:PORT")
      ->group(kShards);
  app.add_option("--shard-listen", options.shard_listen,
                 "Where the worker with the layers before connects to (not used by the first)")
      ->type_name("HOST:PORT")
      ->capture_default_str()
      ->group(kShards);
}

void AddCapacityFlags(CLI::App& app, WorkerOptions& options) {
  static const std::map<std::string, PrefixCache> kPrefixCache = {{"on", PrefixCache::kOn},
                                                                  {"off", PrefixCache::kOff}};
  const auto add = [&app](const char* flag, auto& value, const char* description) {
    return app.add_option(flag, value, description)->capture_default_str()->group(kCapacity);
  };
  add("--kv-blocks", options.stage.kv_blocks, "KV blocks of 32 positions; 0: as --kv-memory holds")
      ->check(CLI::NonNegativeNumber);
  add("--kv-memory", options.stage.kv_memory_bytes, "Memory for KV blocks, e.g. 512MiB or 4GiB")
      ->type_name("BYTES")
      ->transform(CLI::AsSizeValue(false));
  app.add_option_function<std::string>(
         "--kv-type",
         [&options](const std::string& name) {
           options.stage.kv_type = kernels::KvTypeNamed(name).value_or(options.stage.kv_type);
         },
         "What keys and values are kept as: bf16 takes half the memory of f32, int8 a quarter")
      ->check(CLI::IsMember({"f32", "bf16", "int8"}))
      ->default_function([&options] { return std::string(kernels::NameOf(options.stage.kv_type)); })
      ->capture_default_str()
      ->group(kCapacity);
  add("--threads", options.stage.threads, "Compute threads; 0: one per usable core")
      ->check(CLI::NonNegativeNumber);
  add("--step-tokens", options.engine.step_tokens, "Tokens that one step computes at most")
      ->check(CLI::PositiveNumber);
  add("--prompt-chunk", options.engine.prompt_chunk,
      "Tokens of one prompt in a step at most; 0: --step-tokens")
      ->check(CLI::NonNegativeNumber);
  app.add_option_function<double>(
         "--target-step-ms",
         [&options](double milliseconds) {
           options.engine.target_step = std::chrono::duration_cast<Duration>(
               std::chrono::duration<double, std::milli>(milliseconds));
         },
         "While answers are being generated, take only as many prompt tokens into a step as let it "
         "last about this long; 0: no such limit")
      ->check(CLI::Range(0.0, 60000.0))
      ->default_function([&options] {
        return absl::StrFormat("%g", 1000.0 * ToSeconds(options.engine.target_step));
      })
      ->capture_default_str()
      ->group(kCapacity);
  app.add_option_function<std::string>(
         "--prefix-cache",
         [&options](const std::string& on) { options.engine.prefix_cache = kPrefixCache.at(on); },
         "Use KV blocks of earlier requests again when a request begins alike")
      ->check(CLI::IsMember(kPrefixCache))
      ->default_function([&options] {
        return options.engine.prefix_cache == PrefixCache::kOn ? std::string("on") : "off";
      })
      ->capture_default_str()
      ->group(kCapacity);
  add("--max-running", options.engine.max_running, "Requests computed at the same time")
      ->check(CLI::PositiveNumber);
  add("--max-waiting", options.engine.max_waiting,
      "Requests in the queue; more are refused with RESOURCE_EXHAUSTED")
      ->check(CLI::NonNegativeNumber);
  add("--max-waiting-tokens", options.engine.max_waiting_tokens, "Prompt tokens in the queue")
      ->check(CLI::NonNegativeNumber);
}

absl::Status BadFlag(const char* flag, const std::string& value, const char* expected) {
  return absl::InvalidArgumentError(absl::StrFormat("--%s %s: expected %s", flag, value, expected));
}

}  // namespace

void AddWorkerFlags(CLI::App& app, WorkerOptions& options) {
  AddModelFlags(app, options);
  AddShardFlags(app, options);
  AddCapacityFlags(app, options);
  AddSeconds(app, "--recovery-seconds", options.engine.recovery_limit,
             "How long running requests wait for a lost shard");
  AddSeconds(app, "--recovery-pause-seconds", options.engine.recovery_pause,
             "Pause between attempts to reach a lost shard");
  AddSeconds(app, "--shard-step-seconds", options.shard_timing.step_limit,
             "A shard that makes no progress with a step for this long is hung");
  app.footer(kExamples);
}

absl::Status CheckWorkerOptions(const WorkerOptions& options) {
  if (options.stage.model.empty()) {
    return absl::InvalidArgumentError("--model is missing: the model to serve");
  }
  std::error_code error;
  if (!std::filesystem::exists(options.stage.model, error)) {
    return BadFlag("model", options.stage.model.string(), "a model's folder or file");
  }
  for (const std::filesystem::path& adapter : options.stage.adapters) {
    if (!std::filesystem::is_directory(adapter, error)) {
      return BadFlag("adapter", adapter.string(), "a folder with adapter_config.json and weights");
    }
  }
  if (!options.layers.empty()) {
    const auto layers = ParsePair(options.layers, ':');
    if (!layers.has_value() || layers->first < 0 || layers->second <= layers->first) {
      return BadFlag("layers", options.layers, "a:b with 0 <= a < b");
    }
  }
  if (!options.shard.empty()) {
    const auto shard = ParsePair(options.shard, '/');
    if (!shard.has_value() || shard->first < 0 || shard->first >= shard->second) {
      return BadFlag("shard", options.shard, "i/n with 0 <= i < n");
    }
    if (shard->first + 1 < shard->second && options.next.empty()) {
      return absl::InvalidArgumentError(
          absl::StrFormat("--shard %s needs --next: the --shard-listen address of shard %d",
                          options.shard, shard->first + 1));
    }
  }
  if (IsTemplate(options.next) && options.shard.empty()) {
    return BadFlag("next", options.next, "--shard beside {next}: it numbers the shards");
  }
  return ParseListenAddress(options.shard_listen).status();
}

absl::StatusOr<ShardPlace> ResolvePlace(const WorkerOptions& options, std::int32_t num_layers) {
  ShardPlace place{.layers = {.first = 0, .last = num_layers}};
  if (!options.shard.empty()) {
    const auto shard = ParsePair(options.shard, '/').value_or(std::pair(-1, -1));
    YANGTUO_ASSIGN_OR_RETURN(place.layers, ShardLayers(num_layers, shard.first, shard.second));
    place.index = shard.first;
    place.shards = shard.second;
  } else if (!options.layers.empty()) {
    const auto layers = ParsePair(options.layers, ':').value_or(std::pair(-1, -1));
    place.layers = {.first = layers.first, .last = layers.second};
    if (layers.first < 0 || layers.second <= layers.first || layers.second > num_layers) {
      return absl::InvalidArgumentError(
          absl::StrFormat("--layers %s: the model has layers 0:%d", options.layers, num_layers));
    }
    place.index = layers.first == 0 ? 0 : 1;
    place.shards = place.index + (layers.second == num_layers ? 1 : 2);
  }
  const bool last = place.layers.last == num_layers;
  if (last && !options.next.empty() && !IsTemplate(options.next)) {
    return absl::InvalidArgumentError(
        absl::StrFormat("--next %s: layers %d:%d end the model, so no worker follows", options.next,
                        place.layers.first, place.layers.last));
  }
  if (!last && options.next.empty()) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "--next is missing: layers %d:%d do not end the model, so name the worker that follows",
        place.layers.first, place.layers.last));
  }
  return place;
}

std::string NextAddress(const WorkerOptions& options, const ShardPlace& place) {
  if (!IsTemplate(options.next)) {
    return options.next;
  }
  return place.index + 1 == place.shards
             ? ""
             : absl::StrReplaceAll(options.next, {{kNextShard, absl::StrCat(place.index + 1)}});
}

}  // namespace yangtuo
