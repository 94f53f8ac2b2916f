#include "services/common/tcp_acceptors.h"

#include <utility>

#include "absl/strings/str_format.h"
#include "boost/asio/ip/v6_only.hpp"
#include "inference_core/base/status_macros.h"
#include "services/common/listen_address.h"

namespace yangtuo {
namespace {

namespace asio = boost::asio;
using boost::system::error_code;
using tcp = asio::ip::tcp;

error_code Open(const tcp::endpoint& endpoint, asio::io_context& io, TcpAcceptors& opened) {
  error_code error;
  tcp::acceptor acceptor(io);
  acceptor.open(endpoint.protocol(), error);
  if (!error) {
    acceptor.set_option(tcp::acceptor::reuse_address(true), error);
  }
  if (!error && endpoint.address().is_v6()) {
    // "[::]" serves IPv4 too; a kernel without that gives IPv6 only.
    error_code ignored;
    acceptor.set_option(asio::ip::v6_only(!endpoint.address().is_unspecified()), ignored);
  }
  if (!error) {
    acceptor.bind(endpoint, error);
  }
  if (!error) {
    acceptor.listen(asio::socket_base::max_listen_connections, error);
  }
  if (!error) {
    opened.port = acceptor.local_endpoint(error).port();
    opened.acceptors.push_back(std::move(acceptor));
  }
  return error;
}

}  // namespace

absl::StatusOr<TcpAcceptors> OpenTcpAcceptors(asio::io_context& io, const std::string& purpose,
                                              const std::string& listen) {
  YANGTUO_ASSIGN_OR_RETURN(const ListenAddress address, ParseListenAddress(listen));
  error_code error;
  const auto found = tcp::resolver(io).resolve(address.host, std::to_string(address.port),
                                               tcp::resolver::passive, error);
  TcpAcceptors opened{.acceptors = {}, .port = address.port};
  for (const auto& entry : found) {
    // A host name with port 0: the second family takes the port that the first one got.
    const tcp::endpoint endpoint(entry.endpoint().address(),
                                 static_cast<std::uint16_t>(opened.port));
    error = Open(endpoint, io, opened);
    if (error == asio::error::address_family_not_supported) {
      error.clear();
    }
    if (error) {
      break;
    }
  }
  if (error || opened.acceptors.empty()) {
    const absl::Status why = ExplainListenFailure(purpose, listen);
    return !why.ok() ? why
                     : absl::UnavailableError(
                           absl::StrFormat("%s port %s: %s", purpose, listen, error.message()));
  }
  return opened;
}

}  // namespace yangtuo
