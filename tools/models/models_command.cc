#include "tools/models/models_command.h"

#include <memory>

#include "CLI/CLI.hpp"
#include "tools/common/flags.h"
#include "tools/models/models.h"

namespace yangtuo {
namespace {

constexpr char kExamples[] = R"(Examples:
  yangtuo models
  yangtuo models --server 10.0.0.7:50051
  yangtuo models --json | jq -r '.models[].name'

GROUPS is the number of worker groups that serve the model and are ready.)";

}  // namespace

void AddModelsCommand(CLI::App& parent, std::function<int()>& run) {
  CLI::App& app = *parent.add_subcommand("models", "list the models that a cluster serves");
  const auto options = std::make_shared<ModelsOptions>();
  app.add_flag("--json", options->json, "the whole list as JSON");
  AddClientFlags(app, options->client);
  app.footer(kExamples);
  app.callback([&run, options] { run = [options] { return RunModels(*options); }; });
}

}  // namespace yangtuo
