#include "gateway/tokenizer_replica.h"

#include <algorithm>
#include <utility>

#include "services/common/channel.h"
#include "services/common/log.h"

namespace yangtuo::gateway {
namespace {

constexpr Duration kPollPeriod = std::chrono::seconds(1);
constexpr Duration kPollWhenDown = std::chrono::milliseconds(250);

}  // namespace

struct TokenizerReplica::Poll {
  std::shared_ptr<grpc::ClientContext> context = std::make_shared<grpc::ClientContext>();
  internal::v1::GetTokenizerRequest request;
  internal::v1::GetTokenizerResponse response;
};

absl::StatusOr<std::shared_ptr<TokenizerReplica>> TokenizerReplica::Connect(
    const PeerAddress& address, const ClientTls& tls, LiveCalls& calls, OnLost on_lost) {
  ClientTls peer_tls = tls;
  if (peer_tls.server_name.empty()) {
    peer_tls.server_name = address.dns_name;
  }
  auto channel = CreateChannel(address.target, peer_tls);
  if (!channel.ok()) {
    return channel.status();
  }
  return std::shared_ptr<TokenizerReplica>(
      new TokenizerReplica(address.target, *std::move(channel), calls, std::move(on_lost)));
}

TokenizerReplica::TokenizerReplica(std::string address, std::shared_ptr<grpc::Channel> channel,
                                   LiveCalls& calls, OnLost on_lost)
    : address_(std::move(address)),
      channel_(std::move(channel)),
      stub_(internal::v1::TokenizerService::NewStub(channel_)),
      calls_(calls),
      on_lost_(std::move(on_lost)) {}

void TokenizerReplica::Tick(TimePoint now) {
  bool poll = false;
  std::shared_ptr<DecodeCall> hung;
  {
    const MutexLock lock(mutex_);
    if (!closed_ && !polling_ && now >= poll_at_) {
      polling_ = true;
      poll = true;
    }
    if (decode_ != nullptr) {
      const TimePoint since = decode_->waiting_since();
      if (since < now && now - since > kSilenceLimit) {
        hung = decode_;
      }
    }
  }
  if (poll) {
    StartPoll();
  }
  if (hung != nullptr) {
    MarkDown("it stopped answering");
  }
}

void TokenizerReplica::StartPoll() {
  auto poll = std::make_shared<Poll>();
  poll->context->set_deadline(std::chrono::system_clock::now() + kSilenceLimit);
  {
    const MutexLock lock(mutex_);
    poll_ = poll->context;
  }
  stub().GetTokenizer(poll->context.get(), &poll->request, &poll->response,
                      [self = shared_from_this(), poll, token = EnterCall()](
                          const grpc::Status& status) { self->OnPolled(*poll, status); });
}

void TokenizerReplica::OnPolled(const Poll& poll, const grpc::Status& status) {
  bool connected = false;
  {
    const MutexLock lock(mutex_);
    polling_ = false;
    poll_ = nullptr;
    poll_at_ = std::chrono::steady_clock::now() + (status.ok() ? kPollPeriod : kPollWhenDown);
    if (status.ok() && !closed_) {
      connected = !up_;
      up_ = true;
      draining_ = poll.response.draining();
      infos_.assign(poll.response.tokenizers().begin(), poll.response.tokenizers().end());
    }
  }
  if (connected) {
    Log(LogLevel::kInfo, "tokenizer connected",
        {{"tokenizer", address_},
         {"models", static_cast<std::int64_t>(poll.response.tokenizers_size())}});
  }
  if (!status.ok()) {
    MarkDown(status.error_message());
  }
}

void TokenizerReplica::MarkDown(const std::string& why) {
  std::shared_ptr<DecodeCall> decode;
  bool lost = false;
  {
    const MutexLock lock(mutex_);
    lost = up_;
    up_ = false;
    poll_at_ = std::min(poll_at_, std::chrono::steady_clock::now() + kPollWhenDown);
    decode = std::move(decode_);
    decode_ = nullptr;
  }
  if (lost) {
    Log(LogLevel::kWarning, "tokenizer lost", {{"tokenizer", address_}, {"error", why}});
  }
  if (decode != nullptr) {
    decode->Cancel();  // its streams move when it has ended
  }
}

void TokenizerReplica::Close() {
  std::shared_ptr<grpc::ClientContext> poll;
  {
    const MutexLock lock(mutex_);
    closed_ = true;
    poll = poll_;
  }
  if (poll != nullptr) {
    poll->TryCancel();
  }
  MarkDown("it left the list");
}

bool TokenizerReplica::up() const {
  const MutexLock lock(mutex_);
  return up_;
}

bool TokenizerReplica::draining() const {
  const MutexLock lock(mutex_);
  return draining_;
}

std::optional<internal::v1::TokenizerInfo> TokenizerReplica::Find(const std::string& digest,
                                                                  const std::string& name) const {
  const MutexLock lock(mutex_);
  if (!up_) {
    return std::nullopt;
  }
  for (const internal::v1::TokenizerInfo& info : infos_) {
    if (!digest.empty() && info.digest() == digest) {
      return info;
    }
  }
  for (const internal::v1::TokenizerInfo& info : infos_) {
    // Another digest under the model's name is another tokenizer: its ids would mean other text.
    if (info.name() == name && (digest.empty() || info.digest().empty())) {
      return info;
    }
  }
  return std::nullopt;
}

bool TokenizerReplica::Attach(const std::shared_ptr<TextStream>& stream) {
  for (int attempt = 0; attempt < 2; ++attempt) {
    const std::shared_ptr<DecodeCall> decode = CurrentDecode();
    if (decode == nullptr) {
      return false;
    }
    if (decode->Attach(stream)) {
      return true;
    }
  }
  return false;
}

std::shared_ptr<DecodeCall> TokenizerReplica::CurrentDecode() {
  {
    const MutexLock lock(mutex_);
    if (!up_ || closed_) {
      return nullptr;
    }
    if (decode_ != nullptr && !decode_->over()) {
      return decode_;
    }
  }
  // Started without the lock, since reactions may run inside.
  const std::shared_ptr<DecodeCall> started = DecodeCall::Start(
      stub(), EnterCall(),
      [self = weak_from_this(), on_lost = on_lost_](
          const DecodeCall& call, const grpc::Status& status,
          std::vector<std::shared_ptr<TextStream>> streams) {
        if (const auto replica = self.lock(); replica != nullptr && replica->IsCurrent(call)) {
          replica->MarkDown(status.error_message());
        }
        on_lost(std::move(streams));
      });
  std::shared_ptr<DecodeCall> current;
  {
    const MutexLock lock(mutex_);
    if (up_ && !closed_) {
      // Another thread may have been faster. One call is in use: it alone is watched for silence
      // and ended with the replica.
      if (decode_ == nullptr || decode_->over()) {
        decode_ = started;
      }
      current = decode_;
    }
  }
  if (current != started) {
    started->Cancel();
  }
  return current;
}

bool TokenizerReplica::IsCurrent(const DecodeCall& call) const {
  const MutexLock lock(mutex_);
  return decode_.get() == &call;
}

}  // namespace yangtuo::gateway
