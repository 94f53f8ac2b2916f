#include "tools/generate/generate_command.h"

#include <cstddef>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <string>
#include <system_error>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/strings/str_format.h"
#include "tools/common/flags.h"
#include "tools/generate/generate.h"

namespace yangtuo {
namespace {

constexpr char kExamples[] = R"(Examples:
  yangtuo generate 写一首题为《春望》的五言律诗。
  yangtuo generate --raw --temperature 0 --max-new-tokens 64 床前明月光，
  yangtuo generate --server 10.0.0.7:50051 --stats --seed 7 "Name three rivers."
  yangtuo generate - <question.txt
  yangtuo generate --json --logprobs 3 你好 | jq .
  yangtuo generate --choice 好评 --choice 差评 "这家店的面又咸又凉。"
  yangtuo generate --json-schema person.json "张三，三十岁，住在杭州。" >person.out.json

The answer goes to standard output as it comes, everything else to standard error. Ctrl-C stops the
answer. Exit codes: 0 answered, 1 failed, 2 wrong usage, 130 stopped with Ctrl-C.)";

bool IsFile(const std::string& argument) {
  std::error_code error;
  return std::filesystem::is_regular_file(argument, error);
}

// The text of an argument that may also name a file of it.
std::string FileOrText(const std::string& argument) {
  if (!IsFile(argument)) {
    return argument;
  }
  std::ifstream file(argument, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

// What cannot be the text is the name of a file that is not there: saying so helps more than the
// gateway's complaint about the text. For CLI11: empty when there is nothing to say.
std::string CheckSchema(const std::string& argument) {
  const std::size_t begin = argument.find_first_not_of(" \t\r\n");
  if (IsFile(argument) || argument == "true" || argument == "false" ||
      (begin != std::string::npos && argument[begin] == '{')) {
    return "";
  }
  return absl::StrFormat("there is no file %s, and the text of a schema begins with {", argument);
}

std::string CheckGrammar(const std::string& argument) {
  if (IsFile(argument) || argument.find("::=") != std::string::npos) {
    return "";
  }
  return absl::StrFormat("there is no file %s, and the text of a grammar has a rule (NAME ::= ...)",
                         argument);
}

// What the answer must look like; one of them at most.
void AddConstraintFlags(CLI::App& app, v1::Constraint& constraint) {
  CLI::Option_group& group = *app.add_option_group("constraint");
  group.add_flag_callback(
      "--json-object", [&constraint] { constraint.mutable_json_object(); },
      "the answer is a JSON object");
  group
      .add_option_function<std::string>(
          "--json-schema",
          [&constraint](const std::string& schema) {
            constraint.set_json_schema(FileOrText(schema));
          },
          "the answer is JSON of this schema: a file, or its text")
      ->check(CheckSchema);
  group.add_option_function<std::string>(
      "--regex", [&constraint](const std::string& regex) { constraint.set_regex(regex); },
      "the answer matches this regular expression");
  group
      .add_option_function<std::vector<std::string>>(
          "--choice",
          [&constraint](const std::vector<std::string>& texts) {
            constraint.mutable_choices()->mutable_texts()->Assign(texts.begin(), texts.end());
          },
          "the answer is one of these texts; given again for each")
      ->allow_extra_args(false);
  group
      .add_option_function<std::string>(
          "--grammar",
          [&constraint](const std::string& grammar) {
            constraint.set_grammar(FileOrText(grammar));
          },
          "the answer fits this grammar (GBNF): a file, or its text")
      ->check(CheckGrammar);
  group.require_option(0, 1);
}

}  // namespace

void AddGenerateCommand(CLI::App& parent, std::function<int()>& run) {
  CLI::App& app = *parent.add_subcommand("generate", "send one prompt, stream the answer");
  const auto options = std::make_shared<GenerateOptions>();
  const auto timeout = std::make_shared<double>(ToSeconds(options->timeout));
  app.add_option("PROMPT", options->prompt, "what to ask; - reads it from standard input");
  app.add_option("--model", options->model, "model name (see yangtuo models) [the only one]");
  CLI::Option* raw = app.add_flag_callback(
      "--raw", [options] { options->kind = PromptKind::kRaw; }, "complete the prompt as it is");
  app.add_flag_callback(
         "--chat", [options] { options->kind = PromptKind::kChat; },
         "put the prompt into the model's chat template [if the model has one]")
      ->excludes(raw);
  app.add_option("--system", options->system, "system message of a chat");
  app.add_option("--template", options->chat_template, "chat template by name [the model's own]");
  app.add_option("--n", options->n, "number of answers")->check(CLI::Range(1, 16));
  app.add_option("--logprobs", options->logprobs,
                 "print log-probabilities, with that many candidates a token")
      ->check(CLI::Range(0, 20));
  app.add_flag("--echo", options->echo, "the answer starts with the prompt (raw prompts)");
  app.add_flag("--stats", options->stats, "tokens, time to first token and speed at the end");
  app.add_flag("--json", options->json, "one line of JSON an event instead of text");
  AddConstraintFlags(app, options->constraint);
  app.add_option("--timeout", *timeout, "give up after that many seconds")
      ->capture_default_str()
      ->check(CLI::Range(0.001, 1e6));
  AddSamplingFlags(app, options->sampling);
  AddClientFlags(app, options->client);
  app.footer(kExamples);
  app.callback([&run, options, timeout] {
    options->timeout =
        std::chrono::duration_cast<Duration>(std::chrono::duration<double>(*timeout));
    run = [options] { return RunGenerate(*options); };
  });
}

}  // namespace yangtuo
