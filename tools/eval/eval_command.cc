#include "tools/eval/eval_command.h"

#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/strings/str_format.h"
#include "tools/common/table.h"
#include "tools/common/weight_type_flag.h"
#include "tools/eval/perplexity.h"

namespace yangtuo {
namespace {

constexpr char kExamples[] = R"(Examples:
  yangtuo eval perplexity --model models/poem-llama --text poems.txt
  yangtuo eval perplexity --model models/alpaca-7b --text held.txt --weight-type bf16 \
      --weight-type int8 --weight-type int4                   ratios to the first
  yangtuo eval perplexity --model models/llama-7b --adapter adapters/chinese --text held.txt --json

Empty lines separate the documents of a text. Each is scored by itself, from its beginning token to
its end token. Lower is better; a ratio of 1.01 to a type of higher precision is hard to notice.)";

struct Arguments {
  PerplexityOptions options;
  std::vector<std::string> types;
  std::vector<std::string> kv_types;
  bool json = false;
};

nlohmann::json ToJson(const Perplexity& p, double reference) {
  return {{"weight_type", p.weight_type},
          {"numerics", p.numerics},
          {"documents", p.documents},
          {"tokens", p.tokens},
          {"nll_sum", p.nll},
          {"perplexity", p.value()},
          {"ratio", p.value() / reference}};
}

void Print(const std::vector<Perplexity>& results, bool json) {
  const double reference = results.front().value();
  if (json) {
    nlohmann::json list = nlohmann::json::array();
    for (const Perplexity& p : results) {
      list.push_back(ToJson(p, reference));
    }
    std::cout << list.dump(2) << "\n";
    return;
  }
  Table table{.columns = {{"weights"},
                          {"documents", Align::kRight},
                          {"tokens", Align::kRight},
                          {"perplexity", Align::kRight},
                          {"ratio", Align::kRight},
                          {"numerics"}},
              .rows = {}};
  for (const Perplexity& p : results) {
    table.rows.push_back({p.weight_type, absl::StrFormat("%d", p.documents),
                          absl::StrFormat("%d", p.tokens), absl::StrFormat("%.5f", p.value()),
                          absl::StrFormat("%.5f", p.value() / reference), p.numerics});
  }
  std::cout << FormatTable(table, 0);
}

int Run(const Arguments& arguments) {
  std::vector<Perplexity> results;
  for (const std::string& type : arguments.types) {
    for (const std::string& kv_type : arguments.kv_types) {
      PerplexityOptions options = arguments.options;
      options.stage.weight_type = WeightTypeNamed(type);
      options.stage.kv_type = KvTypeOf(kv_type);
      const absl::StatusOr<Perplexity> result = MeasurePerplexity(options, [](std::int64_t) {});
      if (!result.ok()) {
        std::cerr << "yangtuo eval perplexity: " << result.status().message() << "\n";
        return 1;
      }
      results.push_back(*result);
    }
  }
  Print(results, arguments.json);
  return 0;
}

void AddPerplexity(CLI::App& parent, std::function<int()>& run) {
  CLI::App& app = *parent.add_subcommand("perplexity", "how well a model foretells a text");
  const auto arguments = std::make_shared<Arguments>();
  arguments->types = {"auto"};
  arguments->kv_types = {"bf16"};
  PerplexityOptions& options = arguments->options;
  app.add_option_function<std::string>(
         "--model", [&options](const std::string& path) { options.stage.model = path; },
         "model: a folder or a file")
      ->required()
      ->type_name("PATH");
  app.add_option_function<std::vector<std::string>>(
         "--adapter",
         [&options](const std::vector<std::string>& paths) {
           options.stage.adapters.assign(paths.begin(), paths.end());
         },
         "LoRA adapter to merge while the model is read; may be given again")
      ->type_name("FOLDER")
      ->allow_extra_args(false);
  app.add_option_function<std::string>(
         "--tokenizer", [&options](const std::string& path) { options.tokenizer = path; },
         "tokenizer.model [the model's]")
      ->type_name("PATH");
  app.add_option_function<std::string>(
         "--text", [&options](const std::string& path) { options.text = path; },
         "text file, documents separated by empty lines")
      ->required()
      ->type_name("FILE")
      ->check(CLI::ExistingFile);
  app.add_option("--documents", options.documents, "score the first so many; 0: all")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  app.add_option("--weight-type", arguments->types,
                 "what products compute with; given again: the next, with its ratio to the first")
      ->check(CLI::IsMember(WeightTypeNames()))
      ->allow_extra_args(false)
      ->capture_default_str();
  app.add_option("--kv-type", arguments->kv_types,
                 "what the KV cache is kept as; may be given again likewise")
      ->check(CLI::IsMember(KvTypeNames()))
      ->allow_extra_args(false)
      ->capture_default_str();
  app.add_option("--threads", options.stage.threads, "compute threads; 0: one per usable core")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  app.add_flag("--json", arguments->json, "print JSON instead of a table");
  app.footer(kExamples);
  app.callback([&run, arguments] { run = [arguments] { return Run(*arguments); }; });
}

}  // namespace

void AddEvalCommand(CLI::App& parent, std::function<int()>& run) {
  CLI::App& eval = *parent.add_subcommand("eval", "measure the quality of a model");
  AddPerplexity(eval, run);
  eval.require_subcommand(1);
  eval.footer("Examples:\n  yangtuo eval perplexity --help");
}

}  // namespace yangtuo
