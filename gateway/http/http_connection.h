#pragma once

#include <atomic>
#include <cstddef>
#include <functional>
#include <memory>

#include "boost/asio/ip/tcp.hpp"
#include "boost/asio/ssl/context.hpp"
#include "gateway/http/http_server.h"

namespace yangtuo::gateway {

// What all connections of a server share; outlives them.
struct HttpConnectionRules {
  HttpLimits limits;
  std::vector<std::string> cors_origins;
  HttpServer::Handler handler;
  std::function<bool()> draining;
  // An answer is being made, or no longer.
  std::function<void(int change)> running;
  // Bytes of unfinished bodies, of all connections.
  std::atomic<std::size_t>& body_bytes;
};

// One client's connection. It keeps itself alive while an operation is pending; all functions may
// be called from any thread.
class HttpConnection {
 public:
  virtual ~HttpConnection() = default;
  virtual void Start() = 0;
  // Ends now if no answer is being made; otherwise it ends with that answer.
  virtual void EndWhenIdle() = 0;
  virtual void Close() = 0;
};

// The socket's executor is a strand of its own. `on_end` runs once, on that strand.
std::shared_ptr<HttpConnection> MakeHttpConnection(boost::asio::ip::tcp::socket socket,
                                                   boost::asio::ssl::context* tls,
                                                   const HttpConnectionRules& rules,
                                                   std::function<void(HttpConnection*)> on_end);

}  // namespace yangtuo::gateway
