#include "tools/bench_engine/bench_engine_command.h"

#include <iostream>
#include <memory>
#include <string>

#include "CLI/CLI.hpp"
#include "tools/bench_engine/engine_bench.h"
#include "tools/bench_engine/engine_report.h"
#include "tools/common/report_file.h"
#include "tools/common/weight_type_flag.h"

namespace yangtuo {
namespace {

constexpr char kExamples[] = R"(Examples:
  yangtuo bench make-model --shape 1.3b --output bench-models
  yangtuo bench engine --model bench-models/1.3b-q4_0.gguf
  yangtuo bench engine --model models/alpaca-7b --weight-type int8 --batch 1 --batch 32 --json
  yangtuo bench engine --model models/alpaca-7b-q4_k.gguf --weight-type gguf
  yangtuo bench make-model --shape 1.3b --context 33000 --output long
  yangtuo bench engine --model long/1.3b-q4_0.gguf --context 2048 --context 32768 --svg engine.svg

Measures in this process, without services. Nothing else should run on the machine.)";

struct Arguments {
  EngineBenchOptions options;
  std::string type = "auto";
  std::string packed_weights;
  std::string kv_type = "bf16";
  bool json = false;
  std::string svg;
};

int Run(const Arguments& arguments) {
  EngineBenchOptions options = arguments.options;
  options.stage.weight_type = WeightTypeNamed(arguments.type);
  options.stage.packed_weights = arguments.packed_weights;
  options.stage.kv_type = KvTypeOf(arguments.kv_type);
  const absl::StatusOr<EngineSpeed> speed =
      MeasureEngine(options, [](const std::string& what) { std::cerr << what << "\n"; });
  if (!speed.ok()) {
    std::cerr << "yangtuo bench engine: " << speed.status().message() << "\n";
    return 1;
  }
  std::cout << (arguments.json ? EngineSpeedJson(*speed) : FormatEngineSpeed(*speed));
  if (!arguments.svg.empty()) {
    if (const absl::Status written = WriteReport(arguments.svg, EngineSpeedSvg(*speed));
        !written.ok()) {
      std::cerr << "yangtuo bench engine: " << written.message() << "\n";
      return 1;
    }
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
  app.add_option("--svg", arguments->svg, "write plots")->type_name("FILE");
  app.footer(kExamples);
  app.callback([&run, arguments] { run = [arguments] { return Run(*arguments); }; });
}

}  // namespace yangtuo
