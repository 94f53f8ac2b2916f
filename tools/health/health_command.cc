#include "tools/health/health_command.h"

#include <iostream>
#include <memory>

#include "CLI/CLI.hpp"
#include "tools/health/health.h"

namespace yangtuo {
namespace {

constexpr char kExamples[] = R"(Examples:
  yangtuo health                          is the service with admin port 9400 here ready?
  yangtuo health --live                   does it live?
  yangtuo health --admin 10.0.0.8:9400

Prints what is missing. Exit codes: 0 yes, 1 no or no answer, 2 wrong usage.)";

}  // namespace

void AddHealthCommand(CLI::App& parent, std::function<int()>& run) {
  CLI::App& app = *parent.add_subcommand("health", "ask one service whether it is ready");
  const auto options = std::make_shared<HealthOptions>();
  app.add_option("--admin", options->admin, "admin address of the service, HOST:PORT")
      ->capture_default_str();
  app.add_flag("--live", options->live, "ask whether it lives, ready or not");
  app.footer(kExamples);
  app.callback([&run, options] { run = [options] { return RunHealth(*options, std::cout); }; });
}

}  // namespace yangtuo
