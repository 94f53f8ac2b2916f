#include "tools/bench_gateway/bench_gateway_command.h"

#include <iostream>
#include <memory>

#include "CLI/CLI.hpp"
#include "tools/bench_gateway/bench_gateway.h"

namespace yangtuo {
namespace {

constexpr char kExamples[] = R"(Examples:
  yangtuo bench gateway                              1,000 streams of 20 tokens/s, then a ramp
  yangtuo bench gateway --streams 500 --no-ramp
  yangtuo bench gateway --http --streams 2000 --rate 5 --bad-clients 100 --no-ramp
  yangtuo bench gateway --json > gateway.json

Starts a tokenizer and a gateway on loopback, with a token producer at the worker's seat and
clients in this process. Every token that arrives is compared with the one that was sent.)";

}  // namespace

void AddBenchGatewayCommand(CLI::App& parent, std::function<int()>& run) {
  auto options = std::make_shared<bench_gateway::BenchGatewayOptions>();
  CLI::App* command =
      parent.add_subcommand("gateway", "What the way through gateway and tokenizer costs");
  command->add_option("--streams", options->load.streams, "Concurrent streams")
      ->check(CLI::Range(1, 100'000))
      ->capture_default_str();
  command->add_option("--rate", options->load.tokens_per_second, "Tokens a second of each stream")
      ->check(CLI::Range(0.1, 10'000.0))
      ->capture_default_str();
  command->add_flag("--http", options->load.http,
                    "Streams are server-sent events of the HTTP API, a connection each");
  command
      ->add_option("--bad-clients", options->load.bad_clients,
                   "With --http: so many further clients begin a stream and stop reading, or "
                   "close their connection")
      ->check(CLI::Range(0, 100'000))
      ->capture_default_str();
  command->add_option("--seconds", options->load.measured_seconds, "Measured seconds of each step")
      ->check(CLI::Range(0.5, 3600.0))
      ->capture_default_str();
  command->add_option("--warmup", options->load.warmup_seconds, "Seconds before measuring")
      ->check(CLI::Range(0.0, 600.0))
      ->capture_default_str();
  command->add_flag("--ramp,!--no-ramp", options->ramp,
                    "Raise the rate until it is not sustained (default)");
  command->add_option("--model", options->model, "Model folder whose tokenizer is used")
      ->capture_default_str();
  command->add_option("--tokenizer", options->tokenizer,
                      "Address of a running tokenizer service, instead of starting one");
  command->add_option("--programs", options->programs,
                      "Folder of the services' programs; default: where this program is");
  command->add_flag("--json", options->json, "Print JSON instead of a table");
  command->footer(kExamples);
  command->callback([options, &run] {
    run = [options] { return bench_gateway::RunBenchGateway(*options, std::cout); };
  });
}

}  // namespace yangtuo
