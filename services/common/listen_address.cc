#include "services/common/listen_address.h"

#include <cerrno>
#include <memory>
#include <netdb.h>
#include <sys/socket.h>
#include <system_error>
#include <unistd.h>

#include "absl/strings/numbers.h"
#include "absl/strings/str_format.h"
#include "inference_core/base/status_macros.h"

namespace yangtuo {
namespace {

// The errno of binding and listening, 0 when that works. SO_REUSEADDR as gRPC sets it: a port whose
// old connections linger is free, one that somebody listens on is not.
int TryListen(const addrinfo& address) {
  const int fd = socket(address.ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) {
    return errno;
  }
  const int on = 1;
  int error = 0;
  if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) != 0 ||
      bind(fd, address.ai_addr, address.ai_addrlen) != 0 || listen(fd, 1) != 0) {
    error = errno;
  }
  close(fd);
  return error;
}

absl::Status ListenError(const std::string& purpose, const std::string& text, int error) {
  if (error == EADDRINUSE) {
    return absl::UnavailableError(
        absl::StrFormat("the %s port %s is in use by another process; stop that process (ss -ltnp "
                        "shows it) or choose another port (0 lets the system choose)",
                        purpose, text));
  }
  if (error == EACCES) {
    return absl::PermissionDeniedError(absl::StrFormat(
        "not allowed to listen on the %s port %s; choose a port above 1023", purpose, text));
  }
  if (error == EADDRNOTAVAIL) {
    return absl::InvalidArgumentError(
        absl::StrFormat("the %s address %s is not one of this machine; use 127.0.0.1 (this machine "
                        "only), 0.0.0.0 or [::] (everybody)",
                        purpose, text));
  }
  return absl::UnavailableError(absl::StrFormat("cannot listen on the %s address %s: %s", purpose,
                                                text, std::generic_category().message(error)));
}

}  // namespace

absl::StatusOr<ListenAddress> ParseListenAddress(const std::string& text) {
  const auto invalid = [&text] {
    return absl::InvalidArgumentError(absl::StrFormat(
        "expected an address such as 127.0.0.1:50051 or [::1]:50051, found \"%s\"", text));
  };
  const std::size_t colon = text.rfind(':');
  if (colon == std::string::npos || colon == 0) {
    return invalid();
  }
  ListenAddress address{.host = text.substr(0, colon)};
  std::uint32_t port = 0;
  if (!absl::SimpleAtoi(text.substr(colon + 1), &port) || port > 65535) {
    return invalid();
  }
  address.port = static_cast<std::uint16_t>(port);
  if (address.host.front() == '[' && address.host.back() == ']') {
    address.host = address.host.substr(1, address.host.size() - 2);
  } else if (address.host.find(':') != std::string::npos) {
    return invalid();
  }
  if (address.host.empty()) {
    return invalid();
  }
  return address;
}

absl::Status ExplainListenFailure(const std::string& purpose, const std::string& text) {
  YANGTUO_ASSIGN_OR_RETURN(const ListenAddress address, ParseListenAddress(text));
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE;
  addrinfo* found = nullptr;
  const int failure =
      getaddrinfo(address.host.c_str(), std::to_string(address.port).c_str(), &hints, &found);
  if (failure != 0) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "cannot find the host of the %s address \"%s\": %s", purpose, text, gai_strerror(failure)));
  }
  const std::unique_ptr<addrinfo, decltype(&freeaddrinfo)> addresses(found, freeaddrinfo);
  for (const addrinfo* one = addresses.get(); one != nullptr; one = one->ai_next) {
    if (const int error = TryListen(*one); error != 0) {
      return ListenError(purpose, text, error);
    }
  }
  return absl::OkStatus();
}

}  // namespace yangtuo
