#include "tools/common/http_get.h"

#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_format.h"
#include "boost/asio/connect.hpp"
#include "boost/asio/io_context.hpp"
#include "boost/asio/ip/tcp.hpp"
#include "boost/beast/core.hpp"
#include "boost/beast/http.hpp"
#include "inference_core/base/status_macros.h"
#include "services/common/listen_address.h"

namespace yangtuo {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;

// One request: resolve, connect, write, read, in the callbacks of one io_context.
class Get {
 public:
  Get(asio::io_context& io, const ListenAddress& peer, const std::string& path, Duration limit)
      : resolver_(io), stream_(io), limit_(limit) {
    request_.method(http::verb::get);
    request_.version(11);
    request_.target(path);
    request_.set(http::field::host, peer.host);
    request_.set(http::field::connection, "close");
    resolver_.async_resolve(peer.host, std::to_string(peer.port),
                            [this](beast::error_code error, const auto& found) {
                              Continue(error, [&] { Connect(found); });
                            });
  }

  [[nodiscard]] const beast::error_code& error() const { return error_; }
  [[nodiscard]] HttpAnswer TakeAnswer() {
    return HttpAnswer{.code = static_cast<int>(response_.result_int()),
                      .body = std::move(response_.body())};
  }

 private:
  template <typename Next>
  void Continue(beast::error_code error, const Next& next) {
    if (error) {
      error_ = error;
    } else {
      next();
    }
  }
  void Connect(const asio::ip::tcp::resolver::results_type& found) {
    stream_.expires_after(limit_);
    stream_.async_connect(
        found, [this](beast::error_code error, const auto&) { Continue(error, [&] { Write(); }); });
  }
  void Write() {
    http::async_write(stream_, request_, [this](beast::error_code error, std::size_t) {
      Continue(error, [&] { Read(); });
    });
  }
  void Read() {
    http::async_read(stream_, buffer_, response_,
                     [this](beast::error_code error, std::size_t) { error_ = error; });
  }

  asio::ip::tcp::resolver resolver_;
  beast::tcp_stream stream_;
  Duration limit_;
  http::request<http::empty_body> request_;
  http::response<http::string_body> response_;
  beast::flat_buffer buffer_;
  beast::error_code error_;
};

}  // namespace

absl::StatusOr<HttpAnswer> HttpGet(const std::string& address, const std::string& path,
                                   Duration limit) {
  YANGTUO_ASSIGN_OR_RETURN(const ListenAddress peer, ParseListenAddress(address));
  asio::io_context io;
  Get get(io, peer, path, limit);
  io.run_for(limit);
  if (!io.stopped() || get.error() == beast::error::timeout) {
    return absl::DeadlineExceededError(
        absl::StrFormat("http://%s%s: no answer within %.1f s", address, path, ToSeconds(limit)));
  }
  if (get.error()) {
    return absl::UnavailableError(
        absl::StrFormat("http://%s%s: %s", address, path, get.error().message()));
  }
  return get.TakeAnswer();
}

}  // namespace yangtuo
