#include <cstdlib>
#include <functional>
#include <iostream>
#include <string>

#include "CLI/CLI.hpp"
#include "services/common/build_info.h"
#include "tools/bench_compare/bench_compare_command.h"
#include "tools/bench_engine/bench_engine_command.h"
#include "tools/bench_gateway/bench_gateway_command.h"
#include "tools/bench_kernels/bench_kernels_command.h"
#include "tools/bench_make_model/make_model_command.h"
#include "tools/bench_serve/bench_serve_command.h"
#include "tools/chat/chat_command.h"
#include "tools/convert/convert_command.h"
#include "tools/estimate/estimate_command.h"
#include "tools/eval/eval_command.h"
#include "tools/generate/generate_command.h"
#include "tools/health/health_command.h"
#include "tools/inspect/inspect_command.h"
#include "tools/keys/keys_command.h"
#include "tools/merge_lora/merge_lora_command.h"
#include "tools/merge_tokenizer/merge_tokenizer_command.h"
#include "tools/models/models_command.h"
#include "tools/quantize/quantize_command.h"
#include "tools/status/status_command.h"
#include "tools/up/up_command.h"
#include "tools/verify/verify_command.h"

namespace {

constexpr int kExitUsage = 2;

constexpr char kExamples[] = R"(Examples:
  yangtuo up                                     run the embedded demo model
  yangtuo generate 写一首题为《春望》的五言律诗。  ask it, from another terminal
  yangtuo chat                                   a conversation
  yangtuo up --help                              what a command takes, with examples)";

// Names the command whose help has the answer.
std::string Explain(const CLI::App* app, const CLI::Error& error) {
  const auto chosen = app->get_subcommands();
  const std::string command = chosen.empty() ? "yangtuo" : "yangtuo " + chosen[0]->get_name();
  std::string what = error.what();
  if (chosen.empty() && !app->remaining().empty()) {
    what = "there is no command " + app->remaining().front();
  }
  return command + ": " + what + "\n" + command + " --help shows what there is\n";
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Serves LLaMA models on CPUs, and talks to them.", "yangtuo");
  std::function<int()> run;
  yangtuo::AddUpCommand(app, run);
  yangtuo::AddGenerateCommand(app, run);
  yangtuo::AddChatCommand(app, run);
  yangtuo::AddModelsCommand(app, run);
  yangtuo::AddStatusCommand(app, run);
  yangtuo::AddMergeLoraCommand(app, run);
  yangtuo::AddConvertCommand(app, run);
  yangtuo::AddMergeTokenizerCommand(app, run);
  yangtuo::AddVerifyCommand(app, run);
  yangtuo::AddInspectCommand(app, run);
  yangtuo::AddEstimateCommand(app, run);
  yangtuo::AddQuantizeCommand(app, run);
  yangtuo::AddHealthCommand(app, run);
  yangtuo::AddKeysCommand(app, run);
  yangtuo::AddEvalCommand(app, run);
  CLI::App& bench = *app.add_subcommand("bench", "measure the engine and parts of a cluster");
  yangtuo::AddBenchMakeModelCommand(bench, run);
  yangtuo::AddBenchKernelsCommand(bench, run);
  yangtuo::AddBenchEngineCommand(bench, run);
  yangtuo::AddBenchCompareCommand(bench, run);
  yangtuo::AddBenchGatewayCommand(bench, run);
  yangtuo::AddBenchServeCommand(bench, run);
  bench.footer("Examples:\n  yangtuo bench engine --help\n  yangtuo bench serve --help");
  app.set_version_flag("--version", std::string(yangtuo::ThisBuild().version));
  app.footer(kExamples);
  app.failure_message(Explain);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? EXIT_SUCCESS : kExitUsage;
  }
  if (!run) {
    std::cerr << (bench.parsed() ? bench : app).help();
    return kExitUsage;
  }
  return run();
}
