#include "tools/merge_tokenizer/merge_tokenizer_command.h"

#include <memory>

#include "CLI/CLI.hpp"
#include "tools/merge_tokenizer/merge_tokenizer.h"

namespace yangtuo {
namespace {

constexpr char kExamples[] = R"(Examples:
  yangtuo merge-tokenizer --base llama/tokenizer.model --add chinese_sp.model --output chinese-llama
  yangtuo merge-tokenizer --base llama --add chinese_sp.model --pad-token '[PAD]' --output chinese-alpaca
  yangtuo merge-tokenizer --base chinese-llama --add medicine.txt --sample notes.txt --output medical --dry-run

New pieces go behind the old ones, so that old ids stay as they are. A model whose tokenizer grew needs
its embedding grown and trained: merge-lora does that for an adapter that was trained with this tokenizer.
A list of words has one a line, in UTF-8; put U+2581 (▁) before a word that is to begin after a space.)";

}  // namespace

void AddMergeTokenizerCommand(CLI::App& parent, std::function<int()>& run) {
  CLI::App& app = *parent.add_subcommand(
      "merge-tokenizer", "add the pieces of another tokenizer, or words, to a LLaMA tokenizer");
  const auto options = std::make_shared<MergeTokenizerOptions>();
  app.add_option("--base", options->base, "LLaMA's tokenizer.model, or a folder with it")
      ->required()
      ->type_name("PATH");
  app.add_option("--add", options->additions,
                 "a sentencepiece model of any kind, or a list of words; may be repeated")
      ->required()
      ->type_name("PATH")
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  app.add_option("--pad-token", options->pad_token,
                 "a last piece for padding, '[PAD]' for Chinese-Alpaca");
  app.add_option("--output", options->output, "a new folder")->required()->type_name("DIR");
  app.add_option("--sample", options->sample, "text to count tokens of; default: a built-in one")
      ->type_name("FILE");
  app.add_flag("--dry-run", options->dry_run, "report, write nothing");
  app.add_flag("--json", options->json, "the report as JSON");
  app.footer(kExamples);
  app.callback([&run, options] { run = [options] { return RunMergeTokenizer(*options); }; });
}

}  // namespace yangtuo
