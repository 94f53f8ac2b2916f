#include "gateway/tokenizer_pool.h"

#include <algorithm>
#include <set>
#include <utility>

#include "absl/strings/str_format.h"
#include "services/common/log.h"
#include "services/common/status.h"

namespace yangtuo::gateway {
namespace {

constexpr int kMaxAttempts = 3;
// A stream that breaks every call it is put on must not go round for ever.
constexpr int kMaxMoves = 6;
constexpr Duration kRetryAfter = std::chrono::seconds(2);
// How long one replica is waited for while another can be asked.
constexpr std::chrono::seconds kPatience(3);

absl::Status NoTokenizer(const std::string& what) {
  return WithRetryAfter(
      WithReason(absl::UnavailableError(absl::StrFormat(
                     "no tokenizer replica that is up can serve %s: check --tokenizers and the "
                     "tokenizers' logs, or try again later",
                     what)),
                 "NO_TOKENIZER"),
      kRetryAfter);
}

bool ReplicaGone(const grpc::Status& status) {
  return status.error_code() == grpc::StatusCode::UNAVAILABLE ||
         status.error_code() == grpc::StatusCode::CANCELLED;
}

}  // namespace

const std::string& TokenizerAddress(const internal::v1::TokenizerInfo& tokenizer) {
  return tokenizer.digest().empty() ? tokenizer.name() : tokenizer.digest();
}

// One logical call over several attempts. Lives as long as an attempt is open.
template <typename Request, typename Response>
class TokenizerPool::UnaryCall final
    : public PatientCall,
      public std::enable_shared_from_this<UnaryCall<Request, Response>> {
 public:
  using Method = void (internal::v1::TokenizerService::StubInterface::async_interface::*)(
      grpc::ClientContext*, const Request*, Response*, std::function<void(grpc::Status)>);

  struct Callee {
    const char* name;  // of the span
    Method method;
  };

  UnaryCall(std::shared_ptr<TokenizerPool> pool, std::shared_ptr<CallScope> scope, Callee callee,
            Request request, Callback<Response> done)
      : pool_(std::move(pool)),
        scope_(std::move(scope)),
        callee_(callee),
        deadline_(std::chrono::system_clock::now() + pool_->options_.call_limit),
        request_(std::move(request)),
        done_(std::move(done)) {}

  void Begin() {
    pool_->Watch(this->weak_from_this());
    Try();
  }

  // Which replicas there are to ask is seen anew at every tick: one that was down when this call
  // began may be back.
  void OnTick(TimePoint now) override ABSL_LOCKS_EXCLUDED(mutex_) {
    std::vector<std::string> asked;
    int attempt = 0;
    {
      const MutexLock lock(mutex_);
      if (context_ == nullptr || leaving_ || now - asked_at_ < kPatience ||
          attempts_ >= kMaxAttempts) {
        return;
      }
      asked = asked_;
      attempt = attempts_;
    }
    if (pool_->Pick(kCall, request_.tokenizer(), asked) == nullptr) {
      return;
    }
    std::shared_ptr<grpc::ClientContext> silent;
    {
      const MutexLock lock(mutex_);
      if (context_ == nullptr || attempts_ != attempt) {
        return;  // it was answered meanwhile
      }
      leaving_ = true;
      silent = context_;
    }
    silent->TryCancel();  // OnDone asks the other
  }

 private:
  void Try() ABSL_LOCKS_EXCLUDED(mutex_) {
    std::vector<std::string> asked;
    {
      const MutexLock lock(mutex_);
      asked = asked_;
    }
    const std::shared_ptr<TokenizerReplica> replica =
        pool_->Pick(kCall, request_.tokenizer(), asked);
    if (replica == nullptr) {
      done_(NoTokenizer(absl::StrFormat("\"%s\"", request_.tokenizer())));
      return;
    }
    auto context = scope_->Open({.method = callee_.name, .address = replica->address()}, deadline_);
    {
      const MutexLock lock(mutex_);
      asked_.push_back(replica->address());
      ++attempts_;
      asked_at_ = std::chrono::steady_clock::now();
      context_ = context;
    }
    response_.Clear();
    (replica->stub().*callee_.method)(
        context.get(), &request_, &response_,
        [self = this->shared_from_this(), replica, token = replica->EnterCall()](
            const grpc::Status& status) { self->OnDone(*replica, status); });
  }

  void OnDone(TokenizerReplica& replica, const grpc::Status& status) ABSL_LOCKS_EXCLUDED(mutex_) {
    std::shared_ptr<grpc::ClientContext> context;
    bool left = false;
    bool more = false;
    const bool gone = ReplicaGone(status) && !scope_->cancelled();
    {
      const MutexLock lock(mutex_);
      context = std::move(context_);
      context_ = nullptr;
      left = std::exchange(leaving_, false);
      more = attempts_ < kMaxAttempts;
      if (gone && !left) {
        asked_.pop_back();  // it may be asked again once it is up again
      }
    }
    scope_->Forget(context.get(), FromGrpc(status));
    if (status.ok()) {
      done_(std::move(response_));
      return;
    }
    if (gone) {
      if (!left) {
        replica.MarkDown(status.error_message());
      }
      if (more) {
        pool_->retries_.Add();
        Try();
      } else {
        done_(NoTokenizer(absl::StrFormat("\"%s\"", request_.tokenizer())));
      }
      return;
    }
    if (status.error_code() == grpc::StatusCode::DEADLINE_EXCEEDED && !scope_->expired()) {
      done_(absl::UnavailableError(absl::StrFormat("tokenizer %s did not answer within %.1f s",
                                                   replica.address(),
                                                   ToSeconds(pool_->options_.call_limit))));
      return;
    }
    done_(FromGrpc(status));
  }

  const std::shared_ptr<TokenizerPool> pool_;
  const std::shared_ptr<CallScope> scope_;
  const Callee callee_;
  const CallScope::Deadline deadline_;
  const Request request_;
  const Callback<Response> done_;
  Response response_;

  Mutex mutex_;
  int attempts_ ABSL_GUARDED_BY(mutex_) = 0;
  // Where it is and was not answered; those that were gone are not among them.
  std::vector<std::string> asked_ ABSL_GUARDED_BY(mutex_);
  TimePoint asked_at_ ABSL_GUARDED_BY(mutex_){};
  std::shared_ptr<grpc::ClientContext> context_ ABSL_GUARDED_BY(mutex_);  // of an open attempt
  bool leaving_ ABSL_GUARDED_BY(mutex_) = false;  // cancelled to ask another
};

std::shared_ptr<TokenizerPool> TokenizerPool::Create(Options options, LiveCalls& calls,
                                                     Counter& retries) {
  return std::shared_ptr<TokenizerPool>(new TokenizerPool(std::move(options), calls, retries));
}

void TokenizerPool::SetPeers(const std::vector<PeerAddress>& peers) {
  std::set<std::string> wanted;
  std::vector<std::shared_ptr<TokenizerReplica>> left;
  {
    const MutexLock lock(mutex_);
    for (const PeerAddress& peer : peers) {
      wanted.insert(peer.target);
      if (replicas_.contains(peer.target)) {
        continue;
      }
      auto replica = TokenizerReplica::Connect(
          peer, options_.tls, calls_,
          [pool = weak_from_this()](std::vector<std::shared_ptr<TextStream>> streams) {
            if (const auto alive = pool.lock(); alive != nullptr) {
              alive->OnDecodeLost(std::move(streams));
            }
          });
      if (!replica.ok()) {
        Log(LogLevel::kError, "tokenizer not reachable",
            {{"tokenizer", peer.target}, {"error", std::string(replica.status().message())}});
        continue;
      }
      replicas_.emplace(peer.target, *std::move(replica));
    }
    for (auto entry = replicas_.begin(); entry != replicas_.end();) {
      if (wanted.contains(entry->first)) {
        ++entry;
        continue;
      }
      left.push_back(entry->second);
      entry = replicas_.erase(entry);
    }
  }
  for (const auto& replica : left) {
    replica->Close();  // its text streams move to the others
  }
}

void TokenizerPool::Tick(TimePoint now) {
  for (const auto& replica : Current()) {
    replica->Tick(now);
  }
  std::vector<Parked> parked;
  {
    const MutexLock lock(mutex_);
    parked.swap(parked_);
  }
  for (const Parked& waiting : parked) {
    Place(waiting.stream, waiting.give_up);
  }
  std::vector<std::shared_ptr<PatientCall>> calls;
  {
    const MutexLock lock(mutex_);
    watched_.erase(std::remove_if(watched_.begin(), watched_.end(),
                                  [&calls](const std::weak_ptr<PatientCall>& watched) {
                                    calls.push_back(watched.lock());
                                    return calls.back() == nullptr;
                                  }),
                   watched_.end());
  }
  for (const std::shared_ptr<PatientCall>& call : calls) {
    if (call != nullptr) {
      call->OnTick(now);
    }
  }
}

void TokenizerPool::Watch(const std::weak_ptr<PatientCall>& call) {
  const MutexLock lock(mutex_);
  watched_.push_back(call);
}

void TokenizerPool::Close() {
  std::vector<std::shared_ptr<TokenizerReplica>> replicas = Current();
  {
    const MutexLock lock(mutex_);
    closed_ = true;
    replicas_.clear();
  }
  for (const auto& replica : replicas) {
    replica->Close();
  }
  Tick(std::chrono::steady_clock::now());  // fails the parked ones
}

std::vector<std::shared_ptr<TokenizerReplica>> TokenizerPool::Current() const {
  std::vector<std::shared_ptr<TokenizerReplica>> all;
  const MutexLock lock(mutex_);
  for (const auto& [address, replica] : replicas_) {
    all.push_back(replica);
  }
  return all;
}

absl::StatusOr<internal::v1::TokenizerInfo> TokenizerPool::Find(const std::string& digest,
                                                                const std::string& model) const {
  for (const auto& replica : Current()) {
    if (auto info = replica->Find(digest, model); info.has_value()) {
      return *std::move(info);
    }
  }
  return NoTokenizer(absl::StrFormat("model \"%s\" (tokenizer digest %s)", model,
                                     digest.empty() ? "unknown" : digest));
}

bool TokenizerPool::Has(const std::string& digest, const std::string& model) const {
  const auto replicas = Current();
  return std::any_of(replicas.begin(), replicas.end(),
                     [&](const auto& replica) { return replica->Find(digest, model).has_value(); });
}

std::map<std::string, bool> TokenizerPool::Up() const {
  std::map<std::string, bool> up;
  for (const auto& replica : Current()) {
    up.emplace(replica->address(), replica->up());
  }
  return up;
}

std::shared_ptr<TokenizerReplica> TokenizerPool::Pick(Work work, const std::string& tokenizer,
                                                      const std::vector<std::string>& tried) {
  const auto replicas = Current();
  std::uint64_t turn = 0;
  {
    const MutexLock lock(mutex_);
    turn = turns_[work]++;
  }
  std::shared_ptr<TokenizerReplica> last_resort;
  for (std::size_t i = 0; i < replicas.size(); ++i) {
    const auto& replica = replicas[(i + turn) % replicas.size()];
    const bool fits =
        replica->Find(tokenizer, tokenizer).has_value() || replica->Find("", tokenizer).has_value();
    if (!fits || std::find(tried.begin(), tried.end(), replica->address()) != tried.end()) {
      continue;
    }
    if (!replica->draining()) {
      return replica;
    }
    last_resort = replica;
  }
  return last_resort;
}

void TokenizerPool::Encode(std::shared_ptr<CallScope> scope, internal::v1::EncodeRequest request,
                           Callback<internal::v1::EncodeResponse> done) {
  using Call = UnaryCall<internal::v1::EncodeRequest, internal::v1::EncodeResponse>;
  const typename Call::Callee callee{
      .name = "yangtuo.internal.v1.TokenizerService/Encode",
      .method = &internal::v1::TokenizerService::StubInterface::async_interface::Encode};
  std::make_shared<Call>(shared_from_this(), std::move(scope), callee, std::move(request),
                         std::move(done))
      ->Begin();
}

void TokenizerPool::Decode(std::shared_ptr<CallScope> scope, internal::v1::DecodeRequest request,
                           Callback<internal::v1::DecodeResponse> done) {
  using Call = UnaryCall<internal::v1::DecodeRequest, internal::v1::DecodeResponse>;
  const typename Call::Callee callee{
      .name = "yangtuo.internal.v1.TokenizerService/Decode",
      .method = &internal::v1::TokenizerService::StubInterface::async_interface::Decode};
  std::make_shared<Call>(shared_from_this(), std::move(scope), callee, std::move(request),
                         std::move(done))
      ->Begin();
}

void TokenizerPool::RenderChat(std::shared_ptr<CallScope> scope,
                               internal::v1::RenderChatRequest request,
                               Callback<internal::v1::RenderChatResponse> done) {
  using Call = UnaryCall<internal::v1::RenderChatRequest, internal::v1::RenderChatResponse>;
  const typename Call::Callee callee{
      .name = "yangtuo.internal.v1.TokenizerService/RenderChat",
      .method = &internal::v1::TokenizerService::StubInterface::async_interface::RenderChat};
  std::make_shared<Call>(shared_from_this(), std::move(scope), callee, std::move(request),
                         std::move(done))
      ->Begin();
}

void TokenizerPool::Pieces(std::shared_ptr<CallScope> scope,
                           const internal::v1::TokenizerInfo& tokenizer,
                           Callback<std::shared_ptr<const PieceTable>> done) {
  const std::string address = TokenizerAddress(tokenizer);
  std::shared_ptr<const PieceTable> known;
  {
    const MutexLock lock(mutex_);
    if (const auto found = pieces_.find(address); found != pieces_.end()) {
      known = found->second;
    }
  }
  if (known != nullptr) {
    done(std::move(known));
    return;
  }
  internal::v1::DecodeRequest request;
  request.set_tokenizer(address);
  request.set_want_pieces(true);
  for (std::uint32_t id = 0; id < tokenizer.vocabulary_size(); ++id) {
    request.add_ids(id);
  }
  Decode(std::move(scope), std::move(request),
         [self = shared_from_this(), address,
          done = std::move(done)](absl::StatusOr<internal::v1::DecodeResponse> response) {
           if (!response.ok()) {
             done(response.status());
             return;
           }
           auto table = std::make_shared<const PieceTable>(response->pieces().begin(),
                                                           response->pieces().end());
           {
             const MutexLock lock(self->mutex_);
             self->pieces_[address] = table;
           }
           done(std::move(table));
         });
}

std::shared_ptr<TextStream> TokenizerPool::OpenText(TextStream::Options options,
                                                    std::shared_ptr<TextEvents> events) {
  auto stream = std::make_shared<TextStream>(std::move(options), std::move(events));
  Place(stream, std::chrono::steady_clock::now() + options_.stream_limit);
  return stream;
}

void TokenizerPool::Place(const std::shared_ptr<TextStream>& stream, TimePoint give_up) {
  std::vector<std::string> tried;
  while (const auto replica = Pick(kText, stream->tokenizer(), tried)) {
    if (replica->Attach(stream)) {
      return;
    }
    tried.push_back(replica->address());
  }
  {
    const MutexLock lock(mutex_);
    if (!closed_ && std::chrono::steady_clock::now() < give_up) {
      parked_.push_back({.stream = stream, .give_up = give_up});
      return;
    }
  }
  stream->Fail(NoTokenizer("the rest of this answer"));
}

void TokenizerPool::OnDecodeLost(std::vector<std::shared_ptr<TextStream>> streams) {
  const TimePoint give_up = std::chrono::steady_clock::now() + options_.stream_limit;
  for (const std::shared_ptr<TextStream>& stream : streams) {
    if (stream->moves() >= kMaxMoves) {
      stream->Fail(NoTokenizer("this answer, which ended every decode call it was part of"));
      continue;
    }
    retries_.Add();
    Place(stream, give_up);
  }
}

}  // namespace yangtuo::gateway
