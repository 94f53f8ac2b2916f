#include "services/common/port_file.h"

#include <cerrno>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <system_error>
#include <thread>
#include <unistd.h>

#include "absl/strings/str_format.h"
#include "nlohmann/json.hpp"

namespace yangtuo {

absl::Status WritePortFile(const std::string& path, const PortFile& ports) {
  const std::string partial = absl::StrFormat("%s.%d.partial", path, getpid());
  {
    std::ofstream out(partial, std::ios::trunc);
    out << nlohmann::json(ports).dump() << '\n';
    out.flush();
    if (!out) {
      return absl::UnavailableError(
          absl::StrFormat("cannot write the port file %s; check that its folder exists and is "
                          "writable",
                          path));
    }
  }
  if (std::rename(partial.c_str(), path.c_str()) != 0) {
    const std::string why = std::generic_category().message(errno);
    unlink(partial.c_str());
    return absl::UnavailableError(
        absl::StrFormat("cannot move the port file to %s: %s", path, why));
  }
  return absl::OkStatus();
}

absl::StatusOr<PortFile> ReadPortFile(const std::string& path) {
  std::ifstream in(path);
  if (!in) {
    return absl::NotFoundError(absl::StrFormat("no port file %s", path));
  }
  const std::string text((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
  const nlohmann::json json = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
  PortFile ports;
  if (!json.is_object()) {
    return absl::DataLossError(absl::StrFormat("%s is not a port file", path));
  }
  for (const auto& item : json.items()) {
    if (!item.value().is_number_integer()) {
      return absl::DataLossError(
          absl::StrFormat("%s: \"%s\" is not a whole number", path, item.key()));
    }
    ports[item.key()] = item.value().get<int>();
  }
  return ports;
}

absl::StatusOr<PortFile> WaitForPortFile(const std::string& path, Duration limit) {
  const TimePoint deadline = SteadyClock().Now() + limit;
  while (true) {
    absl::StatusOr<PortFile> ports = ReadPortFile(path);
    if (!absl::IsNotFound(ports.status())) {
      return ports;
    }
    if (SteadyClock().Now() >= deadline) {
      return absl::DeadlineExceededError(
          absl::StrFormat("no port file %s after %.1f s; see the log of the process that should "
                          "write it",
                          path, ToSeconds(limit)));
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
}

}  // namespace yangtuo
