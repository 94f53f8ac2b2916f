#include "tools/bench_engine/bench_engine_command.h"

#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/strings/str_format.h"
#include "tools/bench_engine/engine_bench.h"
#include "tools/common/progress_bar.h"
#include "tools/common/table.h"
#include "tools/common/weight_type_flag.h"

namespace yangtuo {
namespace {

constexpr char kExamples[] = R"(Examples:
  yangtuo bench make-model --shape 1.3b --output bench-models
  yangtuo bench engine --model bench-models/1.3b-q4_0.gguf
  yangtuo bench engine --model models/alpaca-7b --weight-type int8 --batch 1 --batch 32 --json

Measures in this process, without services. Nothing else should run on the machine.)";

struct Arguments {
  EngineBenchOptions options;
  std::string type = "auto";
  std::string packed_weights;
  std::string kv_type = "bf16";
  bool json = false;
};

void PrintJson(const EngineSpeed& speed) {
  nlohmann::json decode = nlohmann::json::object();
  for (const DecodeSpeed& d : speed.decode) {
    decode[absl::StrFormat("%d", d.sequences)] = d.tokens_per_second;
  }
  nlohmann::json contexts = nlohmann::json::object();
  for (const ContextSpeed& c : speed.contexts) {
    contexts[absl::StrFormat("%d", c.tokens)] = {{"prefill", c.prefill_tokens_per_second},
                                                 {"decode", c.decode_tokens_per_second}};
  }
  const nlohmann::json json = {{"weight_type", speed.weight_type},
                               {"numerics", speed.numerics},
                               {"threads", speed.threads},
                               {"load_seconds", speed.load_seconds},
                               {"anonymous_bytes", speed.anonymous_bytes},
                               {"prefill", speed.prefill_tokens_per_second},
                               {"prefill_seconds", speed.prefill_seconds},
                               {"cached_prefill_seconds", speed.cached_prefill_seconds},
                               {"decode", decode},
                               {"contexts", contexts}};
  std::cout << json.dump(2) << "\n";
}

void PrintTable(const EngineSpeed& speed, std::int32_t prompt_tokens) {
  Table table{.columns = {{"measure"}, {"result", Align::kRight}}, .rows = {}};
  const auto add = [&](std::string name, std::string value) {
    table.rows.push_back({std::move(name), std::move(value)});
  };
  add("weights", speed.numerics);
  add("threads", absl::StrFormat("%d", speed.threads));
  add("load", absl::StrFormat("%.1f s", speed.load_seconds));
  add("anonymous memory", FormatBytes(speed.anonymous_bytes));
  add(absl::StrFormat("prefill of %d", prompt_tokens),
      absl::StrFormat("%.1f tok/s", speed.prefill_tokens_per_second));
  add("the same, seven eighths of it cached",
      absl::StrFormat("%.1f times faster", speed.prefill_seconds / speed.cached_prefill_seconds));
  for (const DecodeSpeed& d : speed.decode) {
    add(absl::StrFormat("decode of %d together", d.sequences),
        absl::StrFormat("%.1f tok/s", d.tokens_per_second));
  }
  for (const ContextSpeed& c : speed.contexts) {
    add(absl::StrFormat("prefill of %d", c.tokens),
        absl::StrFormat("%.1f tok/s", c.prefill_tokens_per_second));
    add(absl::StrFormat("decode of 1 after %d", c.tokens),
        absl::StrFormat("%.1f tok/s", c.decode_tokens_per_second));
  }
  std::cout << FormatTable(table, 0);
}

int Run(const Arguments& arguments) {
  EngineBenchOptions options = arguments.options;
  options.stage.weight_type = WeightTypeNamed(arguments.type);
  options.stage.packed_weights = arguments.packed_weights;
  options.stage.kv_type = KvTypeOf(arguments.kv_type);
  const absl::StatusOr<EngineSpeed> speed = MeasureEngine(options);
  if (!speed.ok()) {
    std::cerr << "yangtuo bench engine: " << speed.status().message() << "\n";
    return 1;
  }
  if (arguments.json) {
    PrintJson(*speed);
  } else {
    PrintTable(*speed, options.prompt_tokens);
  }
  return 0;
}

}  // namespace

void AddBenchEngineCommand(CLI::App& parent, std::function<int()>& run) {
  CLI::App& app =
      *parent.add_subcommand("engine", "Prefill, decode, loading and memory of a model");
  const auto arguments = std::make_shared<Arguments>();
  EngineBenchOptions& options = arguments->options;
  app.add_option_function<std::string>(
         "--model", [&options](const std::string& path) { options.stage.model = path; },
         "model: a folder or a file")
      ->required()
      ->type_name("PATH");
  app.add_option("--packed-weights", arguments->packed_weights,
                 "folder that keeps packed weights, as a worker's: the second run loads from there")
      ->type_name("FOLDER");
  app.add_option("--weight-type", arguments->type, "what products compute with")
      ->check(CLI::IsMember(WeightTypeNames()))
      ->capture_default_str();
  app.add_option("--kv-type", arguments->kv_type, "what the KV cache is kept as")
      ->check(CLI::IsMember(KvTypeNames()))
      ->capture_default_str();
  app.add_option("--threads", options.stage.threads, "compute threads; 0: one per usable core")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  app.add_option("--prompt", options.prompt_tokens, "tokens of the prompt")
      ->check(CLI::Range(1, 32768))
      ->capture_default_str();
  app.add_option("--decode", options.decode_tokens, "tokens that each sequence decodes")
      ->check(CLI::Range(1, 4096))
      ->capture_default_str();
  app.add_option("--batch", options.batches, "sequences that decode together; may be given again")
      ->check(CLI::Range(1, 512))
      ->allow_extra_args(false)
      ->capture_default_str();
  app.add_option("--context", arguments->options.contexts,
                 "also one sequence after a prompt this long; may be given again")
      ->check(CLI::Range(1, 131072))
      ->allow_extra_args(false);
  app.add_option("--repeats", options.repeats, "measure so often; the best counts")
      ->check(CLI::Range(1, 100))
      ->capture_default_str();
  app.add_flag("--json", arguments->json, "print JSON instead of a table");
  app.footer(kExamples);
  app.callback([&run, arguments] { run = [arguments] { return Run(*arguments); }; });
}

}  // namespace yangtuo
