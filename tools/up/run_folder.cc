#include "tools/up/run_folder.h"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <signal.h>
#include <system_error>
#include <time.h>
#include <unistd.h>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_format.h"
#include "inference_core/base/status_macros.h"
#include "tools/common/cluster_state.h"

namespace yangtuo {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kKeptFolders = 9;

std::string NewName() {
  std::array<char, 32> text{};
  const time_t now = time(nullptr);
  tm local{};
  localtime_r(&now, &local);
  strftime(text.data(), text.size(), "%Y%m%d-%H%M%S", &local);
  return absl::StrFormat("%s-%d", text.data(), getpid());
}

bool OwnerRuns(const fs::path& folder) {
  const std::string name = folder.filename().string();
  int pid = 0;
  return absl::SimpleAtoi(name.substr(name.rfind('-') + 1), &pid) && pid > 0 && kill(pid, 0) == 0;
}

}  // namespace

void RemoveOldRunFolders(const fs::path& base, std::size_t keep) {
  std::vector<fs::path> folders;
  std::error_code error;
  for (fs::directory_iterator entry(base, error), end; !error && entry != end;
       entry.increment(error)) {
    if (entry->is_directory(error)) {
      folders.push_back(entry->path());
    }
  }
  std::sort(folders.begin(), folders.end());  // names begin with the time
  const std::size_t surplus = folders.size() - std::min(keep, folders.size());
  for (std::size_t i = 0; i < surplus; ++i) {
    if (!OwnerRuns(folders[i])) {
      fs::remove_all(folders[i], error);
    }
  }
}

absl::StatusOr<fs::path> MakeRunFolder(const std::string& chosen) {
  fs::path folder = chosen;
  if (chosen.empty()) {
    const char* state_home = std::getenv("XDG_STATE_HOME");  // NOLINT(concurrency-mt-unsafe)
    fs::path base;
    if (state_home != nullptr && *state_home != '\0') {
      base = fs::path(state_home) / "yangtuo" / "logs";
    } else {
      YANGTUO_ASSIGN_OR_RETURN(base, StateFolder());
      base /= "logs";
    }
    RemoveOldRunFolders(base, kKeptFolders);
    folder = base / NewName();
  }
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) {
    return absl::FailedPreconditionError(
        absl::StrFormat("cannot make the log folder %s (%s): choose one with --log-folder",
                        folder.string(), error.message()));
  }
  return fs::canonical(folder, error);
}

}  // namespace yangtuo
