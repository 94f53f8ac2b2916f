#include "tools/bench_serve/bench_serve_command.h"

#include <algorithm>
#include <atomic>
#include <iostream>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/strings/numbers.h"
#include "absl/strings/str_format.h"
#include "inference_core/base/clock.h"
#include "tools/bench_serve/load_run.h"
#include "tools/bench_serve/serve_report.h"
#include "tools/common/error_text.h"
#include "tools/common/flags.h"
#include "tools/common/interrupt.h"
#include "tools/common/report_file.h"
#include "tools/common/terminal.h"

namespace yangtuo {
namespace {

constexpr char kUnlimited[] = "unlimited";
constexpr double kMaxRate = 10'000;

constexpr char kExamples[] = R"(Examples:
  yangtuo bench serve                                  100 requests at 1 a second
  yangtuo bench serve --rate 0.5,1,2 --svg serve.svg   latencies against the rate
  yangtuo bench serve --rate unlimited --concurrency 16
  yangtuo bench serve --rate 2 --shared-prefix 256 --json -

Measures the cluster at --server, with no other load on it. Requests come at random (Poisson), whether
or not earlier ones are answered, and latencies count from when a request was due. Prompts are random
token ids, and answers go on to their full length. Ctrl-C prints what was measured so far. Exit codes:
0 measured, 1 stopped early, or no request was answered, 2 wrong usage, 130 stopped with Ctrl-C.)";

struct Arguments {
  bench_serve::RunOptions run;
  bench_serve::Targets targets;
  std::vector<std::string> rates = {"1"};
  double duration = 0;
  std::string json;
  std::string svg;
};

// Nothing for "unlimited".
std::optional<double> RateOf(const std::string& text) {
  double rate = 0;
  return text != kUnlimited && absl::SimpleAtod(text, &rate) ? std::optional(rate) : std::nullopt;
}

std::string CheckRate(const std::string& text) {
  double rate = 0;
  if (text == kUnlimited || (absl::SimpleAtod(text, &rate) && rate >= 1e-3 && rate <= kMaxRate)) {
    return "";
  }
  return absl::StrFormat("a rate is 0.001 to %g requests a second, or %s", kMaxRate, kUnlimited);
}

// Says what went wrong; false then.
bool WriteFile(const std::string& path, const std::string& text) {
  const absl::Status written = WriteReport(path, text);
  if (!written.ok()) {
    std::cerr << "yangtuo bench serve: " << written.message() << "\n";
  }
  return written.ok();
}

void ShowProgress(const Terminal& terminal, const std::string& rate, std::size_t all,
                  const bench_serve::RunProgress& progress) {
  if (terminal.interactive) {
    std::cerr << absl::StrFormat("\r\033[K%s/s: %d of %d sent, %d under way", rate, progress.sent,
                                 all, progress.sent - progress.ended)
              << std::flush;
  }
}

// Finds the model and answers one short request, so that what is wrong shows before the load.
absl::Status Prepare(bench_serve::RunOptions& run) {
  const auto client = Client::Create(run.client);
  if (!client.ok()) {
    return client.status();
  }
  const auto model = (*client)->FindModel(run.model);
  if (!model.ok()) {
    return model.status();
  }
  run.model = model->name();
  run.plan.context_tokens = model->context_tokens();
  run.plan.vocabulary_size = model->vocabulary_size();
  if (run.plan.shared_prefix > run.plan.context_tokens / 4) {
    return absl::InvalidArgumentError(
        absl::StrFormat("--shared-prefix %d is more than a quarter of the model's context (%d)",
                        run.plan.shared_prefix, run.plan.context_tokens));
  }
  v1::GenerateRequest request;
  request.set_model(run.model);
  request.mutable_token_ids()->add_ids(1);
  request.mutable_stop()->set_max_new_tokens(1);
  return (*client)->Generate(
      request,
      std::chrono::duration_cast<Duration>(std::chrono::duration<double>(run.timeout_seconds)),
      [](const v1::GenerateResponse&) {});
}

int Run(Arguments arguments) {
  InterruptWatch watch;
  std::atomic<bool> interrupted = false;
  watch.SetHandler([&interrupted](int) { interrupted = true; });
  bench_serve::RunOptions& run = arguments.run;
  if (const absl::Status status = Prepare(run); !status.ok()) {
    std::cerr << "yangtuo bench serve: " << DescribeError(status, run.client.server) << "\n";
    return 1;
  }
  const Terminal terminal = Terminal::LookAt(2);
  const std::size_t requests = run.plan.requests;
  std::vector<bench_serve::RateReport> reports;
  bool complete = true;
  for (const std::string& rate : arguments.rates) {
    run.plan.rate = RateOf(rate);
    run.plan.requests = requests;
    if (arguments.duration > 0 && run.plan.rate) {
      run.plan.requests =
          std::max<std::size_t>(1, static_cast<std::size_t>(arguments.duration * *run.plan.rate));
    }
    const auto result = bench_serve::RunLoad(run, interrupted, [&](const auto& progress) {
      ShowProgress(terminal, rate, run.plan.requests, progress);
    });
    if (!result.ok()) {
      std::cerr << "yangtuo bench serve: " << result.status().message() << "\n";
      return 1;
    }
    reports.push_back(bench_serve::Summarize(*result, run.plan.rate, arguments.targets));
    complete = complete && result->stopped.ok() && reports.back().done > 0;
    if (!result->stopped.ok()) {
      break;  // a higher rate would say less, and Ctrl-C means all of it
    }
    // Other random arrivals and prompts for each rate: no prompt of an earlier one is cached.
    ++run.plan.seed;
  }
  if (terminal.interactive) {
    std::cerr << "\r\033[K";
  }
  if (arguments.json != "-") {
    std::cout << bench_serve::FormatReports(reports, arguments.targets) << std::flush;
  }
  if (!arguments.json.empty() &&
      !WriteFile(arguments.json, bench_serve::ReportsJson(reports, run, arguments.targets))) {
    return 1;
  }
  if (!arguments.svg.empty() &&
      !WriteFile(arguments.svg, bench_serve::ReportsSvg(reports, arguments.targets))) {
    return 1;
  }
  return interrupted ? kExitInterrupted : complete ? 0 : 1;
}

}  // namespace

void AddBenchServeCommand(CLI::App& parent, std::function<int()>& run) {
  CLI::App& app = *parent.add_subcommand("serve", "load on a running cluster: latencies and rates");
  const auto arguments = std::make_shared<Arguments>();
  bench_serve::RunOptions& options = arguments->run;
  bench_serve::PlanOptions& plan = options.plan;
  const auto add = [&app](const char* flag, auto& value, const char* help) {
    return app.add_option(flag, value, help)->capture_default_str();
  };
  add("--rate", arguments->rates, "requests a second, several in turn: 0.5,1,2; or unlimited")
      ->delimiter(',')
      ->check(CLI::Validator(CheckRate, "RATE"));
  add("--concurrency", options.concurrency, "at --rate unlimited: so many at once")
      ->check(CLI::Range(1, 10'000));
  CLI::Option* requests =
      add("--requests", plan.requests, "requests at each rate")->check(CLI::Range(1, 100'000));
  app.add_option("--duration", arguments->duration,
                 "seconds of arrivals at each rate, in place of --requests")
      ->check(CLI::Range(1.0, 86'400.0))
      ->excludes(requests);
  app.add_option("--model", options.model, "model name (see yangtuo models) [the only one]");
  add("--prompt-tokens", plan.prompt_tokens, "median length of prompts")
      ->check(CLI::Range(1.0, 1e6));
  add("--answer-tokens", plan.answer_tokens, "median length of answers")
      ->check(CLI::Range(1.0, 1e6));
  add("--spread", plan.spread, "of lengths: 1 as in chat logs (log-normal), 0 all the same")
      ->check(CLI::Range(0.0, 3.0));
  add("--shared-prefix", plan.shared_prefix, "tokens before every prompt, the same for all")
      ->check(CLI::Range(0U, 1'000'000U));
  add("--seed", plan.seed, "same seed, same arrivals, lengths and prompts");
  add("--target-ttft-ms", arguments->targets.ttft_ms, "goodput counts first tokens this soon")
      ->check(CLI::Range(1.0, 1e7));
  add("--target-tpot-ms", arguments->targets.tpot_ms, "goodput counts tokens this fast on average")
      ->check(CLI::Range(0.1, 1e6));
  add("--max-outstanding", options.max_outstanding, "stop when so many are under way at once")
      ->check(CLI::Range(1, 100'000));
  add("--timeout", options.timeout_seconds, "seconds that one request may take")
      ->check(CLI::Range(0.1, 86'400.0));
  app.add_option("--json", arguments->json, "write the figures as JSON; - in place of the table")
      ->type_name("FILE");
  app.add_option("--svg", arguments->svg, "write plots")->type_name("FILE");
  AddClientFlags(app, options.client);
  app.footer(kExamples);
  app.callback([&run, arguments] { run = [arguments] { return Run(*arguments); }; });
}

}  // namespace yangtuo
