#include "gateway/http/http_server.h"

#include <atomic>
#include <list>
#include <map>
#include <string_view>
#include <thread>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_format.h"
#include "boost/asio/bind_executor.hpp"
#include "boost/asio/executor_work_guard.hpp"
#include "boost/asio/io_context.hpp"
#include "boost/asio/post.hpp"
#include "boost/asio/ssl/context.hpp"
#include "boost/asio/steady_timer.hpp"
#include "boost/asio/strand.hpp"
#include "boost/asio/write.hpp"
#include "gateway/http/http_connection.h"
#include "inference_core/base/mutex.h"
#include "inference_core/base/status_macros.h"
#include "services/common/tcp_acceptors.h"
#include "services/common/tls_files.h"

namespace yangtuo::gateway {
namespace {

namespace asio = boost::asio;
using boost::system::error_code;
using tcp = asio::ip::tcp;

// Closing a socket takes no time; this is for a machine that is very busy.
constexpr Duration kCloseLimit = std::chrono::seconds(5);
constexpr std::string_view kTooMany =
    "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\n"
    "Connection: close\r\n\r\n";

absl::StatusOr<std::unique_ptr<asio::ssl::context>> MakeTls(const ServerTls& tls) {
  // Checks the files and says which of them is wrong.
  YANGTUO_RETURN_IF_ERROR(ServerCredentialsOf(tls).status());
  auto context = std::make_unique<asio::ssl::context>(asio::ssl::context::tls_server);
  error_code error;
  context->set_options(asio::ssl::context::default_workarounds | asio::ssl::context::no_tlsv1 |
                           asio::ssl::context::no_tlsv1_1,
                       error);
  context->use_certificate_chain_file(tls.cert_file, error);
  if (!error) {
    context->use_private_key_file(tls.key_file, asio::ssl::context::pem, error);
  }
  if (!error && !tls.client_ca_file.empty()) {
    context->load_verify_file(tls.client_ca_file, error);
    context->set_verify_mode(asio::ssl::verify_peer | asio::ssl::verify_fail_if_no_peer_cert);
  }
  if (error) {
    return absl::InvalidArgumentError(absl::StrFormat("TLS files \"%s\", \"%s\": %s", tls.cert_file,
                                                      tls.key_file, error.message()));
  }
  return context;
}

struct Listener {
  explicit Listener(tcp::acceptor the_acceptor)
      : acceptor(std::move(the_acceptor)), retry(acceptor.get_executor()) {}

  tcp::acceptor acceptor;
  asio::steady_timer retry;
};

}  // namespace

struct HttpServer::State {
  State(const HttpOptions& options, Handler handler)
      : rules{.limits = options.limits,
              .cors_origins = options.cors_origins,
              .handler = std::move(handler),
              .draining = [this] { return draining.load(); },
              .running = [this](int change) { ChangeRunning(change); },
              .body_bytes = body_bytes} {}

  void ChangeRunning(int change) ABSL_LOCKS_EXCLUDED(mutex) {
    const MutexLock lock(mutex);
    running += change;
    changed.NotifyAll();
  }

  // Listeners are used on this strand alone.
  void Accept(Listener& listener) {
    listener.acceptor.async_accept(
        asio::any_io_executor(asio::make_strand(io)),
        asio::bind_executor(strand, [this, &listener](error_code error, tcp::socket socket) {
          OnAccepted(listener, error, std::move(socket));
        }));
  }

  void OnAccepted(Listener& listener, const error_code& error, tcp::socket socket) {
    if (!listener.acceptor.is_open()) {
      return;
    }
    if (error) {
      // Out of file descriptors, most likely: an immediate retry would spin.
      listener.retry.expires_after(std::chrono::milliseconds(100));
      listener.retry.async_wait(
          asio::bind_executor(strand, [this, &listener](error_code) { Accept(listener); }));
      return;
    }
    Add(std::move(socket));
    Accept(listener);
  }

  void Add(tcp::socket socket) ABSL_LOCKS_EXCLUDED(mutex) {
    std::shared_ptr<HttpConnection> connection;
    {
      const MutexLock lock(mutex);
      if (open.size() < rules.limits.connections && !closing) {
        connection = MakeHttpConnection(std::move(socket), tls.get(), rules,
                                        [this](HttpConnection* ended) { Remove(ended); });
        open.emplace(connection.get(), connection);
      }
    }
    if (connection != nullptr) {
      connection->Start();
      return;
    }
    if (tls == nullptr) {
      error_code ignored;
      socket.non_blocking(true, ignored);
      socket.write_some(asio::buffer(kTooMany), ignored);
    }
  }

  void Remove(HttpConnection* ended) ABSL_LOCKS_EXCLUDED(mutex) {
    const MutexLock lock(mutex);
    open.erase(ended);
    changed.NotifyAll();
  }

  [[nodiscard]] std::vector<std::shared_ptr<HttpConnection>> Open() ABSL_LOCKS_EXCLUDED(mutex) {
    const MutexLock lock(mutex);
    std::vector<std::shared_ptr<HttpConnection>> all;
    for (const auto& [key, connection] : open) {
      if (auto alive = connection.lock(); alive != nullptr) {
        all.push_back(std::move(alive));
      }
    }
    return all;
  }

  void StopListening() {
    asio::post(strand, [this] {
      for (Listener& listener : listeners) {
        error_code ignored;
        listener.acceptor.close(ignored);
        listener.retry.cancel();
      }
    });
  }

  std::atomic<std::size_t> body_bytes = 0;
  const HttpConnectionRules rules;
  std::atomic<bool> draining = false;
  std::unique_ptr<asio::ssl::context> tls;  // null: plaintext
  asio::io_context io;
  asio::executor_work_guard<asio::io_context::executor_type> work{io.get_executor()};
  asio::strand<asio::io_context::executor_type> strand{io.get_executor()};
  std::list<Listener> listeners;
  int port = 0;

  Mutex mutex;
  CondVar changed;
  std::map<HttpConnection*, std::weak_ptr<HttpConnection>> open ABSL_GUARDED_BY(mutex);
  int running ABSL_GUARDED_BY(mutex) = 0;
  bool closing ABSL_GUARDED_BY(mutex) = false;

  std::vector<std::thread> threads;
};

absl::StatusOr<std::unique_ptr<HttpServer>> HttpServer::Start(const HttpOptions& options,
                                                              Handler handler) {
  auto state = std::make_unique<State>(options, std::move(handler));
  if (options.tls.enabled()) {
    YANGTUO_ASSIGN_OR_RETURN(state->tls, MakeTls(options.tls));
  }
  YANGTUO_ASSIGN_OR_RETURN(TcpAcceptors opened,
                           OpenTcpAcceptors(state->io, "HTTP", options.listen));
  state->port = opened.port;
  for (tcp::acceptor& acceptor : opened.acceptors) {
    state->listeners.emplace_back(std::move(acceptor));
  }
  for (Listener& listener : state->listeners) {
    state->Accept(listener);
  }
  for (int i = 0; i < options.threads; ++i) {
    state->threads.emplace_back([&io = state->io] { io.run(); });
  }
  return std::unique_ptr<HttpServer>(new HttpServer(std::move(state)));
}

HttpServer::HttpServer(std::unique_ptr<State> state) : state_(std::move(state)) {}

HttpServer::~HttpServer() {
  Drain(Duration{});
  state_->io.stop();
  for (std::thread& thread : state_->threads) {
    thread.join();
  }
}

void HttpServer::BeginDrain() {
  state_->draining = true;
  for (const auto& connection : state_->Open()) {
    connection->EndWhenIdle();
  }
}

void HttpServer::Drain(Duration limit) {
  const TimePoint end = std::chrono::steady_clock::now() + limit;
  BeginDrain();
  state_->StopListening();
  {
    const MutexLock lock(state_->mutex);
    while (state_->running > 0 && std::chrono::steady_clock::now() < end) {
      state_->changed.WaitUntil(state_->mutex, end);
    }
    state_->closing = true;
  }
  for (const auto& connection : state_->Open()) {
    connection->Close();
  }
  const MutexLock lock(state_->mutex);
  const TimePoint last = std::chrono::steady_clock::now() + kCloseLimit;
  while (!state_->open.empty() && std::chrono::steady_clock::now() < last) {
    state_->changed.WaitUntil(state_->mutex, last);
  }
}

int HttpServer::port() const { return state_->port; }

std::size_t HttpServer::connections() const {
  const MutexLock lock(state_->mutex);
  return state_->open.size();
}

}  // namespace yangtuo::gateway
