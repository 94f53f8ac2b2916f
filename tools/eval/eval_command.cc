#include "tools/eval/eval_command.h"

#include <cstdint>
#include <functional>
#include <iostream>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/strings/str_format.h"
#include "tools/common/json_text.h"
#include "tools/common/progress_bar.h"
#include "tools/common/table.h"
#include "tools/common/weight_type_flag.h"
#include "tools/eval/activations.h"
#include "tools/eval/perplexity.h"

namespace yangtuo {
namespace {

constexpr char kPerplexityExamples[] = R"(Examples:
  yangtuo eval perplexity --model models/poem-llama --text poems.txt
  yangtuo eval perplexity --model models/alpaca-7b --text held.txt --weight-type bf16 \
      --weight-type int8 --weight-type int4                   ratios to the first
  yangtuo eval perplexity --model alpaca-7b-q4_k.gguf --text held.txt \
      --weight-type auto --weight-type gguf                   re-encoded, and to the letter
  yangtuo eval perplexity --model models/llama-7b --adapter adapters/chinese --text held.txt --json

Empty lines separate the documents of a text. Each is scored by itself, from its beginning token to
its end token. Lower is better; a ratio of 1.01 to a type of higher precision is hard to notice.)";

constexpr char kActivationExamples[] = R"(Examples:
  yangtuo eval activations --model models/alpaca-7b --text held.txt --documents 20
  yangtuo eval activations --model models/alpaca-7b --text held.txt --json    every layer

Weight types int8 and int4 round what each product multiplies with to int8, with one scale a row; gguf
with one for each 32 numbers, which outliers spoil less. The table has, of every product, the mean
over the layers and the layer that loses most. Where rows lose much more than groups, compare
  yangtuo eval perplexity --weight-type bf16 --weight-type int8 --weight-type gguf ...)";

struct Arguments {
  PerplexityOptions options;
  std::vector<std::string> types = {"auto"};
  std::vector<std::string> kv_types = {"bf16"};
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
    std::cout << JsonText(list);
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

int RunPerplexity(const Arguments& arguments) {
  std::vector<Perplexity> results;
  for (const std::string& type : arguments.types) {
    for (const std::string& kv_type : arguments.kv_types) {
      PerplexityOptions options = arguments.options;
      options.stage.weight_type = WeightTypeNamed(type);
      options.stage.kv_type = KvTypeOf(kv_type);
      ProgressOfPieces bar("evaluating " + type);
      const absl::StatusOr<Perplexity> result = MeasurePerplexity(options, std::ref(bar));
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

const char* NameOf(Product product) {
  switch (product) {
    case Product::kQkv:
      return "q, k and v";
    case Product::kAttentionOut:
      return "attention output";
    case Product::kGateUp:
      return "gate and up";
    case Product::kDown:
      return "down";
    case Product::kLogits:
      return "head";
  }
  return "";
}

void PrintJson(const ActivationReport& report) {
  nlohmann::json list = nlohmann::json::array();
  for (const auto& [place, errors] : report.errors) {
    nlohmann::json one = {{"product", NameOf(place.first)},
                          {"rows", errors.rows},
                          {"largest_to_rms", errors.largest},
                          {"error_by_rows", errors.by_rows},
                          {"error_by_groups", errors.by_groups}};
    if (place.first != Product::kLogits) {
      one["layer"] = place.second;
    }
    list.push_back(std::move(one));
  }
  std::cout << JsonText(nlohmann::json{{"numerics", report.perplexity.numerics},
                                       {"documents", report.perplexity.documents},
                                       {"perplexity", report.perplexity.value()},
                                       {"products", list}});
}

void PrintTable(const ActivationReport& report) {
  struct Row {
    int layers = 0;
    double by_rows = 0.0;
    double by_groups = 0.0;
    RoundingErrors worst;
    std::int32_t worst_layer = 0;
  };
  std::map<Product, Row> rows;
  for (const auto& [place, errors] : report.errors) {
    Row& row = rows[place.first];
    ++row.layers;
    row.by_rows += errors.by_rows;
    row.by_groups += errors.by_groups;
    if (errors.by_rows > row.worst.by_rows) {
      row.worst = errors;
      row.worst_layer = place.second;
    }
  }
  const auto percent = [](double error) { return absl::StrFormat("%.2f %%", 100.0 * error); };
  Table table{.columns = {{"inputs of"},
                          {"lost by rows", Align::kRight},
                          {"by groups", Align::kRight},
                          {"worst layer", Align::kRight},
                          {"there by rows", Align::kRight},
                          {"there by groups", Align::kRight},
                          {"largest / rms", Align::kRight}},
              .rows = {}};
  for (const auto& [product, row] : rows) {
    table.rows.push_back({NameOf(product), percent(row.by_rows / row.layers),
                          percent(row.by_groups / row.layers),
                          product == Product::kLogits ? "" : absl::StrFormat("%d", row.worst_layer),
                          percent(row.worst.by_rows), percent(row.worst.by_groups),
                          absl::StrFormat("%.0f", row.worst.largest)});
  }
  std::cout << absl::StrFormat("%d documents, %d tokens, %s\n", report.perplexity.documents,
                               report.perplexity.tokens, report.perplexity.numerics)
            << FormatTable(table, 0);
}

int RunActivations(const Arguments& arguments) {
  PerplexityOptions options = arguments.options;
  options.stage.weight_type = WeightTypeNamed(arguments.types.front());
  absl::StatusOr<ActivationReport> report;
  {
    ProgressOfPieces bar("evaluating");
    report = MeasureActivations(options, std::ref(bar));
  }
  if (!report.ok()) {
    std::cerr << "yangtuo eval activations: " << report.status().message() << "\n";
    return 1;
  }
  arguments.json ? PrintJson(*report) : PrintTable(*report);
  return 0;
}

// What all measures take.
void AddModelAndText(CLI::App& app, Arguments& arguments) {
  PerplexityOptions& options = arguments.options;
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
  app.add_option("--threads", options.stage.threads, "compute threads; 0: one per usable core")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  app.add_flag("--json", arguments.json, "print JSON instead of a table");
}

void AddPerplexity(CLI::App& parent, std::function<int()>& run) {
  CLI::App& app = *parent.add_subcommand("perplexity", "how well a model foretells a text");
  const auto arguments = std::make_shared<Arguments>();
  AddModelAndText(app, *arguments);
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
  app.footer(kPerplexityExamples);
  app.callback([&run, arguments] { run = [arguments] { return RunPerplexity(*arguments); }; });
}

void AddActivations(CLI::App& parent, std::function<int()>& run) {
  CLI::App& app = *parent.add_subcommand(
      "activations", "what rounding to int8 does to the inputs of a model's products");
  const auto arguments = std::make_shared<Arguments>();
  AddModelAndText(app, *arguments);
  app.add_option("--weight-type", arguments->types.front(), "what products compute with meanwhile")
      ->check(CLI::IsMember(WeightTypeNames()))
      ->capture_default_str();
  app.footer(kActivationExamples);
  app.callback([&run, arguments] { run = [arguments] { return RunActivations(*arguments); }; });
}

}  // namespace

void AddEvalCommand(CLI::App& parent, std::function<int()>& run) {
  CLI::App& eval = *parent.add_subcommand("eval", "measure the quality of a model");
  AddPerplexity(eval, run);
  AddActivations(eval, run);
  eval.require_subcommand(1);
  eval.footer("Examples:\n  yangtuo eval perplexity --help\n  yangtuo eval activations --help");
}

}  // namespace yangtuo
