#include "tools/common/cluster_state.h"

#include <cerrno>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <signal.h>
#include <sys/stat.h>
#include <system_error>
#include <unistd.h>

#include "absl/strings/str_format.h"
#include "nlohmann/json.hpp"

namespace yangtuo {
namespace {

using Json = nlohmann::json;

Json ToJson(const ServiceRecord& service) {
  return {{"name", service.name},   {"pid", service.pid}, {"grpc", service.grpc},
          {"admin", service.admin}, {"log", service.log}, {"restarts", service.restarts}};
}

ServiceRecord ServiceFromJson(const Json& json) {
  return {.name = json.at("name"),
          .pid = json.at("pid"),
          .grpc = json.at("grpc"),
          .admin = json.at("admin"),
          .log = json.value("log", ""),
          .restarts = json.value("restarts", 0)};
}

ClusterState StateFromJson(const Json& json) {
  ClusterState state{.pid = json.at("pid"),
                     .gateway = json.at("gateway"),
                     .model = json.value("model", ""),
                     .log_folder = json.value("log_folder", ""),
                     .services = {}};
  for (const Json& service : json.at("services")) {
    state.services.push_back(ServiceFromJson(service));
  }
  return state;
}

bool IsRunning(std::int64_t pid) {
  return pid > 0 && (kill(static_cast<pid_t>(pid), 0) == 0 || errno == EPERM);
}

}  // namespace

absl::StatusOr<std::filesystem::path> StateFolder() {
  const char* runtime = std::getenv("XDG_RUNTIME_DIR");  // NOLINT(concurrency-mt-unsafe)
  const std::filesystem::path folder =
      runtime != nullptr && *runtime != '\0'
          ? std::filesystem::path(runtime) / "yangtuo"
          : std::filesystem::path(absl::StrFormat("/tmp/yangtuo-%d", getuid()));
  if (mkdir(folder.c_str(), S_IRWXU) != 0 && errno != EEXIST) {
    return absl::FailedPreconditionError(absl::StrFormat(
        "cannot make the folder %s: %s", folder.string(), std::generic_category().message(errno)));
  }
  struct stat info {};
  // A folder under /tmp that somebody else made first could feed us any address.
  if (lstat(folder.c_str(), &info) != 0 || !S_ISDIR(info.st_mode) || info.st_uid != getuid()) {
    return absl::FailedPreconditionError(absl::StrFormat(
        "%s is not a folder of this user: remove it, or set XDG_RUNTIME_DIR", folder.string()));
  }
  return folder;
}

absl::Status WriteFileAtomically(const std::filesystem::path& path, const std::string& text) {
  const std::string temporary = absl::StrFormat("%s.%d", path.string(), getpid());
  {
    std::ofstream file(temporary, std::ios::binary | std::ios::trunc);
    file << text;
    file.close();
    if (!file) {
      return absl::UnavailableError(absl::StrFormat("cannot write %s: %s", temporary,
                                                    std::generic_category().message(errno)));
    }
  }
  std::error_code error;
  std::filesystem::rename(temporary, path, error);
  if (error) {
    return absl::UnavailableError(
        absl::StrFormat("cannot write %s: %s", path.string(), error.message()));
  }
  return absl::OkStatus();
}

absl::Status WriteClusterState(const std::filesystem::path& path, const ClusterState& state) {
  Json services = Json::array();
  for (const ServiceRecord& service : state.services) {
    services.push_back(ToJson(service));
  }
  const Json json = {{"pid", state.pid},
                     {"gateway", state.gateway},
                     {"model", state.model},
                     {"log_folder", state.log_folder},
                     {"services", services}};
  return WriteFileAtomically(path, json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n");
}

absl::StatusOr<ClusterState> ReadClusterState(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) {
    return absl::NotFoundError(absl::StrFormat("cannot read the state file %s", path.string()));
  }
  try {
    const std::string text{std::istreambuf_iterator<char>(file), {}};
    return StateFromJson(Json::parse(text));
  } catch (const Json::exception& e) {
    return absl::DataLossError(
        absl::StrFormat("%s is not a state file of `yangtuo up`: %s", path.string(), e.what()));
  }
}

std::vector<ClusterState> RunningClusters(const std::filesystem::path& folder) {
  std::vector<ClusterState> clusters;
  std::error_code error;
  for (std::filesystem::directory_iterator entry(folder, error), end; !error && entry != end;
       entry.increment(error)) {
    if (entry->path().extension() != ".json") {
      continue;
    }
    if (auto state = ReadClusterState(entry->path()); state.ok() && IsRunning(state->pid)) {
      clusters.push_back(*std::move(state));
    }
  }
  return clusters;
}

}  // namespace yangtuo
