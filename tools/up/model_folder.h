#pragma once

#include <filesystem>
#include <string>

#include "absl/status/statusor.h"

namespace yangtuo {

inline constexpr char kEmbeddedModel[] = "poem-alpaca";

// The folder of the running program.
std::filesystem::path ProgramFolder();

// The folder of the model that `argument` names: a path, or the name of a model that comes with
// Yangtuo; empty: the embedded one. NOT_FOUND or FAILED_PRECONDITION say what a model folder needs
// and which of it is missing. The worker checks the contents.
absl::StatusOr<std::filesystem::path> FindModelFolder(const std::string& argument,
                                                      const std::filesystem::path& program_folder);

}  // namespace yangtuo
