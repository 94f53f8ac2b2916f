#include "tools/quantize/quantize_command.h"

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "CLI/CLI.hpp"
#include "inference_core/base/status_macros.h"
#include "tools/convert/conversion.h"
#include "tools/quantize/importance.h"
#include "tools/quantize/type_rules.h"

namespace yangtuo {
namespace {

constexpr char kCommand[] = "quantize";
constexpr char kExamples[] = R"(Examples:
  yangtuo quantize --input chinese-alpaca-7b --type int4 --output alpaca-int4       for Yangtuo's workers
  yangtuo quantize --input chinese-alpaca-7b --type q4_k --output alpaca-q4_k.gguf  for llama.cpp too
  yangtuo quantize --input chinese-alpaca-7b --type int4 --output alpaca-int4 \
      --keep lm_head.weight=int8 --keep '*.down_proj.weight=int8'
  yangtuo quantize --input chinese-alpaca-7b --type q4_0 --output x.gguf --dry-run

Types, with bits a weight:
  int8 (8) and int4 (4.25)                  a safetensors folder with scales, for Yangtuo
  q8_0 (8.5), q6_k (6.56), q4_k (4.5), q4_0 (4.5)   a GGUF file, for llama.cpp as well
  f16, bf16 (16)                            any format
Every matrix gets the type, embedding and head as well; but with q4_k the head gets q6_k, as
llama.cpp has it. Norms stay as they are, f32 in a GGUF file. Where the rows of a matrix do not
divide into blocks (of 32, of 256 for q4_k and q6_k; int4 pads) it stays 16-bit, and a note says so.
The number of rows may be any. --keep gives the tensors that match another type; the first rule
that matches holds, names are those of Hugging Face.

An importance file is a safetensors file that has for some or all matrices a vector named as the
matrix, with a weight for each of its columns, such as the mean square of its inputs on some text:
q4_0, q4_k, q6_k and int4 then keep those columns better that count more.)";

struct QuantizeOptions {
  std::string input;
  std::string type;
  std::vector<std::string> keep;
  std::string importance;
  OutputOptions output;
};

// GGUF's blocks go into a GGUF file whatever its name.
bool IsGgufBlock(DType type) {
  return !IsPlain(type) && type != DType::kInt8 && type != DType::kInt4;
}

using ImportanceOf = std::function<std::span<const float>(const TensorSpec& from)>;

absl::StatusOr<ImportanceOf> ReadImportance(const std::string& file, const Checkpoint& input) {
  if (file.empty()) {
    return ImportanceOf();
  }
  YANGTUO_ASSIGN_OR_RETURN(Importance read, Importance::Read(file, input));
  return ImportanceOf([importance = std::make_shared<const Importance>(std::move(read))](
                          const TensorSpec& from) { return importance->Of(from.name); });
}

absl::StatusOr<Conversion> MakeConversion(const QuantizeOptions& options) {
  YANGTUO_ASSIGN_OR_RETURN(const DType type, TypeNamed(options.type));
  std::vector<KeepRule> rules;
  for (const std::string& text : options.keep) {
    YANGTUO_ASSIGN_OR_RETURN(KeepRule rule, ParseKeepRule(text));
    rules.push_back(std::move(rule));
  }
  OutputOptions output = options.output;
  if (output.format.empty() && IsGgufBlock(type)) {
    output.format = "gguf";
  }
  YANGTUO_ASSIGN_OR_RETURN(const CheckpointFormat format, FormatNamed(output));
  YANGTUO_ASSIGN_OR_RETURN(Checkpoint input, OpenCheckpoint(options.input));
  YANGTUO_ASSIGN_OR_RETURN(TypePolicy types, QuantizedTypes(type, std::move(rules), input, format));
  YANGTUO_ASSIGN_OR_RETURN(ImportanceOf importance, ReadImportance(options.importance, input));
  return Conversion{.command = kCommand,
                    .doing = "quantizing",
                    .input = std::move(input),
                    .options = std::move(output),
                    .types = std::move(types),
                    .importance = std::move(importance)};
}

int RunQuantize(const QuantizeOptions& options) {
  const absl::StatusOr<Conversion> conversion = MakeConversion(options);
  return conversion.ok() ? RunConversion(*conversion) : FailCommand(kCommand, conversion.status());
}

}  // namespace

void AddQuantizeCommand(CLI::App& parent, std::function<int()>& run) {
  CLI::App& app = *parent.add_subcommand("quantize", "write a model in fewer bits a weight");
  const auto options = std::make_shared<QuantizeOptions>();
  app.add_option("--input", options->input, "a model's folder or file, best in 16 bits")
      ->required()
      ->type_name("PATH");
  app.add_option("--type", options->type, "type of the matrices")
      ->required()
      ->check(CLI::IsMember({"int8", "int4", "q8_0", "q6_k", "q4_k", "q4_0", "f16", "bf16"}));
  app.add_option("--keep", options->keep,
                 "tensors whose names match (* is any text) in another type; may be given again")
      ->type_name("PATTERN=TYPE");
  app.add_option("--importance", options->importance, "how much each column counts")
      ->type_name("FILE");
  AddOutputFlags(app, options->output);
  app.footer(kExamples);
  app.callback([&run, options] { run = [options] { return RunQuantize(*options); }; });
}

}  // namespace yangtuo
