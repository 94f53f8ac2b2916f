#include <algorithm>
#include <atomic>
#include <thread>
#include <utility>

#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "boost/asio/io_context.hpp"
#include "boost/asio/ip/tcp.hpp"
#include "boost/asio/post.hpp"
#include "boost/beast/core/flat_buffer.hpp"
#include "boost/beast/http/read.hpp"
#include "boost/beast/http/string_body.hpp"
#include "boost/beast/http/write.hpp"
#include "inference_core/base/mutex.h"
#include "nlohmann/json.hpp"
#include "tools/bench_gateway/load_clients.h"

namespace yangtuo::bench_gateway {
namespace {

namespace asio = boost::asio;
namespace http = boost::beast::http;
using asio::ip::tcp;
using boost::system::error_code;

constexpr std::string_view kData = "data: ";

struct Shared {
  std::atomic<std::uint64_t> tokens = 0;
  Mutex mutex;
  CondVar ended;
  std::size_t open ABSL_GUARDED_BY(mutex) = 0;
  std::size_t over ABSL_GUARDED_BY(mutex) = 0;  // of all, with bad clients
};

// One client's connection. Its reactions are one chain on the context's one thread.
class SseStream {
 public:
  enum class Manner { kReads, kStopsReading, kCloses };

  SseStream(const LoadClients::Options& options, std::size_t index, Manner manner,
            asio::io_context& context, Shared& shared)
      : options_(options), index_(index), manner_(manner), socket_(context), shared_(shared) {
    const nlohmann::json body = {
        {"model", options.model}, {"prompt", nlohmann::json::array({1})},
        {"seed", index},          {"max_tokens", options.plan->num_tokens()},
        {"ignore_eos", true},     {"stream", true}};
    request_.method(http::verb::post);
    request_.target("/v1/completions");
    request_.version(11);
    request_.set(http::field::host, options.gateway);
    request_.set(http::field::content_type, "application/json");
    request_.body() = body.dump();
    request_.prepare_payload();
    parser_.body_limit(boost::none);
    const std::size_t tokens = options.plan->num_tokens();
    delays_.reserve(tokens - std::min(options.first_measured, tokens));
  }

  void Begin(const tcp::endpoint& gateway) {
    socket_.async_connect(gateway, [this](error_code error) {
      if (error) {
        End(error.message());
        return;
      }
      http::async_write(socket_, request_, [this](error_code written, std::size_t /*bytes*/) {
        if (written) {
          End(written.message());
          return;
        }
        Read();
      });
    });
  }

  // On the context's thread.
  void Close() {
    error_code ignored;
    socket_.close(ignored);
  }

  // After the end.
  void AddTo(LoadReport& report) const {
    if (manner_ != Manner::kReads) {
      return;
    }
    const std::size_t planned = options_.plan->num_tokens();
    const bool complete = done_ && next_ == planned && wrong_ == 0;
    ++(complete ? report.streams_ok : report.streams_failed);
    if (!complete && report.first_error.empty()) {
      report.first_error = absl::StrFormat("stream %d: %d of %d tokens, %d wrong: %s", index_,
                                           next_, planned, wrong_, error_);
    }
    report.tokens += next_ - wrong_;
    report.tokens_wrong += wrong_;
    report.delays.insert(report.delays.end(), delays_.begin(), delays_.end());
  }

 private:
  void Read() {
    http::async_read_some(socket_, buffer_, parser_,
                          [this](error_code error, std::size_t /*bytes*/) { OnRead(error); });
  }

  void OnRead(error_code error) {
    if (error && error != http::error::end_of_stream) {
      End(error.message());
      return;
    }
    if (parser_.is_header_done()) {
      TakeEvents();
    }
    if (parser_.is_done() || error) {
      const int status = static_cast<int>(parser_.get().result_int());
      End(status == 200 ? error_ : absl::StrFormat("HTTP %d: %s", status, unread_.substr(0, 200)));
      return;
    }
    if (begun_ && manner_ == Manner::kCloses) {
      End("closed by itself");
      return;
    }
    if (begun_ && manner_ == Manner::kStopsReading) {
      return;  // and keeps its connection
    }
    Read();
  }

  void TakeEvents() {
    unread_ += parser_.get().body();
    parser_.get().body().clear();
    const std::int64_t now = NowNanoseconds();
    std::size_t begin = 0;
    for (std::size_t end = unread_.find('\n'); end != std::string::npos;
         end = unread_.find('\n', begin)) {
      OnLine(std::string_view(unread_).substr(begin, end - begin), now);
      begin = end + 1;
    }
    unread_.erase(0, begin);
  }

  void OnLine(std::string_view line, std::int64_t now) {
    if (line.substr(0, kData.size()) != kData) {
      return;
    }
    line.remove_prefix(kData.size());
    begun_ = true;
    if (line == "[DONE]") {
      done_ = true;
      return;
    }
    const nlohmann::json event = nlohmann::json::parse(line, nullptr, false);
    if (!event.is_object() || event.contains("error") || !event.contains("choices")) {
      error_ = std::string(line.substr(0, 300));
      return;
    }
    for (const nlohmann::json& choice : event["choices"]) {
      text_ += choice.value("text", "");
    }
    Compare(now);
  }

  // Takes whole tokens from the text's beginning.
  void Compare(std::int64_t now) {
    const TokenPlan& plan = *options_.plan;
    std::size_t at = 0;
    while (at < text_.size()) {
      if (next_ >= plan.num_tokens()) {
        ++wrong_;  // more than was sent
        at = text_.size();
        break;
      }
      const std::string& expected = options_.texts.at(plan.Token(index_, next_));
      const std::size_t bytes = std::min(expected.size(), text_.size() - at);
      if (text_.compare(at, bytes, expected, 0, bytes) != 0) {
        ++wrong_;
      } else if (bytes < expected.size()) {
        break;  // the rest comes
      } else if (next_ >= options_.first_measured) {
        delays_.push_back(static_cast<float>(now - plan.SentAt(index_, next_)) * 1e-9F);
      }
      at += bytes;
      ++next_;
      shared_.tokens += manner_ == Manner::kReads ? 1U : 0U;
    }
    text_.erase(0, at);
  }

  void End(std::string error) {
    error_ = std::move(error);
    Close();
    const MutexLock lock(shared_.mutex);
    ++shared_.over;
    if (manner_ == Manner::kReads && --shared_.open == 0) {
      shared_.ended.NotifyAll();
    }
  }

  const LoadClients::Options& options_;
  const std::size_t index_;
  const Manner manner_;
  tcp::socket socket_;
  Shared& shared_;
  http::request<http::string_body> request_;
  boost::beast::flat_buffer buffer_;
  http::response_parser<http::string_body> parser_;
  std::string unread_;  // bytes of a line that is not complete
  std::string text_;    // bytes of a token that is not complete
  std::string error_;
  bool begun_ = false;
  bool done_ = false;
  std::size_t next_ = 0;
  std::uint64_t wrong_ = 0;
  std::vector<float> delays_;
};

tcp::endpoint EndpointOf(const std::string& address) {
  const std::pair<std::string, std::string> parts = absl::StrSplit(address, ':');
  return {asio::ip::make_address(parts.first),
          static_cast<std::uint16_t>(std::strtoul(parts.second.c_str(), nullptr, 10))};
}

class SseClients final : public LoadClients {
 public:
  explicit SseClients(const Options& options) : options_(options) {
    const std::size_t count = options.plan->num_streams();
    const std::size_t good = count - std::min(count, options.bad_clients);
    {
      const MutexLock lock(shared_.mutex);
      shared_.open = good;
    }
    const tcp::endpoint gateway = EndpointOf(options.gateway);
    for (std::size_t i = 0; i < count; ++i) {
      const SseStream::Manner manner = i < good              ? SseStream::Manner::kReads
                                       : (i - good) % 2 == 0 ? SseStream::Manner::kStopsReading
                                                             : SseStream::Manner::kCloses;
      streams_.push_back(std::make_unique<SseStream>(options_, i, manner, context_, shared_));
      streams_.back()->Begin(gateway);
    }
    thread_ = std::thread([this] { context_.run(); });
  }

  ~SseClients() override { Stop(); }

  [[nodiscard]] std::size_t ended() const override {
    const MutexLock lock(shared_.mutex);
    return shared_.over;
  }
  [[nodiscard]] std::uint64_t tokens_received() const override { return shared_.tokens; }

  LoadReport Finish(Duration limit) override {
    const TimePoint end = std::chrono::steady_clock::now() + limit;
    {
      const MutexLock lock(shared_.mutex);
      while (shared_.open > 0 && std::chrono::steady_clock::now() < end) {
        shared_.ended.WaitUntil(shared_.mutex, end);
      }
    }
    Stop();
    LoadReport report;
    for (const auto& stream : streams_) {
      stream->AddTo(report);
    }
    return report;
  }

 private:
  void Stop() {
    if (!thread_.joinable()) {
      return;
    }
    asio::post(context_, [this] {
      for (const auto& stream : streams_) {
        stream->Close();
      }
    });
    thread_.join();  // the reactions to the closed sockets are its last work
  }

  const Options options_;
  mutable Shared shared_;
  asio::io_context context_;
  std::vector<std::unique_ptr<SseStream>> streams_;
  std::thread thread_;
};

}  // namespace

std::unique_ptr<LoadClients> LoadClients::StartSse(const Options& options) {
  return std::make_unique<SseClients>(options);
}

}  // namespace yangtuo::bench_gateway
