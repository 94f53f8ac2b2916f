#include "services/common/otlp_client.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <functional>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "boost/asio/connect.hpp"
#include "boost/asio/io_context.hpp"
#include "boost/asio/ip/tcp.hpp"
#include "boost/asio/ssl/context.hpp"
#include "boost/asio/ssl/host_name_verification.hpp"
#include "boost/asio/ssl/stream.hpp"
#include "boost/beast/core/flat_buffer.hpp"
#include "boost/beast/http.hpp"
#include "inference_core/base/mutex.h"
#include "services/common/build_info.h"

namespace yangtuo {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;
namespace ssl = boost::asio::ssl;
using boost::system::error_code;
using tcp = asio::ip::tcp;
using Endpoints = std::vector<tcp::endpoint>;

constexpr std::size_t kMaxAnswerBytes = std::size_t{64} << 10;
constexpr Duration kSlice = std::chrono::milliseconds(50);
// Look-ups that a broken name service still holds up.
constexpr int kMaxLookups = 4;

// What a look-up and the one who waits for it share. The system's look-up cannot be cancelled, so
// it has a thread of its own that may outlast the wait.
struct Lookup {
  Mutex mutex;
  CondVar changed;
  std::optional<Endpoints> found ABSL_GUARDED_BY(mutex);
  std::string error ABSL_GUARDED_BY(mutex);
};

std::atomic<int>& RunningLookups() {
  static std::atomic<int> running = 0;
  return running;
}

void Resolve(const std::shared_ptr<Lookup>& lookup, const std::string& host, int port) {
  asio::io_context io;
  error_code error;
  Endpoints found;
  for (const auto& entry : tcp::resolver(io).resolve(host, std::to_string(port), error)) {
    found.push_back(entry.endpoint());
  }
  --RunningLookups();
  const MutexLock lock(lookup->mutex);
  lookup->error = error.message();
  lookup->found = std::move(found);
  lookup->changed.NotifyAll();
}

bool MayBeRepeated(unsigned status) {
  return status == 429 || status == 502 || status == 503 || status == 504;
}

}  // namespace

struct OtlpClient::State {
  OtlpEndpoint endpoint;
  std::optional<ssl::context> tls;
  // Steady time in its own ticks; far away until Hurry.
  std::atomic<TimePoint::rep> hurry = TimePoint::max().time_since_epoch().count();

  [[nodiscard]] TimePoint End(TimePoint deadline) const {
    return std::min(deadline, TimePoint(TimePoint::duration(hurry.load())));
  }
  absl::StatusOr<Endpoints> Find(TimePoint deadline) const;
  [[nodiscard]] absl::Status Unreachable(const std::string& why) const {
    return absl::UnavailableError(
        absl::StrFormat("collector %s:%d: %s", endpoint.host, endpoint.port, why));
  }
};

absl::StatusOr<Endpoints> OtlpClient::State::Find(TimePoint deadline) const {
  error_code error;
  if (const auto address = asio::ip::make_address(endpoint.host, error); !error) {
    return Endpoints{tcp::endpoint(address, endpoint.port)};
  }
  if (++RunningLookups() > kMaxLookups) {
    --RunningLookups();
    return Unreachable("earlier look-ups of its name have not come back");
  }
  const auto lookup = std::make_shared<Lookup>();
  std::thread([lookup, host = endpoint.host, port = int{endpoint.port}] {
    Resolve(lookup, host, port);
  }).detach();
  const MutexLock lock(lookup->mutex);
  while (!lookup->found.has_value()) {
    const TimePoint now = std::chrono::steady_clock::now();
    if (now >= End(deadline)) {
      return Unreachable("the look-up of its name takes too long");
    }
    lookup->changed.WaitUntil(lookup->mutex, std::min(End(deadline), now + kSlice));
  }
  if (lookup->found->empty()) {
    return Unreachable(lookup->error);
  }
  return *lookup->found;
}

namespace {

// One request and its answer, in blocking style over asynchronous operations, so that each can be
// given up. The stream is a socket or TLS over one.
class Exchange {
 public:
  Exchange(asio::io_context& io, std::function<TimePoint()> end) : io_(io), end_(std::move(end)) {}

  // Starts an operation and runs it to its end; one that takes too long is timed_out, and its
  // socket is closed.
  template <typename Start>
  error_code Do(tcp::socket& socket, Start start) {
    std::optional<error_code> result;
    start([&result](const error_code& error, const auto&...) { result = error; });
    io_.restart();
    while (!result.has_value() && std::chrono::steady_clock::now() < end_()) {
      io_.run_one_for(kSlice);
    }
    if (result.has_value()) {
      return *result;
    }
    error_code ignored;
    socket.close(ignored);
    while (!result.has_value()) {
      io_.restart();
      io_.run_one();
    }
    return asio::error::timed_out;
  }

  template <typename Stream>
  error_code Send(Stream& stream, tcp::socket& socket,
                  const http::request<http::string_body>& request,
                  http::response_parser<http::string_body>& answer) {
    const error_code error =
        Do(socket, [&](auto done) { http::async_write(stream, request, std::move(done)); });
    if (error) {
      return error;
    }
    return Do(socket,
              [&](auto done) { http::async_read(stream, buffer_, answer, std::move(done)); });
  }

 private:
  asio::io_context& io_;
  const std::function<TimePoint()> end_;
  beast::flat_buffer buffer_{kMaxAnswerBytes};
};

http::request<http::string_body> RequestOf(const OtlpEndpoint& endpoint, const std::string& body) {
  http::request<http::string_body> request(http::verb::post, endpoint.path, 11);
  const bool v6 = endpoint.host.find(':') != std::string::npos;
  const std::string host = v6 ? absl::StrCat("[", endpoint.host, "]") : endpoint.host;
  request.set(http::field::host, absl::StrCat(host, ":", endpoint.port));
  request.set(http::field::content_type, "application/json");
  request.set(http::field::user_agent,
              absl::StrFormat("yangtuo/%s", std::string(ThisBuild().version)));
  request.keep_alive(false);
  request.body() = body;
  request.prepare_payload();
  return request;
}

}  // namespace

absl::StatusOr<std::unique_ptr<OtlpClient>> OtlpClient::Create(const OtlpEndpoint& endpoint,
                                                               const std::string& ca_file) {
  auto state = std::make_unique<State>();
  state->endpoint = endpoint;
  if (endpoint.tls) {
    state->tls.emplace(ssl::context::tls_client);
    state->tls->set_verify_mode(ssl::verify_peer);
    error_code error;
    if (ca_file.empty()) {
      state->tls->set_default_verify_paths(error);
    } else {
      state->tls->load_verify_file(ca_file, error);
    }
    if (error) {
      return absl::InvalidArgumentError(
          absl::StrFormat("--otlp-ca %s: expected a PEM file with certificates of authorities (%s)",
                          ca_file, error.message()));
    }
  }
  return std::unique_ptr<OtlpClient>(new OtlpClient(std::move(state)));
}

OtlpClient::OtlpClient(std::unique_ptr<State> state) : state_(std::move(state)) {}
OtlpClient::~OtlpClient() = default;

void OtlpClient::Hurry(TimePoint deadline) {
  state_->hurry.store(deadline.time_since_epoch().count());
}

absl::StatusOr<std::string> OtlpClient::Post(const std::string& body, TimePoint deadline) {
  const auto found = state_->Find(deadline);
  if (!found.ok()) {
    return found.status();
  }
  asio::io_context io{1};
  Exchange exchange(io, [this, deadline] { return state_->End(deadline); });
  const auto request = RequestOf(state_->endpoint, body);
  http::response_parser<http::string_body> answer;
  answer.body_limit(kMaxAnswerBytes);
  error_code error;
  const auto connect = [&](tcp::socket& socket) {
    return exchange.Do(socket,
                       [&](auto done) { asio::async_connect(socket, *found, std::move(done)); });
  };
  if (state_->tls.has_value()) {
    ssl::stream<tcp::socket> stream(io, *state_->tls);
    stream.set_verify_callback(ssl::host_name_verification(state_->endpoint.host));
    SSL_set_tlsext_host_name(stream.native_handle(), state_->endpoint.host.c_str());
    tcp::socket& socket = stream.next_layer();
    error = connect(socket);
    if (!error) {
      error = exchange.Do(socket, [&](auto done) {
        stream.async_handshake(ssl::stream_base::client, std::move(done));
      });
    }
    if (!error) {
      error = exchange.Send(stream, socket, request, answer);
    }
  } else {
    tcp::socket socket(io);
    error = connect(socket);
    if (!error) {
      error = exchange.Send(socket, socket, request, answer);
    }
  }
  if (error) {
    return state_->Unreachable(error.message());
  }
  const unsigned status = answer.get().result_int();
  if (status / 100 == 2) {
    return answer.get().body();
  }
  const std::string refused = absl::StrFormat("collector %s:%d answers %d", state_->endpoint.host,
                                              state_->endpoint.port, status);
  return MayBeRepeated(status) ? absl::UnavailableError(refused)
                               : absl::FailedPreconditionError(refused);
}

}  // namespace yangtuo
