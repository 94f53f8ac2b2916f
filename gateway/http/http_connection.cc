#include "gateway/http/http_connection.h"

#include <array>
#include <optional>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_format.h"
#include "boost/asio/post.hpp"
#include "boost/asio/ssl/stream.hpp"
#include "boost/asio/steady_timer.hpp"
#include "boost/asio/write.hpp"
#include "boost/beast/core/flat_buffer.hpp"
#include "boost/beast/http/parser.hpp"
#include "boost/beast/http/string_body.hpp"
#include "gateway/http/http_head.h"
#include "services/common/request_context.h"

namespace yangtuo::gateway {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;
using boost::system::error_code;
using tcp = asio::ip::tcp;
using TlsStream = asio::ssl::stream<tcp::socket>;

constexpr std::size_t kReadBytes = 8192;
// Read ahead of the request that is being answered; more stays in the kernel.
constexpr std::size_t kReadAhead = 65536;
constexpr Duration kLinger = std::chrono::seconds(3);

int StatusOfBadRequest(const error_code& error) {
  if (error == http::error::header_limit || error == http::error::buffer_overflow) {
    return 431;
  }
  return error == http::error::body_limit ? 413 : 400;
}

std::string WhyBadRequest(const error_code& error, const HttpLimits& limits) {
  switch (StatusOfBadRequest(error)) {
    case 413:
      return absl::StrFormat("the body has more than %d bytes, the most that this server takes",
                             limits.body_bytes);
    case 431:
      return absl::StrFormat("the header has more than %d bytes, the most that this server takes",
                             limits.header_bytes);
    default:
      return "not an HTTP request: " + error.message();
  }
}

// Reads all the time, so that a client that leaves is noticed; writes whenever the exchange has
// something; one timer that always knows what it waits for. Everything runs on the socket's strand.
template <typename Stream>
class Connection final : public HttpConnection,
                         public std::enable_shared_from_this<Connection<Stream>> {
 public:
  static constexpr bool kTls = std::is_same_v<Stream, TlsStream>;

  template <typename... Args>
  Connection(const HttpConnectionRules& rules, std::function<void(HttpConnection*)> on_end,
             Args&&... args)
      : rules_(rules),
        on_end_(std::move(on_end)),
        stream_(std::forward<Args>(args)...),
        timer_(stream_.get_executor()) {}

  void Start() override {
    Post([](Connection& self) {
      error_code ignored;
      self.stream_.lowest_layer().set_option(tcp::no_delay(true), ignored);
      if constexpr (kTls) {
        self.Arm(self.rules_.limits.header_time);
        self.stream_.async_handshake(asio::ssl::stream_base::server,
                                     [self = self.shared_from_this()](error_code error) {
                                       error ? self->Finish() : self->AwaitRequest();
                                     });
      } else {
        self.AwaitRequest();
      }
    });
  }

  void EndWhenIdle() override {
    Post([](Connection& self) {
      if (self.exchange_ == nullptr && !self.writing_ && !self.in_request_) {
        self.Finish();
      }
    });
  }

  void Close() override {
    Post([](Connection& self) { self.Finish(); });
  }

 private:
  template <typename Act>
  void Post(Act act) {
    asio::post(stream_.get_executor(),
               [self = this->shared_from_this(), act = std::move(act)] { act(*self); });
  }

  // --- time
  void Arm(Duration limit) {
    timer_.expires_after(limit);
    timer_.async_wait([weak = this->weak_from_this()](error_code error) {
      const auto self = weak.lock();
      if (self != nullptr && !error && self->timer_.expiry() <= std::chrono::steady_clock::now()) {
        self->OnTimeout();
      }
    });
  }
  void Disarm() { timer_.expires_at(asio::steady_timer::time_point::max()); }

  void OnTimeout() {
    if (in_request_ && exchange_ == nullptr && !writing_ && !lingering_) {
      Refuse(408, "the request did not arrive in time");
    } else {
      Finish();
    }
  }

  // --- requests
  void AwaitRequest() {
    in_request_ = false;
    parser_.emplace();
    parser_->eager(true);
    parser_->header_limit(static_cast<std::uint32_t>(rules_.limits.header_bytes));
    parser_->body_limit(rules_.limits.body_bytes);
    head_.reset();
    Arm(rules_.limits.idle);
    Parse();
  }

  void Read() {
    if (reading_ || finished_ || buffer_.size() >= kReadAhead) {
      return;
    }
    reading_ = true;
    stream_.async_read_some(asio::buffer(read_bytes_), [self = this->shared_from_this()](
                                                           error_code error, std::size_t bytes) {
      self->reading_ = false;
      if (error) {
        self->Finish();
        return;
      }
      if (self->lingering_) {
        self->Read();
        return;
      }
      self->buffer_.commit(
          asio::buffer_copy(self->buffer_.prepare(bytes), asio::buffer(self->read_bytes_, bytes)));
      self->exchange_ == nullptr && !self->writing_ ? self->Parse() : self->Read();
    });
  }

  void Parse() {
    if (finished_ || buffer_.size() == 0) {
      Read();
      return;
    }
    if (!in_request_) {
      in_request_ = true;
      Arm(rules_.limits.header_time);
    }
    error_code error;
    // One call takes the head and what there is of the body; chunks come one by one.
    while (!error && !parser_->is_done() && buffer_.size() > 0) {
      buffer_.consume(parser_->put(buffer_.data(), error));
    }
    if (error == http::error::need_more) {
      error = {};
    }
    const bool first_look = !head_.has_value() && parser_->is_header_done();
    if (first_look && !TakeHead()) {
      return;
    }
    if (error) {
      Refuse(StatusOfBadRequest(error), WhyBadRequest(error, rules_.limits));
    } else if (parser_->is_done()) {
      Handle();
    } else if (!parser_->is_header_done()) {
      Read();
    } else {
      AwaitBody(first_look);
    }
  }

  // False: refused.
  bool TakeHead() {
    http11_ = parser_->get().version() >= 11;
    keep_alive_ = parser_->get().keep_alive() && !rules_.draining();
    auto head = ToHttpRequest(parser_->get().base());
    if (!head.ok()) {
      Refuse(absl::IsUnimplemented(head.status()) ? 501 : 400,
             std::string(head.status().message()));
      return false;
    }
    head_ = *std::move(head);
    head_only_ = head_->method == "HEAD";
    request_id_ = head_->request_id;
    allowed_origin_ = AllowedOrigin(rules_.cors_origins, head_->Header("origin"));
    return true;
  }

  void AwaitBody(bool first_look) {
    if (first_look) {
      auto refused = rules_.handler.admit ? rules_.handler.admit(*head_) : std::nullopt;
      if (refused.has_value()) {
        Refuse(*std::move(refused));
        return;
      }
      Arm(rules_.limits.body_time);
    }
    if (!HoldBody()) {
      Refuse(503, "this server reads too many large requests at this moment: try again later");
    } else if (first_look && beast::iequals(parser_->get()[http::field::expect], "100-continue")) {
      Write("HTTP/1.1 100 Continue\r\n\r\n", AfterWrite::kReadOn);
    } else {
      Read();
    }
  }

  // Counts what there is of the body among those of all connections. False: there is no room.
  bool HoldBody() {
    const std::size_t bytes = parser_->get().body().size();
    const std::size_t more = bytes - held_bytes_;
    held_bytes_ = bytes;
    return rules_.body_bytes.fetch_add(more) + more <= rules_.limits.all_body_bytes;
  }

  void ReleaseBody() { rules_.body_bytes -= std::exchange(held_bytes_, 0); }

  void Handle() {
    Disarm();
    HttpRequest request = std::move(*head_);
    request.body = std::move(parser_->get().body());
    exchange_ = std::make_shared<HttpExchange>([weak = this->weak_from_this()] {
      if (const auto self = weak.lock(); self != nullptr) {
        asio::post(self->stream_.get_executor(), [self] { self->Pump(); });
      }
    });
    rules_.running(1);
    Read();
    if (IsPreflight(request) && !rules_.cors_origins.empty()) {
      exchange_->Respond(PreflightAnswer(request));
    } else {
      rules_.handler.handle(std::move(request), exchange_);
    }
    ReleaseBody();
  }

  // --- answers
  void Pump() {
    if (writing_ || finished_ || exchange_ == nullptr) {
      return;
    }
    HttpExchange::Outgoing out = exchange_->Take();
    std::string bytes;
    if (out.head.has_value()) {
      in_pieces_ = out.in_pieces;
      keep_alive_ = keep_alive_ && (!in_pieces_ || http11_) && !rules_.draining();
      bytes = WriteHead({.response = *out.head,
                         .length = !in_pieces_ ? BodyLength::kKnown
                                   : http11_   ? BodyLength::kChunked
                                               : BodyLength::kUntilClose,
                         .keep_alive = keep_alive_,
                         .request_id = request_id_,
                         .allowed_origin = allowed_origin_,
                         .varies_by_origin = !rules_.cors_origins.empty()});
      bytes += head_only_ ? "" : out.head->body;
    }
    if (in_pieces_ && !head_only_) {
      AddPiece(out, bytes);
    }
    if (!bytes.empty() || out.ended) {
      Write(std::move(bytes), out.ended ? AfterWrite::kAnswerEnded : AfterWrite::kMore);
    }
  }

  void AddPiece(const HttpExchange::Outgoing& out, std::string& bytes) const {
    if (!http11_) {
      bytes += out.bytes;
      return;
    }
    if (!out.bytes.empty()) {
      absl::StrAppendFormat(&bytes, "%x\r\n%s\r\n", out.bytes.size(), out.bytes);
    }
    if (out.ended) {
      bytes += "0\r\n\r\n";
    }
  }

  // A request that cannot be taken: its answer, and the end of the connection.
  void Refuse(int status, const std::string& message) {
    Refuse(rules_.handler.refuse(status, message));
  }
  void Refuse(HttpResponse response) {
    ReleaseBody();
    keep_alive_ = false;
    if (!head_.has_value()) {  // what is known is of the request before
      request_id_ = NewRequestId();
      allowed_origin_.clear();
    }
    if (response.status == 503) {
      response.headers.emplace_back("Retry-After", "1");
    }
    Write(WriteHead({.response = response,
                     .keep_alive = false,
                     .request_id = request_id_,
                     .allowed_origin = allowed_origin_,
                     .varies_by_origin = !rules_.cors_origins.empty()}) +
              response.body,
          AfterWrite::kAnswerEnded);
  }

  enum class AfterWrite { kMore, kAnswerEnded, kReadOn };

  void Write(std::string bytes, AfterWrite after) {
    writing_ = true;
    out_ = std::move(bytes);
    out_at_ = 0;
    if (after != AfterWrite::kReadOn) {
      Arm(rules_.limits.write_time);
    }
    WriteSome(after);
  }

  // Piece by piece, so that a slow client is told from one that takes nothing.
  void WriteSome(AfterWrite after) {
    stream_.async_write_some(
        asio::buffer(out_.data() + out_at_, out_.size() - out_at_),
        [self = this->shared_from_this(), after](error_code error, std::size_t bytes) {
          self->out_at_ += bytes;
          if (error || self->finished_) {
            self->writing_ = false;
            self->Finish();
          } else if (self->out_at_ < self->out_.size()) {
            if (after != AfterWrite::kReadOn) {
              self->Arm(self->rules_.limits.write_time);
            }
            self->WriteSome(after);
          } else {
            self->OnWritten(after);
          }
        });
  }

  void OnWritten(AfterWrite after) {
    writing_ = false;
    switch (after) {
      case AfterWrite::kReadOn:
        Parse();
        break;
      case AfterWrite::kMore:
        Disarm();
        Pump();
        break;
      case AfterWrite::kAnswerEnded:
        EndExchange();
        if (keep_alive_ && !rules_.draining()) {
          AwaitRequest();
        } else {
          Linger();
        }
        break;
    }
  }

  void EndExchange() {
    if (const auto ended = std::exchange(exchange_, nullptr); ended != nullptr) {
      ended->Detach();
      rules_.running(-1);
    }
  }

  // Reads what the client still sends: closing before that would reset the connection, and the
  // client could lose the answer.
  void Linger() {
    lingering_ = true;
    buffer_.consume(buffer_.size());
    Arm(kLinger);
    if constexpr (kTls) {
      stream_.async_shutdown(
          [self = this->shared_from_this()](error_code /*error*/) { self->Finish(); });
    } else {
      error_code ignored;
      stream_.shutdown(tcp::socket::shutdown_send, ignored);
      Read();
    }
  }

  void Finish() {
    if (std::exchange(finished_, true)) {
      return;
    }
    error_code ignored;
    stream_.lowest_layer().close(ignored);
    timer_.cancel();
    ReleaseBody();
    EndExchange();
    on_end_(this);
  }

  const HttpConnectionRules& rules_;
  const std::function<void(HttpConnection*)> on_end_;
  Stream stream_;
  asio::steady_timer timer_;
  // Of the pending read; what was read before it may be consumed meanwhile, so not in buffer_.
  std::array<char, kReadBytes> read_bytes_{};
  beast::flat_buffer buffer_;
  std::optional<http::request_parser<http::string_body>> parser_;
  bool in_request_ = false;          // its first byte is here
  std::optional<HttpRequest> head_;  // once it is complete
  std::size_t held_bytes_ = 0;       // of its body, in rules_.body_bytes
  bool reading_ = false;
  bool writing_ = false;
  bool lingering_ = false;
  bool finished_ = false;

  // The request that is being answered.
  std::shared_ptr<HttpExchange> exchange_;
  std::string request_id_;
  std::string allowed_origin_;
  bool http11_ = true;
  bool keep_alive_ = true;
  bool head_only_ = false;
  bool in_pieces_ = false;
  std::string out_;  // being written
  std::size_t out_at_ = 0;
};

}  // namespace

std::shared_ptr<HttpConnection> MakeHttpConnection(tcp::socket socket, asio::ssl::context* tls,
                                                   const HttpConnectionRules& rules,
                                                   std::function<void(HttpConnection*)> on_end) {
  if (tls == nullptr) {
    return std::make_shared<Connection<tcp::socket>>(rules, std::move(on_end), std::move(socket));
  }
  return std::make_shared<Connection<TlsStream>>(rules, std::move(on_end), std::move(socket), *tls);
}

}  // namespace yangtuo::gateway
