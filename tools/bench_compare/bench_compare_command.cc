#include "tools/bench_compare/bench_compare_command.h"

#include <array>
#include <cstdio>
#include <filesystem>
#include <iostream>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/strings/str_format.h"
#include "inference_core/base/cpu.h"
#include "inference_core/base/status_macros.h"
#include "tools/bench_compare/comparison.h"
#include "tools/common/report_file.h"
#include "tools/common/weight_type_flag.h"
#include "tools/up/model_folder.h"

namespace yangtuo {
namespace {

constexpr char kExamples[] = R"(Examples:
  npm install --prefix build/llama node-llama-cpp@3
  yangtuo bench make-model --shape 1.3b --output bench-models
  yangtuo bench compare --model bench-models/1.3b-q4_0.gguf \
      --package build/llama/node_modules/node-llama-cpp

Runs both programs by turns with the same threads; of every number the best run counts. Nothing else
should run on the machine.)";

struct Arguments {
  std::string model;
  std::string package;
  std::string script = YANGTUO_COMPARE_SCRIPT;
  std::string type = "auto";
  std::int32_t threads = 0;
  std::int32_t prompt_tokens = 512;
  std::int32_t decode_tokens = 32;
  std::int32_t rounds = 2;
  std::vector<std::int32_t> batches = {1, 32};
  bool json = false;
  std::string svg;
};

// One word of a shell's command line.
std::string Quoted(const std::string& text) {
  std::string quoted = "'";
  for (const char c : text) {
    quoted += c == '\'' ? std::string("'\\''") : std::string(1, c);
  }
  return quoted + "'";
}

absl::StatusOr<std::string> OutputOf(const std::string& command) {
  FILE* const pipe = popen(command.c_str(), "r");
  if (pipe == nullptr) {
    return absl::InternalError(absl::StrFormat("cannot run %s", command));
  }
  std::string output;
  std::array<char, 4096> buffer;
  for (std::size_t count = 0; (count = fread(buffer.data(), 1, buffer.size(), pipe)) > 0;) {
    output.append(buffer.data(), count);
  }
  if (const int code = pclose(pipe); code != 0) {
    return absl::InternalError(absl::StrFormat("%s failed (%d): %s", command, code, output));
  }
  return output;
}

std::string TheirCommand(const Arguments& a) {
  std::string command = absl::StrFormat(
      "node %s %s %s %d %d %d 2", Quoted(a.script), Quoted(std::filesystem::absolute(a.package)),
      Quoted(std::filesystem::absolute(a.model)), a.threads, a.prompt_tokens, a.decode_tokens);
  for (const std::int32_t batch : a.batches) {
    command += absl::StrFormat(" %d", batch);
  }
  return command;
}

std::string OurCommand(const Arguments& a) {
  std::string command = absl::StrFormat(
      "%s bench engine --json --model %s --weight-type %s --threads %d --prompt %d --decode %d "
      "--repeats 2",
      Quoted(ProgramFolder() / "yangtuo"), Quoted(a.model), a.type, a.threads, a.prompt_tokens,
      a.decode_tokens);
  for (const std::int32_t batch : a.batches) {
    command += absl::StrFormat(" --batch %d", batch);
  }
  return command;
}

absl::Status Compare(const Arguments& arguments) {
  std::optional<MeasuredSpeed> theirs;
  std::optional<MeasuredSpeed> ours;
  for (std::int32_t round = 0; round < arguments.rounds; ++round) {
    for (const bool own : {false, true}) {
      std::optional<MeasuredSpeed>& best = own ? ours : theirs;
      std::cerr << absl::StrFormat("round %d of %d: %s\n", round + 1, arguments.rounds,
                                   own ? "yangtuo" : "llama.cpp");
      YANGTUO_ASSIGN_OR_RETURN(const std::string output,
                               OutputOf(own ? OurCommand(arguments) : TheirCommand(arguments)));
      YANGTUO_ASSIGN_OR_RETURN(const MeasuredSpeed speed, ParseSpeed(output));
      best = best.has_value() ? BestOf(*best, speed) : speed;
    }
  }
  std::cout << (arguments.json ? ComparisonJson(*theirs, *ours) : FormatComparison(*theirs, *ours));
  return arguments.svg.empty() ? absl::OkStatus()
                               : WriteReport(arguments.svg, ComparisonSvg(*theirs, *ours));
}

int Run(Arguments arguments) {
  if (arguments.threads == 0) {
    arguments.threads = GetCpuLimits().compute_threads();
  }
  const absl::Status status = Compare(arguments);
  if (!status.ok()) {
    std::cerr << "yangtuo bench compare: " << status.message() << "\n";
    return 1;
  }
  return 0;
}

}  // namespace

void AddBenchCompareCommand(CLI::App& parent, std::function<int()>& run) {
  CLI::App& app =
      *parent.add_subcommand("compare", "The same GGUF file through llama.cpp and through us");
  const auto arguments = std::make_shared<Arguments>();
  app.add_option("--model", arguments->model, "GGUF file")->required()->check(CLI::ExistingFile);
  app.add_option("--package", arguments->package, "folder of the installed package node-llama-cpp")
      ->required()
      ->check(CLI::ExistingDirectory);
  app.add_option("--script", arguments->script, "llama_cpp.mjs")
      ->check(CLI::ExistingFile)
      ->capture_default_str();
  app.add_option("--weight-type", arguments->type, "what our products compute with")
      ->check(CLI::IsMember(WeightTypeNames()))
      ->capture_default_str();
  app.add_option("--threads", arguments->threads, "compute threads; 0: one per usable core")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  app.add_option("--prompt", arguments->prompt_tokens, "tokens of the prompt")
      ->check(CLI::Range(1, 32768))
      ->capture_default_str();
  app.add_option("--decode", arguments->decode_tokens, "tokens that each sequence decodes")
      ->check(CLI::Range(1, 4096))
      ->capture_default_str();
  app.add_option("--rounds", arguments->rounds, "turns of each")
      ->check(CLI::Range(1, 100))
      ->capture_default_str();
  app.add_option("--batch", arguments->batches, "sequences together; may be given again")
      ->check(CLI::Range(1, 512))
      ->allow_extra_args(false)
      ->capture_default_str();
  app.add_flag("--json", arguments->json, "print JSON instead of a table");
  app.add_option("--svg", arguments->svg, "write plots")->type_name("FILE");
  app.footer(kExamples);
  app.callback([&run, arguments] { run = [arguments] { return Run(*arguments); }; });
}

}  // namespace yangtuo
