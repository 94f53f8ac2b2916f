#include "tools/up/up_command.h"

#include <memory>

#include "CLI/CLI.hpp"
#include "services/common/listen_address.h"
#include "tools/up/up.h"

namespace yangtuo {
namespace {

constexpr char kExamples[] = R"(Examples:
  yangtuo up                                   the embedded demo model
  yangtuo up ~/models/chinese-alpaca-2-7b
  yangtuo up ~/models/chinese-alpaca-2-13b --shards 2 --kv-memory 4GiB --weight-type int4
  yangtuo up --workers 2 --listen 0.0.0.0:50051
  yangtuo up --listen 127.0.0.1:0 --port-file ports.json     for scripts: any free port

Starts a tokenizer, the workers and a gateway as processes of this machine, starts again what
crashes, and stops everything on Ctrl-C. Other commands find the cluster by its address;
yangtuo status also by itself. Exit codes: 0 stopped by the user, 1 failed, 2 wrong usage.)";

std::string CheckAddress(const std::string& text) {
  const absl::Status status = ParseListenAddress(text).status();
  return status.ok() ? "" : std::string(status.message());
}

void AddProcessFlags(CLI::App& app, UpOptions& options) {
  app.add_option("--workers", options.workers, "worker groups, each with the whole model")
      ->capture_default_str()
      ->check(CLI::Range(1, 64));
  app.add_option("--shards", options.shards,
                 "processes of a group, each with a share of the layers")
      ->capture_default_str()
      ->check(CLI::Range(1, 64));
  app.add_option("--threads", options.threads,
                 "compute threads of a worker process [the cores, divided by the processes]")
      ->check(CLI::Range(1, 1024));
  app.add_option(
      "--kv-memory", options.kv_memory,
      "memory for the KV cache of a worker process, such as 512MiB [the worker's choice]");
  app.add_option("--kv-type", options.kv_type, "what the KV cache is kept as [the worker's choice]")
      ->check(CLI::IsMember({"f32", "bf16", "int8"}));
  app.add_option("--weight-type", options.weight_type,
                 "what products compute with; gguf: the blocks of a GGUF file to the letter, where "
                 "auto re-encodes them as int8 or int4 [auto: as the model is stored]")
      ->check(CLI::IsMember({"auto", "f32", "bf16", "int8", "int4", "gguf"}));
  app.add_option("--adapter", options.adapters,
                 "LoRA adapter to merge into the model while it is read; may be given again")
      ->type_name("FOLDER")
      ->check(CLI::ExistingDirectory)
      ->allow_extra_args(false);
  app.add_option("--worker-flag", options.worker_flags,
                 "another flag for every worker, such as --worker-flag=--log-level=debug; may be "
                 "given again")
      ->allow_extra_args(false);
  app.add_option("--gateway-flag", options.gateway_flags, "the same for the gateway")
      ->allow_extra_args(false);
}

void AddOperationFlags(CLI::App& app, UpOptions& options, double& start_limit) {
  app.add_option("--port-file", options.port_file,
                 "write the gateway's ports to this JSON file once everything is ready");
  app.add_option("--state", options.state_file, "state file for yangtuo status [one it finds]");
  app.add_option("--log-folder", options.log_folder,
                 "folder for the services' logs [new, below $XDG_STATE_HOME/yangtuo or /tmp]");
  app.add_flag("--verbose", options.verbose, "show the services' logs on standard error as well");
  app.add_option("--drain-seconds", options.drain_seconds,
                 "on Ctrl-C, running answers have this long to end")
      ->capture_default_str()
      ->check(CLI::Range(0.0, 86400.0));
  app.add_option("--start-limit", start_limit, "give up when not ready after that many seconds")
      ->capture_default_str()
      ->check(CLI::Range(0.1, 86400.0));
}

}  // namespace

void AddUpCommand(CLI::App& parent, std::function<int()>& run) {
  CLI::App& app = *parent.add_subcommand("up", "run a whole cluster on this machine");
  const auto options = std::make_shared<UpOptions>();
  const auto start_limit = std::make_shared<double>(ToSeconds(options->start_limit));
  app.add_option("MODEL", options->model,
                 "a folder in Hugging Face's or Meta's layout, or a GGUF file [the embedded one]");
  app.add_option("--model-name", options->model_name, "public name [the folder's]");
  app.add_option("--listen", options->listen, "gRPC address of the gateway; port 0: any free one")
      ->capture_default_str()
      ->check(CLI::Validator(CheckAddress, "HOST:PORT"));
  app.add_option("--http-listen", options->http_listen,
                 "address of the gateway's HTTP API [127.0.0.1:8080; any free port if --listen "
                 "has port 0]")
      ->check(CLI::Validator(CheckAddress, "HOST:PORT"));
  app.add_option("--admin-listen", options->admin_listen,
                 "address of the gateway's /metrics /livez /readyz")
      ->capture_default_str()
      ->check(CLI::Validator(CheckAddress, "HOST:PORT"));
  AddProcessFlags(app, *options);
  AddOperationFlags(app, *options, *start_limit);
  app.footer(kExamples);
  app.callback([&run, options, start_limit] {
    options->start_limit =
        std::chrono::duration_cast<Duration>(std::chrono::duration<double>(*start_limit));
    run = [options] { return RunUp(*options); };
  });
}

}  // namespace yangtuo
