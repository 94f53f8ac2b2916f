#pragma once

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace yangtuo {

struct ListenAddress {
  std::string host;  // without the brackets of an IPv6 address
  std::uint16_t port = 0;
};

// "host:port" or "[ipv6]:port"; INVALID_ARGUMENT shows what was expected.
absl::StatusOr<ListenAddress> ParseListenAddress(const std::string& text);

// Why a socket cannot listen on `text`, found out by trying; OK when it can. `purpose` names the
// port in the message ("gRPC", "admin"). UNAVAILABLE: in use. PERMISSION_DENIED: a port below 1024
// without the right to it. INVALID_ARGUMENT: not an address of this machine.
absl::Status ExplainListenFailure(const std::string& purpose, const std::string& text);

}  // namespace yangtuo
