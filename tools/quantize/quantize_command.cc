#include "tools/quantize/quantize_command.h"

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <functional>
#include <iostream>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <unistd.h>
#include <utility>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/strings/str_format.h"
#include "inference_core/base/status_macros.h"
#include "tools/common/progress_bar.h"
#include "tools/convert/conversion.h"
#include "tools/quantize/calibration.h"
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
  yangtuo quantize --input chinese-alpaca-7b --type q4_k --output x.gguf --calibrate dialogues.txt
  yangtuo quantize --input chinese-alpaca-7b --type q4_0 --output x.gguf --dry-run

Types, with bits a weight:
  int8 (8) and int4 (4.25)                  a safetensors folder with scales, for Yangtuo
  q8_0 (8.5), q6_k (6.56), q4_k (4.5), q4_0 (4.5)   a GGUF file, for llama.cpp as well
  f16, bf16 (16)                            any format
Every matrix gets the type, embedding and head as well; but with q4_k the head gets q6_k, as
llama.cpp has it. Norms stay as they are, f32 in a GGUF file. Where the rows of a matrix do not
divide into blocks (of 32, of 256 for q4_k and q6_k; int4 pads) it stays 16-bit, and a note says so.
The number of rows may be any. --keep gives the matrices that match another type; the first rule
that matches holds, names are those of Hugging Face.

With --calibrate the model first runs over a text (UTF-8, documents separated by empty lines, of the
kind that it will be used for; some ten thousand tokens will do): q4_0, q4_k, q6_k and int4 then keep
those columns better that are multiplied with larger numbers. The whole model is in memory then.
--save-importance keeps what was found, --importance takes it again instead: a safetensors file that
has for some or all matrices a vector named as the matrix, with a weight for each of its columns.)";

struct QuantizeOptions {
  std::string input;
  std::string type;
  std::vector<std::string> keep;
  std::string importance;
  std::string calibrate;        // a text; empty: none
  std::string save_importance;  // a file to be written; empty: none
  OutputOptions output;
};

// GGUF's blocks go into a GGUF file whatever its name.
bool IsGgufBlock(DType type) {
  return !IsPlain(type) && type != DType::kInt8 && type != DType::kInt4;
}

using ImportanceOf = std::function<std::span<const float>(const TensorSpec& from)>;

absl::StatusOr<Importance> MeasureImportance(const QuantizeOptions& options) {
  std::optional<ProgressOfPieces> bar("calibrating");
  const absl::StatusOr<Calibration> found = Calibrate(
      {.model = options.input, .text = options.calibrate, .threads = options.output.threads},
      std::ref(*bar));
  bar.reset();
  YANGTUO_RETURN_IF_ERROR(found.status());
  std::cerr << absl::StrFormat("calibrated on %d tokens of %s, perplexity %.3f\n", found->tokens,
                               options.calibrate, found->perplexity);
  if (!options.save_importance.empty()) {
    YANGTUO_RETURN_IF_ERROR(found->importance.Write(options.save_importance));
  }
  return found->importance;
}

// A dry run is over at once, and importance changes nothing of what it says.
bool Calibrates(const QuantizeOptions& options) {
  return !options.calibrate.empty() && !options.output.dry_run;
}

// Whether a file can be written there; none is asked for by an empty path.
absl::Status CheckFolderOf(const std::string& file) {
  const std::filesystem::path parent = std::filesystem::path(file).parent_path();
  const std::string folder = parent.empty() ? "." : parent.string();
  return file.empty() || access(folder.c_str(), W_OK) == 0
             ? absl::OkStatus()
             : absl::UnavailableError(
                   absl::StrFormat("%s cannot be written: %s", file, std::strerror(errno)));
}

absl::StatusOr<ImportanceOf> ImportanceFor(const QuantizeOptions& options,
                                           const Checkpoint& input) {
  const bool measures = Calibrates(options);
  if (options.importance.empty() && !measures) {
    return ImportanceOf();
  }
  YANGTUO_ASSIGN_OR_RETURN(Importance found, measures
                                                 ? MeasureImportance(options)
                                                 : Importance::Read(options.importance, input));
  return ImportanceOf([importance = std::make_shared<const Importance>(std::move(found))](
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
  Conversion conversion{.command = kCommand,
                        .doing = "quantizing",
                        .input = std::move(input),
                        .options = std::move(output),
                        .types = std::move(types)};
  if (Calibrates(options)) {
    // Calibrating a large model takes long: whatever is wrong with the rest is said before.
    YANGTUO_RETURN_IF_ERROR(Prepare(conversion).status());
    YANGTUO_RETURN_IF_ERROR(CheckFolderOf(options.save_importance));
  }
  YANGTUO_ASSIGN_OR_RETURN(conversion.importance, ImportanceFor(options, conversion.input));
  return conversion;
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
  CLI::Option* const importance =
      app.add_option("--importance", options->importance, "how much each column counts")
          ->type_name("FILE");
  CLI::Option* const calibrate =
      app.add_option("--calibrate", options->calibrate,
                     "run the model over this text to find out how much each column counts")
          ->type_name("TEXT")
          ->check(CLI::ExistingFile)
          ->excludes(importance);
  app.add_option("--save-importance", options->save_importance,
                 "write what --calibrate found, for --importance")
      ->type_name("FILE")
      ->needs(calibrate);
  AddOutputFlags(app, options->output);
  app.footer(kExamples);
  app.callback([&run, options] { run = [options] { return RunQuantize(*options); }; });
}

}  // namespace yangtuo
