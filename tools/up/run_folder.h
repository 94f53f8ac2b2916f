#pragma once

#include <cstddef>
#include <filesystem>
#include <string>

#include "absl/status/statusor.h"

namespace yangtuo {

// A new folder for the logs of this process's cluster: `chosen` itself unless it is empty, else one
// below $XDG_STATE_HOME/yangtuo/logs or the state folder's logs, where the oldest of other clusters
// that no longer run are removed.
absl::StatusOr<std::filesystem::path> MakeRunFolder(const std::string& chosen);

// Removes all but the newest `keep` folders "<time>-<pid>" in `base`, except those whose process
// still runs.
void RemoveOldRunFolders(const std::filesystem::path& base, std::size_t keep);

}  // namespace yangtuo
