#include "tools/inspect/inspect_command.h"

#include <memory>
#include <string>
#include <unistd.h>

#include "CLI/CLI.hpp"
#include "tools/common/terminal.h"
#include "tools/convert/conversion.h"
#include "tools/inspect/inspect.h"

namespace yangtuo {
namespace {

constexpr char kExamples[] = R"(Examples:
  yangtuo inspect alpaca-7b                  a model in any format, its tokenizer, what it goes with
  yangtuo inspect alpaca-7b.gguf --tensors   every tensor with type, shape and size
  yangtuo inspect chinese-alpaca-lora-7b     an adapter: which base it is for
  yangtuo inspect pytorch_model-00001-of-00002.bin --tensors   one safetensors or torch file by itself
  yangtuo inspect tokenizer.model
  yangtuo inspect alpaca-7b --json | jq .problems

Nothing is read but headers. Exits with 1 when parts that lie together do not belong together, or
what is needed beside a file is not there.)";

struct InspectOptions {
  std::string path;
  bool tensors = false;
  bool json = false;
};

int RunInspect(const InspectOptions& options) {
  const absl::StatusOr<Inspection> found = Inspect(options.path);
  if (!found.ok()) {
    return FailCommand("inspect", found.status());
  }
  WriteAll(STDOUT_FILENO,
           options.json ? EncodeInspection(*found) : Describe(*found, options.tensors));
  return found->problems.empty() ? 0 : 1;
}

}  // namespace

void AddInspectCommand(CLI::App& parent, std::function<int()>& run) {
  CLI::App& app = *parent.add_subcommand(
      "inspect", "what is in a model, adapter or tokenizer, and what it goes with");
  const auto options = std::make_shared<InspectOptions>();
  app.add_option("path", options->path, "a folder or a file")->required()->type_name("PATH");
  app.add_flag("--tensors", options->tensors, "a line for each tensor");
  app.add_flag("--json", options->json, "everything as JSON");
  app.footer(kExamples);
  app.callback([&run, options] { run = [options] { return RunInspect(*options); }; });
}

}  // namespace yangtuo
