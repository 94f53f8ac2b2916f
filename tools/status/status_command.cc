#include "tools/status/status_command.h"

#include <memory>

#include "CLI/CLI.hpp"
#include "tools/common/flags.h"
#include "tools/status/status.h"

namespace yangtuo {
namespace {

constexpr char kExamples[] = R"(Examples:
  yangtuo status                    the cluster that yangtuo up runs here
  yangtuo status --watch            again every second, until Ctrl-C
  yangtuo status --server 10.0.0.7:50051 --admin 10.0.0.7:9400,10.0.0.8:9400

Load and tokens a second come from the services' admin ports. Those of yangtuo up are known; name
others with --admin. Exit codes: 0 the gateway serves, 1 it does not, 2 wrong usage.)";

}  // namespace

void AddStatusCommand(CLI::App& parent, std::function<int()>& run) {
  CLI::App& app = *parent.add_subcommand("status", "services, readiness, load and tokens a second");
  const auto options = std::make_shared<StatusOptions>();
  app.add_option("--admin", options->admin, "further admin addresses, HOST:PORT with commas")
      ->delimiter(',');
  app.add_option("--state", options->state_file, "state file of yangtuo up [found by itself]")
      ->check(CLI::ExistingFile);
  app.add_flag("--watch", options->watch, "show it again every second");
  AddClientFlags(app, options->client);
  app.footer(kExamples);
  app.callback([&run, &app, options] {
    options->server_given = app.count("--server") > 0;
    run = [options] { return RunStatus(*options); };
  });
}

}  // namespace yangtuo
