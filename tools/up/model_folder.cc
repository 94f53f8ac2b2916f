#include "tools/up/model_folder.h"

#include <system_error>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_format.h"

namespace yangtuo {
namespace {

namespace fs = std::filesystem;

// Where the models are that come with Yangtuo: build tree, installation, source tree.
std::vector<fs::path> ModelShelves(const fs::path& program_folder) {
  return {program_folder / "../../../deploy/models", program_folder / "../share/yangtuo/models",
          YANGTUO_MODELS_FOLDER};
}

bool IsThere(const fs::path& path) {
  std::error_code ignored;  // unreadable is as good as absent here
  return fs::exists(path, ignored);
}

// What is wrong beyond this, the worker says when it opens the model.
absl::Status CheckModelFolder(const fs::path& model) {
  std::error_code ignored;
  if (!fs::is_directory(model, ignored)) {
    return absl::OkStatus();  // one file: GGUF
  }
  const auto missing = [&model](const char* file) {
    return absl::FailedPreconditionError(absl::StrFormat(
        "%s has no %s: a model is a folder with config.json (Meta's: params.json), tokenizer.model "
        "and weights, or a GGUF file",
        model.string(), file));
  };
  if (!IsThere(model / "config.json") && !IsThere(model / "params.json")) {
    return missing("config.json");
  }
  return IsThere(model / "tokenizer.model") ? absl::OkStatus() : missing("tokenizer.model");
}

}  // namespace

fs::path ProgramFolder() {
  std::error_code error;
  const fs::path program = fs::read_symlink("/proc/self/exe", error);
  return error ? fs::current_path() : program.parent_path();
}

absl::StatusOr<fs::path> FindModelFolder(const std::string& argument,
                                         const fs::path& program_folder) {
  std::vector<fs::path> candidates;
  if (!argument.empty()) {
    candidates.emplace_back(argument);
  }
  // A bare name may be one of ours; a path with a slash means exactly that path.
  if (argument.find('/') == std::string::npos) {
    for (const fs::path& shelf : ModelShelves(program_folder)) {
      candidates.push_back(shelf / (argument.empty() ? kEmbeddedModel : argument));
    }
  }
  for (const fs::path& candidate : candidates) {
    if (!IsThere(candidate)) {
      continue;
    }
    std::error_code error;
    const fs::path folder = fs::canonical(candidate, error);
    if (error) {
      return absl::FailedPreconditionError(
          absl::StrFormat("cannot open %s: %s", candidate.string(), error.message()));
    }
    if (absl::Status status = CheckModelFolder(folder); !status.ok()) {
      return status;
    }
    return folder;
  }
  return absl::NotFoundError(
      argument.empty()
          ? absl::StrFormat("the embedded model %s is not beside this program: give a model folder",
                            kEmbeddedModel)
          : absl::StrFormat("there is no model folder %s (relative paths start at %s)", argument,
                            fs::current_path().string()));
}

}  // namespace yangtuo
