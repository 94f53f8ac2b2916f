#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "boost/asio/io_context.hpp"
#include "boost/asio/ip/tcp.hpp"

namespace yangtuo {

struct TcpAcceptors {
  std::vector<boost::asio::ip::tcp::acceptor> acceptors;  // at least one, listening
  int port = 0;
};

// Listens on every address that `listen` ("host:port") stands for: a name or "[::]" may mean IPv4
// and IPv6 together, which then share a port. `purpose` names the port in errors ("admin"), which
// are those of ExplainListenFailure.
absl::StatusOr<TcpAcceptors> OpenTcpAcceptors(boost::asio::io_context& io,
                                              const std::string& purpose,
                                              const std::string& listen);

}  // namespace yangtuo
