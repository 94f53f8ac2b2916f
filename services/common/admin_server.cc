#include "services/common/admin_server.h"

#include <chrono>
#include <list>
#include <optional>
#include <string_view>
#include <thread>
#include <utility>

#include "boost/asio/io_context.hpp"
#include "boost/asio/ip/tcp.hpp"
#include "boost/asio/post.hpp"
#include "boost/asio/steady_timer.hpp"
#include "boost/beast/core/flat_buffer.hpp"
#include "boost/beast/core/tcp_stream.hpp"
#include "boost/beast/http.hpp"
#include "inference_core/base/status_macros.h"
#include "services/common/log.h"
#include "services/common/tcp_acceptors.h"

namespace yangtuo {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;
using boost::system::error_code;
using tcp = asio::ip::tcp;
using Request = http::request<http::empty_body>;
using Response = http::response<http::string_body>;

constexpr char kMetricsType[] = "text/plain; version=0.0.4; charset=utf-8";

Response Plain(http::status status, std::string body) {
  Response response(status, 11);
  response.set(http::field::content_type, "text/plain; charset=utf-8");
  response.body() = std::move(body);
  return response;
}

Response Readiness(const std::vector<std::string>& not_ready) {
  if (not_ready.empty()) {
    return Plain(http::status::ok, "ready\n");
  }
  std::string body;
  for (const std::string& what : not_ready) {
    body += "not ready: " + what + '\n';
  }
  return Plain(http::status::service_unavailable, std::move(body));
}

Response Answer(std::string_view path, const AdminServer::Sources& sources) {
  if (path == "/livez") {
    return Plain(http::status::ok, "alive\n");
  }
  if (path == "/readyz") {
    return Readiness(sources.not_ready());
  }
  if (path == "/metrics") {
    Response response = Plain(http::status::ok, sources.metrics());
    response.set(http::field::content_type, kMetricsType);
    return response;
  }
  return Plain(http::status::not_found, "expected /metrics, /livez or /readyz\n");
}

Response Respond(const Request& request, const AdminServer::Sources& sources) {
  if (request.method() != http::verb::get && request.method() != http::verb::head) {
    Response response = Plain(http::status::method_not_allowed, "expected GET or HEAD\n");
    response.set(http::field::allow, "GET, HEAD");
    return response;
  }
  const std::string_view target(request.target().data(), request.target().size());
  try {
    return Answer(target.substr(0, target.find('?')), sources);
  } catch (const std::exception& e) {
    Log(LogLevel::kError, "admin request failed", {{"error", std::string(e.what())}});
    return Plain(http::status::internal_server_error, "see the log of this process\n");
  }
}

// The bytes were not a request that we take, as opposed to a connection that ended.
bool IsBadRequest(const error_code& error) {
  static const auto& category = http::make_error_code(http::error::bad_method).category();
  return error.category() == category && error != http::error::end_of_stream &&
         error != http::error::partial_message;
}

http::status StatusOfBadRequest(const error_code& error) {
  if (error == http::error::header_limit) {
    return http::status::request_header_fields_too_large;
  }
  if (error == http::error::body_limit) {
    return http::status::payload_too_large;
  }
  return http::status::bad_request;
}

// One connection: read a request, answer it, again. Exactly one asynchronous operation is pending
// at any time, so when one fails nothing else can still use the object.
class Connection {
 public:
  // `on_end` runs once, as the last thing that the connection does; it destroys the connection, but
  // not before it returns.
  Connection(tcp::socket socket, const AdminServer::Sources& sources,
             const AdminServer::Limits& limits, std::function<void(Connection&)> on_end)
      : stream_(std::move(socket)),
        sources_(sources),
        limits_(limits),
        on_end_(std::move(on_end)) {}

  void Read() {
    parser_.emplace();
    parser_->header_limit(static_cast<std::uint32_t>(limits_.header_bytes));
    parser_->body_limit(0);
    stream_.expires_after(limits_.idle);
    http::async_read(stream_, buffer_, *parser_,
                     [this](error_code error, std::size_t) { OnRead(error); });
  }

 private:
  void OnRead(error_code error) {
    if (!error) {
      const Request& request = parser_->get();
      response_ = Respond(request, sources_);
      response_.version(request.version());
      response_.keep_alive(request.keep_alive());
      Write(request.method());
    } else if (IsBadRequest(error)) {
      response_ = Plain(StatusOfBadRequest(error), error.message() + '\n');
      response_.keep_alive(false);
      Write(http::verb::get);
    } else {
      on_end_(*this);
    }
  }

  void Write(http::verb method) {
    response_.prepare_payload();
    stream_.expires_after(limits_.idle);
    auto done = [this](error_code error, std::size_t) {
      if (error) {
        on_end_(*this);
      } else if (response_.keep_alive()) {
        Read();
      } else {
        stream_.socket().shutdown(tcp::socket::shutdown_send, error);
        Linger();
      }
    };
    serializer_.emplace(response_);
    if (method == http::verb::head) {
      http::async_write_header(stream_, *serializer_, std::move(done));
    } else {
      http::async_write(stream_, *serializer_, std::move(done));
    }
  }

  // Reads what the client still sends: closing before that would reset the connection, and the
  // client could lose the answer.
  void Linger() {
    buffer_.consume(buffer_.size());
    stream_.async_read_some(buffer_.prepare(4096), [this](error_code error, std::size_t) {
      if (error) {
        on_end_(*this);
      } else {
        Linger();
      }
    });
  }

  beast::tcp_stream stream_;
  beast::flat_buffer buffer_;
  const AdminServer::Sources& sources_;
  const AdminServer::Limits& limits_;
  const std::function<void(Connection&)> on_end_;
  std::optional<http::request_parser<http::empty_body>> parser_;
  Response response_;
  std::optional<http::response_serializer<http::string_body>> serializer_;
};

struct Listener {
  explicit Listener(tcp::acceptor the_acceptor)
      : acceptor(std::move(the_acceptor)), retry(acceptor.get_executor()) {}

  tcp::acceptor acceptor;
  asio::steady_timer retry;
  bool paused = false;  // until a connection ends, because there are as many as allowed
};

}  // namespace

// Everything but the sources and limits is used on `thread` alone once that runs.
struct AdminServer::State {
  State(Sources the_sources, Limits the_limits)
      : sources(std::move(the_sources)), limits(the_limits) {}

  ~State() {
    io.stop();
    if (thread.joinable()) {
      thread.join();
    }
  }

  absl::Status Listen(const std::string& listen);
  void Accept(Listener& listener);
  void OnAccepted(Listener& listener, const error_code& error, tcp::socket socket);
  void Remove(const Connection& connection);

  const Sources sources;
  const Limits limits;
  asio::io_context io{1};
  std::list<Listener> listeners;
  std::list<Connection> connections;
  int port = 0;
  std::thread thread;
};

absl::Status AdminServer::State::Listen(const std::string& listen) {
  YANGTUO_ASSIGN_OR_RETURN(TcpAcceptors opened, OpenTcpAcceptors(io, "admin", listen));
  port = opened.port;
  for (tcp::acceptor& acceptor : opened.acceptors) {
    listeners.emplace_back(std::move(acceptor));
  }
  for (Listener& listener : listeners) {
    Accept(listener);
  }
  return absl::OkStatus();
}

void AdminServer::State::Accept(Listener& listener) {
  listener.paused = connections.size() >= static_cast<std::size_t>(limits.connections);
  if (!listener.paused) {
    listener.acceptor.async_accept([this, &listener](error_code error, tcp::socket socket) {
      OnAccepted(listener, error, std::move(socket));
    });
  }
}

void AdminServer::State::OnAccepted(Listener& listener, const error_code& error,
                                    tcp::socket socket) {
  if (error) {
    // Out of file descriptors, most likely: an immediate retry would spin.
    listener.retry.expires_after(std::chrono::milliseconds(100));
    listener.retry.async_wait([this, &listener](error_code) { Accept(listener); });
    return;
  }
  connections
      .emplace_back(
          std::move(socket), sources, limits,
          [this](Connection& ended) { asio::post(io, [this, &ended] { Remove(ended); }); })
      .Read();
  Accept(listener);
}

void AdminServer::State::Remove(const Connection& connection) {
  connections.remove_if([&connection](const Connection& one) { return &one == &connection; });
  for (Listener& listener : listeners) {
    if (listener.paused) {
      Accept(listener);
    }
  }
}

absl::StatusOr<std::unique_ptr<AdminServer>> AdminServer::Start(const std::string& listen,
                                                                Sources sources, Limits limits) {
  auto state = std::make_unique<State>(std::move(sources), limits);
  YANGTUO_RETURN_IF_ERROR(state->Listen(listen));
  state->thread = std::thread([&io = state->io] { io.run(); });
  return std::unique_ptr<AdminServer>(new AdminServer(std::move(state)));
}

AdminServer::AdminServer(std::unique_ptr<State> state) : state_(std::move(state)) {}
AdminServer::~AdminServer() = default;

int AdminServer::port() const { return state_->port; }

}  // namespace yangtuo
