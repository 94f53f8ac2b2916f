#include "tools/keys/keys_command.h"

#include <iostream>
#include <memory>
#include <string>

#include "CLI/CLI.hpp"
#include "tools/keys/keys.h"

namespace yangtuo {
namespace {

constexpr char kExamples[] = R"(Examples:
  yangtuo keys add --file keys.json --tenant rag                    prints the new key, once
  yangtuo keys add --file keys.json --tenant batch --model alpaca-7b --requests-per-minute 60 \
                   --tokens-per-minute 100000 --max-requests 4 --max-priority -10 --expires 720h
  yangtuo keys list --file keys.json
  yangtuo keys remove --file keys.json 3f9a01c2

yangtuo-gateway --api-keys-file keys.json reads the file again when it changes. It holds digests of
keys, never keys. Without this command: a key is any long random text, and its digest is
  printf %s KEY | sha256sum)";

constexpr char kAddExamples[] = R"(Examples:
  yangtuo keys add --file keys.json --tenant rag
  yangtuo keys add --file keys.json --tenant batch --model alpaca-7b --model alpaca-13b \
                   --requests-per-minute 60 --max-priority -10 --note "nightly summaries"
  yangtuo keys add --file keys.json --tenant guest --tokens-per-minute 2000 --expires 24h

The key is printed once; the file keeps its digest. A gateway reads the file again when it changes.)";

constexpr char kListExamples[] = R"(Examples:
  yangtuo keys list --file keys.json

The first column is the key's id: what keys remove takes, and what the audit log names.)";

constexpr char kRemoveExamples[] = R"(Examples:
  yangtuo keys remove --file keys.json 3f9a01c2)";

int Fail(const absl::Status& status) {
  std::cerr << "yangtuo keys: " << status.message() << '\n';
  return 1;
}

int RunAdd(const NewKeyOptions& options) {
  const auto key = AddKey(options);
  if (!key.ok()) {
    return Fail(key.status());
  }
  std::cout << *key << std::endl;
  std::cerr << "Added to " << options.file
            << ". This is the only time that the key is shown; clients send it as\n"
               "Authorization: Bearer KEY.\n";
  return 0;
}

int RunList(const std::string& file) {
  const auto table = ListKeys(file);
  if (!table.ok()) {
    return Fail(table.status());
  }
  std::cout << *table;
  return 0;
}

int RunRemove(const std::string& file, const std::string& id) {
  const absl::Status removed = RemoveKey(file, id);
  return removed.ok() ? 0 : Fail(removed);
}

CLI::Option* AddFile(CLI::App& app, std::string& file) {
  return app.add_option("--file", file, "the API keys file")->type_name("FILE")->required();
}

void AddAdd(CLI::App& parent, std::function<int()>& run) {
  CLI::App& app = *parent.add_subcommand("add", "make a key and add it to the file");
  const auto options = std::make_shared<NewKeyOptions>();
  AddFile(app, options->file);
  ApiKey& key = options->key;
  app.add_option("--tenant", key.tenant,
                 "whose it is: keys of one tenant share the cache and its "
                 "fair share of the workers")
      ->required();
  app.add_option("--model", key.models, "allow this model only; may be given again [all]")
      ->allow_extra_args(false);
  app.add_option("--requests-per-minute", key.requests_per_minute, "[no limit]")
      ->check(CLI::PositiveNumber);
  app.add_option("--tokens-per-minute", key.tokens_per_minute,
                 "prompts and answers together [no limit]")
      ->check(CLI::PositiveNumber);
  app.add_option("--max-requests", key.max_requests, "at a time [no limit]")
      ->check(CLI::PositiveNumber);
  app.add_option("--max-priority", key.max_priority, "highest priority of its requests")
      ->check(CLI::Range(-100, 100))
      ->capture_default_str();
  app.add_option("--expires", options->expires,
                 "a time such as 2027-01-31T00:00:00Z, or a duration such as 720h [never]");
  app.add_option("--note", key.note, "for people who read the file");
  app.footer(kAddExamples);
  app.callback([&run, options] { run = [options] { return RunAdd(*options); }; });
}

}  // namespace

void AddKeysCommand(CLI::App& parent, std::function<int()>& run) {
  CLI::App& app = *parent.add_subcommand("keys", "make, list and remove the gateway's API keys");
  AddAdd(app, run);
  const auto file = std::make_shared<std::string>();
  const auto id = std::make_shared<std::string>();
  CLI::App& list = *app.add_subcommand("list", "what the file's keys allow");
  AddFile(list, *file);
  list.footer(kListExamples);
  list.callback([&run, file] { run = [file] { return RunList(*file); }; });
  CLI::App& remove = *app.add_subcommand("remove", "take a key out of the file");
  AddFile(remove, *file);
  remove.add_option("ID", *id, "as yangtuo keys list shows it")->required();
  remove.footer(kRemoveExamples);
  remove.callback([&run, file, id] { run = [file, id] { return RunRemove(*file, *id); }; });
  app.require_subcommand(1);
  app.footer(kExamples);
}

}  // namespace yangtuo
