#pragma once

#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "gateway/http/http_exchange.h"
#include "gateway/http/http_message.h"
#include "inference_core/base/clock.h"
#include "services/common/service_options.h"

namespace yangtuo::gateway {

// Bounds on what one client, or all together, can hold.
struct HttpLimits {
  std::size_t connections = 4096;  // further ones are answered 503 at once
  std::size_t header_bytes = std::size_t{16} << 10;
  std::size_t body_bytes = std::size_t{16} << 20;
  // Of all requests whose body is not complete yet; further ones are answered 503 at once.
  std::size_t all_body_bytes = std::size_t{256} << 20;
  Duration idle = std::chrono::seconds(75);  // between two requests of a connection
  Duration header_time =
      std::chrono::seconds(10);                    // from a request's first byte to its last header
  Duration body_time = std::chrono::seconds(60);   // from there to its last byte
  Duration write_time = std::chrono::seconds(30);  // without the client taking a byte
};

struct HttpOptions {
  std::string listen = "127.0.0.1:8080";
  ServerTls tls = {};
  int threads = 2;
  HttpLimits limits = {};
  // Origins whose pages may call ("https://chat.example", or "*"). Empty: none may.
  std::vector<std::string> cors_origins = {};
};

// An HTTP/1.1 server: keep-alive, pipelining (answers in order, one request of a connection at a
// time), answers in one piece or in chunks as they come, TLS with the options of the gRPC port.
// It moves bytes and knows nothing of what they mean.
//
// A client that ends its side of the connection while its request runs has left: the maker of the
// answer is told (HttpExchange::OnGone). A client that takes nothing for `write_time` is cut off.
class HttpServer {
 public:
  struct Handler {
    // Called on the server's threads; must not block. Answers now or later, on any thread.
    std::function<void(HttpRequest, std::shared_ptr<HttpExchange>)> handle;
    // Looks at a request whose body is still to come. What it returns is the answer, and the body
    // is not waited for. Empty: all are taken.
    std::function<std::optional<HttpResponse>(const HttpRequest& head)> admit;
    // The answer to what never became a request: 400, 408, 413, 431, 501, 503.
    std::function<HttpResponse(int status, const std::string& message)> refuse;
  };

  // UNAVAILABLE when the port is in use, INVALID_ARGUMENT for certificates that cannot be read.
  static absl::StatusOr<std::unique_ptr<HttpServer>> Start(const HttpOptions& options,
                                                           Handler handler);
  // Closes everything at once.
  ~HttpServer();
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;

  // From now on every connection ends with its current answer.
  void BeginDrain();
  // Also stops listening, waits for running answers up to `limit`, then cuts off the rest. Blocks.
  void Drain(Duration limit);

  [[nodiscard]] int port() const;
  [[nodiscard]] std::size_t connections() const;

 private:
  struct State;
  explicit HttpServer(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace yangtuo::gateway
