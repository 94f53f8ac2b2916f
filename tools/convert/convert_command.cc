#include "tools/convert/convert_command.h"

#include <memory>
#include <string>
#include <utility>

#include "CLI/CLI.hpp"
#include "tools/convert/conversion.h"

namespace yangtuo {
namespace {

constexpr char kExamples[] = R"(Examples:
  yangtuo convert --input LLAMA/7B --output llama-7b-hf              Meta's files to a Hugging Face folder
  yangtuo convert --input chinese-alpaca --output alpaca-13b --format pth --shards 2
  yangtuo convert --input chinese-alpaca --output alpaca.gguf        for llama.cpp
  yangtuo convert --input alpaca.gguf --output alpaca-f16 --type f16

The input may be any of the formats, and llama2.c's .bin. Types stay as they are unless --type says
otherwise; norms of a GGUF file are f32. What a type cannot hold exactly is counted and reported.)";

struct ConvertOptions {
  std::string input;
  std::string type;
  OutputOptions output;
};

int RunConvert(const ConvertOptions& options) {
  constexpr char kCommand[] = "convert";
  absl::StatusOr<Checkpoint> input = OpenCheckpoint(options.input);
  if (!input.ok()) {
    return FailCommand(kCommand, input.status());
  }
  const absl::StatusOr<CheckpointFormat> format = FormatNamed(options.output);
  if (!format.ok()) {
    return FailCommand(kCommand, format.status());
  }
  absl::StatusOr<TypePolicy> types = ConversionTypes(options.type, *input, *format);
  if (!types.ok()) {
    return FailCommand(kCommand, types.status());
  }
  return RunConversion({.command = kCommand,
                        .doing = "converting",
                        .input = *std::move(input),
                        .options = options.output,
                        .types = *std::move(types)});
}

}  // namespace

void AddConvertCommand(CLI::App& parent, std::function<int()>& run) {
  CLI::App& app = *parent.add_subcommand(
      "convert", "write a model in another format, bit for bit if it can be");
  const auto options = std::make_shared<ConvertOptions>();
  app.add_option("--input", options->input, "a model's folder or file")
      ->required()
      ->type_name("PATH");
  app.add_option("--type", options->type,
                 "type of the matrices: f32, f16, bf16, q8_0, q4_0, q4_k, q6_k, int8, int4; "
                 "default: as they are");
  AddOutputFlags(app, options->output);
  app.footer(kExamples);
  app.callback([&run, options] { run = [options] { return RunConvert(*options); }; });
}

}  // namespace yangtuo
