#include "tools/bench_gateway/spawned_service.h"

#include <fcntl.h>
#include <fstream>
#include <iterator>
#include <signal.h>
#include <spawn.h>
#include <sstream>
#include <string_view>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>
#include <utility>

#include "absl/strings/str_format.h"
#include "inference_core/base/clock.h"
#include "inference_core/base/status_macros.h"
#include "nlohmann/json.hpp"

namespace yangtuo::bench_gateway {
namespace {

constexpr auto kStartLimit = std::chrono::seconds(60);
constexpr auto kPoll = std::chrono::milliseconds(20);
constexpr int kLogTailLines = 5;

std::string ReadAll(const std::filesystem::path& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

}  // namespace

absl::StatusOr<SpawnedService> SpawnedService::Start(const std::filesystem::path& program,
                                                     std::vector<std::string> arguments,
                                                     const std::filesystem::path& folder) {
  const std::string name = program.filename().string();
  const std::filesystem::path ports = folder / (name + ".ports");
  const std::filesystem::path log = folder / (name + ".log");
  std::vector<std::string> command{program.string(), "--listen",    "127.0.0.1:0", "--admin-listen",
                                   "127.0.0.1:0",    "--port-file", ports.string()};
  command.insert(command.end(), std::make_move_iterator(arguments.begin()),
                 std::make_move_iterator(arguments.end()));
  YANGTUO_ASSIGN_OR_RETURN(ChildProcess process, ChildProcess::Start(command, log));
  SpawnedService service(std::move(process));
  const TimePoint give_up = std::chrono::steady_clock::now() + kStartLimit;
  while (std::chrono::steady_clock::now() < give_up) {
    const auto parsed = nlohmann::json::parse(ReadAll(ports), nullptr, false);
    if (parsed.is_object() && parsed.contains("grpc") && parsed["grpc"].is_number_integer()) {
      service.address_ = absl::StrFormat("127.0.0.1:%d", parsed["grpc"].get<int>());
      if (parsed.contains("http") && parsed["http"].is_number_integer()) {
        service.http_address_ = absl::StrFormat("127.0.0.1:%d", parsed["http"].get<int>());
      }
      return service;
    }
    if (const auto ended = service.process_.Poll(); ended.has_value()) {
      return absl::UnavailableError(
          absl::StrFormat("%s ended at start, %s: %s", name, *ended, ReadTail(log, kLogTailLines)));
    }
    std::this_thread::sleep_for(kPoll);
  }
  return absl::UnavailableError(
      absl::StrFormat("%s did not start: %s", name, ReadTail(log, kLogTailLines)));
}

double SpawnedService::ResidentBytes() const {
  // proc(5): pages of the whole program, then those that are resident.
  std::istringstream fields(ReadAll(absl::StrFormat("/proc/%d/statm", process_.pid())));
  double size = 0;
  double resident = 0;
  fields >> size >> resident;
  return resident * static_cast<double>(sysconf(_SC_PAGESIZE));
}

double SpawnedService::CpuSeconds() const {
  // proc(5): after the command's name in parentheses come state and 10 more fields, then utime and
  // stime in clock ticks.
  const std::string stat = ReadAll(absl::StrFormat("/proc/%d/stat", process_.pid()));
  const std::size_t name_end = stat.rfind(')');
  if (name_end == std::string::npos) {
    return 0;
  }
  std::istringstream fields(stat.substr(name_end + 1));
  std::string skipped;
  for (int i = 0; i < 11; ++i) {
    fields >> skipped;
  }
  double user = 0;
  double system = 0;
  fields >> user >> system;
  return (user + system) / static_cast<double>(sysconf(_SC_CLK_TCK));
}

}  // namespace yangtuo::bench_gateway
