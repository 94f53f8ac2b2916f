#include "gateway/worker.h"

#include <atomic>
#include <utility>
#include <vector>

#include "services/common/channel.h"
#include "services/common/log.h"
#include "services/common/status.h"

namespace yangtuo::gateway {
namespace {

// Between two attempts to open the watch of a worker that is gone.
constexpr Duration kWatchRetry = std::chrono::milliseconds(250);
// Tokens of one stream that make one measurement of pace: several, so that some which happened to
// arrive together do not look like speed.
constexpr std::uint64_t kTokensOfPace = 16;

std::uint64_t NewLife() {
  static std::atomic<std::uint64_t> last = 0;
  return ++last;
}

}  // namespace

// Reads one WatchStatus stream. Owns itself until OnDone.
class Worker::Watch final : public grpc::ClientReadReactor<internal::v1::WatchStatusResponse> {
 public:
  explicit Watch(std::shared_ptr<Worker> worker)
      : worker_(std::move(worker)),
        call_(worker_->EnterCall()),
        context_(std::make_shared<grpc::ClientContext>()) {}

  [[nodiscard]] std::shared_ptr<grpc::ClientContext> context() const { return context_; }

  void Begin() {
    worker_->stub().WatchStatus(context_.get(), &request_, this);
    StartRead(&response_);
    StartCall();
  }

 private:
  void OnReadDone(bool ok) override {
    if (ok) {
      worker_->OnStatus(response_.status());
      StartRead(&response_);
    }
  }

  void OnDone(const grpc::Status& status) override {
    worker_->OnWatchEnd(status);
    delete this;
  }

  const std::shared_ptr<Worker> worker_;
  const LiveCalls::Token call_;
  const std::shared_ptr<grpc::ClientContext> context_;
  internal::v1::WatchStatusRequest request_;
  internal::v1::WatchStatusResponse response_;
};

absl::StatusOr<std::shared_ptr<Worker>> Worker::Connect(const PeerAddress& address,
                                                        const ClientTls& tls, LiveCalls& calls,
                                                        const CircuitBreaker::Limits& breaker) {
  ClientTls peer_tls = tls;
  if (peer_tls.server_name.empty()) {
    peer_tls.server_name = address.dns_name;
  }
  auto channel = CreateChannel(address.target, peer_tls);
  if (!channel.ok()) {
    return channel.status();
  }
  return std::shared_ptr<Worker>(new Worker(address.target, *std::move(channel), calls, breaker));
}

Worker::Worker(std::string address, std::shared_ptr<grpc::Channel> channel, LiveCalls& calls,
               const CircuitBreaker::Limits& breaker)
    : address_(std::move(address)),
      channel_(std::move(channel)),
      stub_(internal::v1::InferenceService::NewStub(channel_)),
      calls_(calls),
      life_(NewLife()),
      breaker_(breaker) {}

void Worker::Tick(TimePoint now) {
  std::shared_ptr<grpc::ClientContext> silent;
  Watch* begin = nullptr;
  {
    const MutexLock lock(mutex_);
    if (watch_ == nullptr && !closed_ && now >= retry_at_) {
      begin = new Watch(shared_from_this());
      watch_ = begin->context();
      last_report_ = now;  // silence is counted from the attempt
    } else if (watch_ != nullptr && now - last_report_ > kSilenceLimit) {
      silent = watch_;
      up_ = false;
    }
  }
  if (begin != nullptr) {
    begin->Begin();
  }
  if (silent != nullptr) {
    silent->TryCancel();
    AbortStreams("it stopped reporting");
  }
}

void Worker::Close() {
  std::shared_ptr<grpc::ClientContext> watch;
  {
    const MutexLock lock(mutex_);
    closed_ = true;
    watch = watch_;
  }
  if (watch != nullptr) {
    watch->TryCancel();
  }
}

void Worker::OnStatus(const internal::v1::WorkerStatus& status) {
  auto copy = std::make_shared<const internal::v1::WorkerStatus>(status);
  bool connected = false;
  {
    const MutexLock lock(mutex_);
    connected = !up_;
    up_ = true;
    if (connected) {
      life_ = NewLife();
      breaker_.OnSuccess();  // what failed is gone
    }
    last_report_ = std::chrono::steady_clock::now();
    if (status.ready() || status.draining()) {
      incomplete_since_.reset();
    } else if (!incomplete_since_.has_value()) {
      incomplete_since_ = last_report_;
    }
    status_ = std::move(copy);
    ++reports_;
    started_since_ = 0;
    prompt_tokens_since_ = 0;
  }
  if (connected) {
    Log(LogLevel::kInfo, "worker connected",
        {{"worker", address_}, {"model", status.model()}, {"ready", status.ready()}});
  }
}

void Worker::OnWatchEnd(const grpc::Status& status) {
  bool lost = false;
  {
    const MutexLock lock(mutex_);
    lost = up_ && !closed_;
    up_ = false;
    watch_ = nullptr;
    retry_at_ = std::chrono::steady_clock::now() + kWatchRetry;
  }
  if (lost) {
    Log(LogLevel::kWarning, "worker lost",
        {{"worker", address_}, {"error", std::string(status.error_message())}});
  }
}

void Worker::AbortStreams(const std::string& why) {
  std::vector<std::function<void()>> aborts;
  {
    const MutexLock lock(mutex_);
    for (const auto& [number, stream] : streams_) {
      aborts.push_back(stream.abort);
    }
  }
  if (!aborts.empty()) {
    Log(LogLevel::kWarning, "worker lost",
        {{"worker", address_},
         {"error", why},
         {"streams", static_cast<std::int64_t>(aborts.size())}});
  }
  for (const std::function<void()>& abort : aborts) {
    abort();
  }
}

std::shared_ptr<const internal::v1::WorkerStatus> Worker::status() const {
  const MutexLock lock(mutex_);
  return status_;
}

bool Worker::up() const {
  const MutexLock lock(mutex_);
  return up_;
}

bool Worker::ready() const {
  const MutexLock lock(mutex_);
  return up_ && !closed_ && status_ != nullptr && status_->ready() && !status_->draining() &&
         status_->shard_index() == 0;
}

GroupLoad Worker::load() const {
  const MutexLock lock(mutex_);
  GroupLoad load;
  if (status_ != nullptr) {
    const internal::v1::WorkerLoad& reported = status_->load();
    load = {.running = reported.running(),
            .waiting = reported.waiting(),
            .kv_blocks_total = reported.kv_blocks_total(),
            .kv_blocks_free = reported.kv_blocks_free()};
  }
  load.started_since = started_since_;
  load.own_open = static_cast<std::uint32_t>(streams_.size());
  load.pending_prompt_tokens = PendingPromptTokens();
  return load;
}

std::uint64_t Worker::PendingPromptTokens() const {
  const std::uint64_t reported =
      status_ != nullptr ? status_->load().pending_prompt_tokens() : std::uint64_t{0};
  return reported + prompt_tokens_since_;
}

std::uint64_t Worker::life() const {
  const MutexLock lock(mutex_);
  return life_;
}

std::optional<TimePoint> Worker::kept_away_until(TimePoint now) const {
  const MutexLock lock(mutex_);
  return breaker_.Allows(now) ? std::nullopt : std::optional<TimePoint>(breaker_.retry_at());
}

std::optional<Duration> Worker::LeastTime(TimePoint now, std::uint64_t prompt_tokens,
                                          std::uint64_t tokens) const {
  const MutexLock lock(mutex_);
  return pace_.LeastTime(now, PendingPromptTokens() + prompt_tokens, tokens);
}

std::uint32_t Worker::open_streams() const {
  const MutexLock lock(mutex_);
  return static_cast<std::uint32_t>(streams_.size());
}

bool Worker::holds_up_streams(TimePoint now) const {
  const MutexLock lock(mutex_);
  return up_ && !streams_.empty() && incomplete_since_.has_value() &&
         now - *incomplete_since_ > kIncompleteLimit;
}

std::uint64_t Worker::StreamStarted(std::uint64_t prompt_tokens, std::function<void()> abort) {
  const MutexLock lock(mutex_);
  ++started_since_;
  prompt_tokens_since_ += prompt_tokens;
  streams_.emplace(
      next_stream_,
      OpenStream{.abort = std::move(abort), .reports = reports_, .prompt_tokens = prompt_tokens});
  return next_stream_++;
}

void Worker::StreamEnded(std::uint64_t stream) {
  std::function<void()> dropped;  // destroyed after the lock is free
  const MutexLock lock(mutex_);
  if (const auto found = streams_.find(stream); found != streams_.end()) {
    if (found->second.reports == reports_) {
      --started_since_;
      prompt_tokens_since_ -= found->second.prompt_tokens;
    }
    dropped = std::move(found->second.abort);
    streams_.erase(found);
  }
}

WorkerLease::~WorkerLease() {
  if (worker_ != nullptr && stream_.has_value()) {
    worker_->StreamEnded(*stream_);
  }
}

void WorkerLease::Start(std::function<void()> abort) {
  since_ = std::chrono::steady_clock::now();
  {
    const MutexLock lock(worker_->mutex_);
    tokens_before_ = worker_->PendingPromptTokens() + prompt_tokens_;
    worker_->breaker_.OnStart(since_);
  }
  stream_ = worker_->StreamStarted(prompt_tokens_, std::move(abort));
}

void WorkerLease::OnTokens(std::uint64_t tokens) {
  const TimePoint now = std::chrono::steady_clock::now();
  if (!measured_.has_value()) {
    const MutexLock lock(worker_->mutex_);
    worker_->breaker_.OnAnswer();
    worker_->pace_.AddPrompt(now, now - since_, tokens_before_);
    since_ = now;
    measured_ = 0;
    return;
  }
  *measured_ += tokens;
  if (*measured_ >= kTokensOfPace) {
    const MutexLock lock(worker_->mutex_);
    worker_->pace_.AddTokens(now, now - since_, *measured_);
    since_ = now;
    measured_ = 0;
  }
}

void WorkerLease::OnEnd(const absl::Status& status) {
  // Of the worker, not of the request or of a queue that is full.
  const bool failure = status.code() == absl::StatusCode::kUnavailable ||
                       status.code() == absl::StatusCode::kInternal ||
                       status.code() == absl::StatusCode::kUnknown ||
                       status.code() == absl::StatusCode::kDataLoss;
  const TimePoint now = std::chrono::steady_clock::now();
  bool opened = false;
  {
    const MutexLock lock(worker_->mutex_);
    if (status.ok()) {
      worker_->breaker_.OnSuccess();
    } else if (failure) {
      opened = worker_->breaker_.OnFailure(now);
    }
  }
  if (opened) {
    Log(LogLevel::kWarning, "worker fails its streams, others are preferred",
        {{"worker", worker_->address_}});
  }
}

}  // namespace yangtuo::gateway
