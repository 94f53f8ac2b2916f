#include "tools/bench_make_model/make_model_command.h"

#include <cstdint>
#include <filesystem>
#include <functional>
#include <iostream>
#include <memory>
#include <optional>
#include <string>

#include "CLI/CLI.hpp"
#include "absl/strings/str_format.h"
#include "inference_core/quant/quant.h"
#include "tools/bench_make_model/make_model.h"
#include "tools/common/progress_bar.h"

namespace yangtuo {
namespace {

constexpr char kExamples[] = R"(Examples:
  yangtuo bench make-model --shape 1.3b --output bench-models             q4_0
  yangtuo bench make-model --shape 7b --type q8_0 --output bench-models

Writes FOLDER/SHAPE-TYPE.gguf: random weights in the shape of a LLaMA model, for measuring speed.)";

struct Arguments {
  std::string shape = "1.3b";
  std::string type = "q4_0";
  std::int32_t context_tokens = 4096;
  std::string output;
};

int Run(const Arguments& arguments) {
  std::optional<LlamaConfig> config = NamedShape(arguments.shape);
  config->context_tokens = arguments.context_tokens;
  const std::optional<DType> type = DTypeNamed(arguments.type);
  const std::filesystem::path folder = arguments.output;
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  const std::filesystem::path file = folder / (arguments.shape + "-" + arguments.type + ".gguf");
  std::optional<ProgressOfPieces> bar("writing");
  const absl::Status status = MakeModel(*config, *type, file, std::ref(*bar));
  bar.reset();
  if (!status.ok()) {
    std::cerr << "yangtuo bench make-model: " << status.message() << "\n";
    return 1;
  }
  std::cout << file.string() << "\n";
  return 0;
}

}  // namespace

void AddBenchMakeModelCommand(CLI::App& parent, std::function<int()>& run) {
  CLI::App& app =
      *parent.add_subcommand("make-model", "A model of random weights, to measure with");
  const auto arguments = std::make_shared<Arguments>();
  app.add_option("--shape", arguments->shape, "size")
      ->check(CLI::IsMember(ShapeNames()))
      ->capture_default_str();
  app.add_option("--type", arguments->type, "how its weights are stored")
      ->check(CLI::IsMember({"f16", "q8_0", "q4_0"}))
      ->capture_default_str();
  app.add_option("--context", arguments->context_tokens, "tokens that its positions reach")
      ->check(CLI::Range(1, 1'000'000))
      ->capture_default_str();
  app.add_option("--output", arguments->output, "folder for the file")->required();
  app.footer(kExamples);
  app.callback([&run, arguments] { run = [arguments] { return Run(*arguments); }; });
}

}  // namespace yangtuo
