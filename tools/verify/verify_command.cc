#include "tools/verify/verify_command.h"

#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <system_error>
#include <unistd.h>
#include <utility>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/strings/str_format.h"
#include "inference_core/base/clock.h"
#include "inference_core/base/cpu.h"
#include "inference_core/base/mapped_file.h"
#include "inference_core/base/output_file.h"
#include "inference_core/base/status_macros.h"
#include "tools/common/json_text.h"
#include "tools/common/progress_bar.h"
#include "tools/common/terminal.h"
#include "tools/convert/conversion.h"
#include "tools/verify/verify.h"

namespace yangtuo {
namespace {

namespace fs = std::filesystem;
using nlohmann::ordered_json;

constexpr char kExamples[] = R"(Examples:
  yangtuo verify alpaca-7b                                  read all of it; hold it against its manifest
  yangtuo verify alpaca-7b --against alpaca-7b-of-a-friend  name every tensor that differs, and by how much
  yangtuo verify alpaca-7b --against friend.manifest.json
  yangtuo verify LLAMA/7B/tokenizer.model                   is this the published file?
  yangtuo verify alpaca-7b --write                          write yangtuo.manifest.json beside it

Digests are of the tensors' contents: they are equal for one model in safetensors, pytorch_model.bin,
Meta's shards or GGUF of the same types, whatever program wrote the file. Exits with 1 when something
differs.)";

struct VerifyOptions {
  std::string path;
  std::string against;
  bool write = false;
  bool json = false;
};

struct Other {
  Manifest manifest;
  std::optional<Checkpoint> model;  // none: only a manifest
};

// What was found out.
struct Findings {
  Manifest manifest;
  std::vector<FileDigest> files;
  std::optional<std::string> other;  // what it was held against; none: nothing was there
  std::vector<TensorDifference> differences;
  bool config_differs = false;

  [[nodiscard]] bool same() const { return differences.empty() && !config_differs; }
};

absl::StatusOr<Manifest> DigestShowing(const Checkpoint& checkpoint, const std::string& doing) {
  const SteadyClock clock;
  std::int64_t bytes = 0;
  for (const TensorSpec& tensor : checkpoint.tensors->tensors()) {
    bytes += tensor.bytes();
  }
  ProgressBar bar(Terminal::LookAt(STDERR_FILENO), doing, bytes, clock.Now());
  return DigestModel(checkpoint, GetCpuLimits().compute_threads(),
                     [&](std::int64_t read) { bar.Show(read, clock.Now()); });
}

absl::StatusOr<FileDigest> DigestFileShowing(const fs::path& path) {
  const SteadyClock clock;
  std::error_code error;  // a file that cannot be read is reported when it is
  const std::uintmax_t size = fs::file_size(path, error);
  const std::int64_t bytes = error ? 0 : static_cast<std::int64_t>(size);
  ProgressBar bar(Terminal::LookAt(STDERR_FILENO), "reading " + path.filename().string(), bytes,
                  clock.Now());
  return DigestFile(path, [&](std::int64_t read) { bar.Show(read, clock.Now()); });
}

bool IsManifest(const fs::path& path) { return path.extension() == ".json"; }

absl::StatusOr<Other> OpenOther(const fs::path& path) {
  if (IsManifest(path)) {
    YANGTUO_ASSIGN_OR_RETURN(const MappedFile file, MappedFile::Open(path));
    YANGTUO_ASSIGN_OR_RETURN(
        Manifest manifest,
        ParseManifest({reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size()},
                      path.string()));
    return Other{.manifest = std::move(manifest), .model = std::nullopt};
  }
  YANGTUO_ASSIGN_OR_RETURN(Checkpoint model, OpenCheckpoint(path));
  YANGTUO_ASSIGN_OR_RETURN(Manifest manifest, DigestShowing(model, "reading the other"));
  return Other{.manifest = std::move(manifest), .model = std::move(model)};
}

absl::StatusOr<Findings> Verify(const VerifyOptions& options) {
  YANGTUO_ASSIGN_OR_RETURN(const Checkpoint model, OpenCheckpoint(options.path));
  Findings findings;
  for (const fs::path& path : PublishedFilesOf(model)) {
    YANGTUO_ASSIGN_OR_RETURN(FileDigest file, DigestFileShowing(path));
    findings.files.push_back(std::move(file));
  }
  YANGTUO_ASSIGN_OR_RETURN(findings.manifest, DigestShowing(model, "reading"));
  std::optional<Other> other;
  if (!options.against.empty()) {
    YANGTUO_ASSIGN_OR_RETURN(other, OpenOther(options.against));
    findings.other = options.against;
  } else if (!options.write) {
    YANGTUO_ASSIGN_OR_RETURN(std::optional<Manifest> own, ReadManifest(model.path));
    if (own.has_value()) {
      other = Other{.manifest = *std::move(own), .model = std::nullopt};
      findings.other = ManifestPath(model.path).string();
    }
  }
  if (other.has_value()) {
    YANGTUO_ASSIGN_OR_RETURN(
        findings.differences,
        CompareModels(findings.manifest, other->manifest, model.tensors.get(),
                      other->model.has_value() ? other->model->tensors.get() : nullptr));
    findings.config_differs = findings.manifest.config != other->manifest.config;
  }
  if (options.write) {
    YANGTUO_RETURN_IF_ERROR(WriteOutputFile(ManifestPath(model.path), findings.manifest.Encode()));
  }
  return findings;
}

std::string DescribeFile(const FileDigest& file) {
  return absl::StrFormat("file    %s  %s  %s\n", file.sha256, file.path.filename().string(),
                         file.known == nullptr
                             ? std::string("not among the published files known here")
                             : std::string(file.known->what));
}

std::string Describe(const VerifyOptions& options, const Findings& findings) {
  std::string text = absl::StrFormat("model   %s, %d tensors\ndigest  %s\n", options.path,
                                     findings.manifest.tensors.size(), findings.manifest.Digest());
  for (const FileDigest& file : findings.files) {
    text += DescribeFile(file);
  }
  if (options.write) {
    text += absl::StrFormat("wrote   %s\n", ManifestPath(options.path).string());
  }
  if (!findings.other.has_value()) {
    text += options.write ? ""
                          : "note    there is no manifest beside the model to hold it against; "
                            "--write makes one\n";
    return text;
  }
  for (const TensorDifference& difference : findings.differences) {
    text += absl::StrFormat("differs %s\n", DescribeDifference(difference));
  }
  if (findings.config_differs) {
    text += "differs configuration\n";
  }
  text += findings.same() ? absl::StrFormat("same    as %s\n", *findings.other)
                          : absl::StrFormat("        %d of %d tensors differ from %s\n",
                                            findings.differences.size(),
                                            findings.manifest.tensors.size(), *findings.other);
  return text;
}

ordered_json EncodeFile(const FileDigest& file) {
  ordered_json entry = {{"path", file.path.string()}, {"sha256", file.sha256}};
  if (file.known != nullptr) {
    entry["published_as"] = file.known->what;
  }
  return entry;
}

std::string Encode(const VerifyOptions& options, const Findings& findings) {
  ordered_json json = ordered_json::parse(findings.manifest.Encode());
  json["path"] = options.path;
  ordered_json files = ordered_json::array();
  for (const FileDigest& file : findings.files) {
    files.push_back(EncodeFile(file));
  }
  json["files"] = files;
  if (findings.other.has_value()) {
    ordered_json differences = ordered_json::array();
    for (const TensorDifference& difference : findings.differences) {
      differences.push_back({{"tensor", difference.name},
                             {"values", difference.values},
                             {"largest", difference.largest},
                             {"text", DescribeDifference(difference)}});
    }
    json["against"] = *findings.other;
    json["same"] = findings.same();
    json["config_differs"] = findings.config_differs;
    json["differences"] = differences;
  }
  return JsonText(json);
}

// A file that is no model: only its name in the table can be told.
std::optional<int> RunVerifyFile(const VerifyOptions& options) {
  std::error_code error;
  const fs::path path(options.path);
  const std::string extension = path.extension().string();
  if (!fs::is_regular_file(path, error) || (extension != ".model" && extension != ".pth")) {
    return std::nullopt;
  }
  if (!options.against.empty() || options.write) {
    return FailCommand("verify", absl::InvalidArgumentError(absl::StrFormat(
                                     "%s is one file of a model: --against and --write take the "
                                     "model's folder",
                                     options.path)));
  }
  const absl::StatusOr<FileDigest> file = DigestFileShowing(path);
  if (!file.ok()) {
    return FailCommand("verify", file.status());
  }
  WriteAll(STDOUT_FILENO, options.json ? JsonText(EncodeFile(*file)) : DescribeFile(*file));
  return file->known == nullptr ? 1 : 0;
}

int RunVerify(const VerifyOptions& options) {
  if (const std::optional<int> code = RunVerifyFile(options)) {
    return *code;
  }
  const absl::StatusOr<Findings> findings = Verify(options);
  if (!findings.ok()) {
    return FailCommand("verify", findings.status());
  }
  WriteAll(STDOUT_FILENO, options.json ? Encode(options, *findings) : Describe(options, *findings));
  return findings->same() ? 0 : 1;
}

}  // namespace

void AddVerifyCommand(CLI::App& parent, std::function<int()>& run) {
  CLI::App& app = *parent.add_subcommand(
      "verify", "digests of a model's contents, and what differs from another");
  const auto options = std::make_shared<VerifyOptions>();
  app.add_option("path", options->path, "a model's folder or file, or a published file")
      ->required()
      ->type_name("PATH");
  app.add_option("--against", options->against, "another model, or a manifest (.json)")
      ->type_name("PATH");
  app.add_flag("--write", options->write, "write the manifest beside the model");
  app.add_flag("--json", options->json, "manifest and findings as JSON on standard output");
  app.footer(kExamples);
  app.callback([&run, options] { run = [options] { return RunVerify(*options); }; });
}

}  // namespace yangtuo
