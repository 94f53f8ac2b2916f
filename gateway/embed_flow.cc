#include "gateway/embed_flow.h"

#include <algorithm>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/str_format.h"
#include "gateway/request_trace.h"
#include "inference_core/base/status_macros.h"
#include "services/common/status.h"

namespace yangtuo::gateway {
namespace {

// Texts of one request at the workers at a time: enough to fill a batch, too few to crowd out
// others.
constexpr std::size_t kConcurrentTexts = 8;
// What the tokenizer service takes in one call.
constexpr int kTextsOfOneEncode = 256;
constexpr int kMaxAttempts = 3;

class EmbedFlow : public std::enable_shared_from_this<EmbedFlow> {
 public:
  using TokenInputs = std::vector<std::vector<std::uint32_t>>;

  // `inputs` are used when the request has no texts.
  EmbedFlow(FlowServices& services, v1::EmbedRequest request, TokenInputs inputs,
            std::shared_ptr<CallScope> scope, OnTokensCounted counted,
            Callback<v1::EmbedResponse> done)
      : services_(services),
        request_(std::move(request)),
        inputs_(std::move(inputs)),
        scope_(std::move(scope)),
        counted_(std::move(counted)),
        done_(std::move(done)) {}

  void Begin() {
    const absl::StatusOr<std::string> tokenizer = Prepare();
    if (!tokenizer.ok()) {
      End(tokenizer.status());
      return;
    }
    if (!inputs_.empty()) {
      internal::v1::EncodeResponse encoded;
      for (const std::vector<std::uint32_t>& ids : inputs_) {
        encoded.add_texts()->mutable_ids()->Assign(ids.begin(), ids.end());
      }
      OnIds(std::move(encoded));
      return;
    }
    EncodeNext(*tokenizer, {});
  }

 private:
  struct Attempt {
    std::shared_ptr<grpc::ClientContext> context;
    internal::v1::EmbedRequest request;
    internal::v1::EmbedResponse response;
  };

  // The texts after those that are `encoded` already.
  void EncodeNext(const std::string& tokenizer, internal::v1::EncodeResponse encoded) {
    const int first = encoded.texts_size();
    if (first == request_.texts_size()) {
      OnIds(std::move(encoded));
      return;
    }
    const int count = std::min(request_.texts_size() - first, kTextsOfOneEncode);
    internal::v1::EncodeRequest encode;
    encode.set_tokenizer(tokenizer);
    encode.set_add_bos(true);
    encode.set_max_tokens(request_.truncate() ? 0 : model_.status->context_tokens());
    encode.mutable_texts()->Assign(request_.texts().begin() + first,
                                   request_.texts().begin() + first + count);
    services_.tokenizers.Encode(
        scope_, std::move(encode),
        [self = shared_from_this(), tokenizer, count,
         encoded = std::move(encoded)](absl::StatusOr<internal::v1::EncodeResponse> more) mutable {
          if (!more.ok()) {
            self->End(more.status());
          } else if (more->texts_size() != count) {
            self->End(absl::InternalError(absl::StrFormat(
                "the tokenizer encoded %d texts, expected %d", more->texts_size(), count)));
          } else {
            encoded.mutable_texts()->MergeFrom(more->texts());
            self->EncodeNext(tokenizer, std::move(encoded));
          }
        });
  }

  void OnIds(internal::v1::EncodeResponse encoded) ABSL_LOCKS_EXCLUDED(mutex_) {
    if (const absl::Status taken = TakeIds(std::move(encoded)); !taken.ok()) {
      End(taken);
      return;
    }
    for (std::size_t i = 0; i < kConcurrentTexts; ++i) {
      StartNext();
    }
  }

  // The address of the model's tokenizer.
  absl::StatusOr<std::string> Prepare() ABSL_LOCKS_EXCLUDED(mutex_) {
    if (inputs_.empty()) {
      YANGTUO_RETURN_IF_ERROR(CheckEmbedRequest(request_, services_.limits));
    }
    YANGTUO_ASSIGN_OR_RETURN(model_, ResolveFor(services_, scope_->caller(), request_.model()));
    YANGTUO_RETURN_IF_ERROR(CheckEmbedInputs(
        inputs_, services_.limits, {.vocabulary_size = model_.status->vocabulary_size()}));
    const std::string& name = model_.status->model();
    TraceModel("embeddings", name, scope_->span());
    if (model_.ready_groups == 0) {
      return NoReadyGroup(name);
    }
    YANGTUO_ASSIGN_OR_RETURN(const internal::v1::TokenizerInfo tokenizer,
                             services_.tokenizers.Find(model_.status->tokenizer_digest(), name));
    YANGTUO_ASSIGN_OR_RETURN(AdmissionPermit permit, services_.admission.Admit());
    const MutexLock lock(mutex_);
    permit_.emplace(std::move(permit));
    return TokenizerAddress(tokenizer);
  }

  absl::Status TakeIds(internal::v1::EncodeResponse encoded) ABSL_LOCKS_EXCLUDED(mutex_) {
    const int context = static_cast<int>(model_.status->context_tokens());
    std::uint64_t tokens = 0;
    for (int i = 0; i < encoded.texts_size(); ++i) {
      auto& ids = *encoded.mutable_texts(i)->mutable_ids();
      if (ids.size() > context && !request_.truncate()) {
        return WithReason(
            InvalidField(absl::StrFormat("texts[%d]", i),
                         absl::StrFormat("has %d tokens, the model's context is %d: shorten it, or "
                                         "set truncate",
                                         ids.size(), context)),
            "CONTEXT_LENGTH_EXCEEDED");
      }
      ids.Truncate(std::min(ids.size(), context));
      tokens += static_cast<std::uint64_t>(ids.size());
    }
    scope_->span().Set("gen_ai.usage.input_tokens", static_cast<std::int64_t>(tokens));
    {
      const MutexLock lock(mutex_);
      encoded_ = std::move(encoded);
      open_ = static_cast<std::size_t>(encoded_.texts_size());
      response_.set_model(model_.status->model());
      response_.mutable_usage()->set_prompt_tokens(static_cast<std::uint32_t>(tokens));
      for (int i = 0; i < encoded_.texts_size(); ++i) {
        response_.add_embeddings();
      }
      YANGTUO_RETURN_IF_ERROR(permit_->AddTokens(tokens));
    }
    counted_(model_.status->model(), tokens);
    return absl::OkStatus();
  }

  void StartNext() ABSL_LOCKS_EXCLUDED(mutex_) {
    int index = 0;
    {
      const MutexLock lock(mutex_);
      if (ended_ || next_ == encoded_.texts_size()) {
        return;
      }
      index = next_++;
    }
    Try(index, {});
  }

  void Try(int index, std::vector<std::string> avoid) ABSL_LOCKS_EXCLUDED(mutex_) {
    auto attempt = std::make_shared<Attempt>();
    attempt->request.set_request_id(scope_->context().request_id);
    attempt->request.set_tenant(scope_->caller().tenant);
    {
      const MutexLock lock(mutex_);
      if (ended_) {
        return;
      }
      *attempt->request.mutable_ids() = encoded_.texts(index).ids();
    }
    auto lease = services_.workers.Route(
        {.model = model_.status->model(),
         .tokenizer_digest = model_.status->tokenizer_digest(),
         .context_tokens = model_.status->context_tokens(),
         .avoid = avoid,
         .prompt_tokens = static_cast<std::uint64_t>(attempt->request.ids_size())});
    if (!lease.ok()) {
      End(lease.status());
      return;
    }
    attempt->context = scope_->Open({.method = "yangtuo.internal.v1.InferenceService/Embed",
                                     .address = lease->worker().address()});
    avoid.push_back(lease->worker().address());
    auto held = std::make_shared<WorkerLease>(*std::move(lease));
    held->Start([context = attempt->context] { context->TryCancel(); });
    held->worker().stub().Embed(attempt->context.get(), &attempt->request, &attempt->response,
                                [self = shared_from_this(), attempt, held, index, avoid,
                                 token = held->worker().EnterCall()](const grpc::Status& status) {
                                  self->scope_->Forget(attempt->context.get(), FromGrpc(status));
                                  held->OnEnd(FromGrpc(status));
                                  self->OnEmbedded(index, avoid, status, attempt->response);
                                });
  }

  void OnEmbedded(int index, const std::vector<std::string>& tried, const grpc::Status& status,
                  internal::v1::EmbedResponse& embedded) ABSL_LOCKS_EXCLUDED(mutex_) {
    const bool lost = status.error_code() == grpc::StatusCode::UNAVAILABLE ||
                      status.error_code() == grpc::StatusCode::CANCELLED;
    if (lost && !scope_->cancelled() && tried.size() < kMaxAttempts) {
      services_.metrics.retries("worker").Add();
      Try(index, tried);
      return;
    }
    if (!status.ok()) {
      End(lost && !scope_->cancelled()
              ? absl::UnavailableError(
                    absl::StrFormat("worker %s was lost: %s", tried.back(), status.error_message()))
              : FromGrpc(status));
      return;
    }
    bool last = false;
    {
      const MutexLock lock(mutex_);
      if (ended_) {
        return;  // another text failed: the response is gone
      }
      *response_.mutable_embeddings(index)->mutable_values() =
          std::move(*embedded.mutable_values());
      last = --open_ == 0;
    }
    if (last) {
      End(absl::OkStatus());
    } else {
      StartNext();
    }
  }

  void End(const absl::Status& status) ABSL_LOCKS_EXCLUDED(mutex_) {
    v1::EmbedResponse response;
    {
      const MutexLock lock(mutex_);
      if (std::exchange(ended_, true)) {
        return;
      }
      permit_.reset();
      response = std::move(response_);
    }
    if (status.ok()) {
      done_(std::move(response));
    } else {
      scope_->Cancel();
      done_(status);
    }
  }

  FlowServices& services_;
  const v1::EmbedRequest request_;
  const TokenInputs inputs_;
  const std::shared_ptr<CallScope> scope_;
  const OnTokensCounted counted_;
  const Callback<v1::EmbedResponse> done_;
  ServedModel model_;  // constant after Prepare

  Mutex mutex_;
  bool ended_ ABSL_GUARDED_BY(mutex_) = false;
  std::optional<AdmissionPermit> permit_ ABSL_GUARDED_BY(mutex_);
  internal::v1::EncodeResponse encoded_ ABSL_GUARDED_BY(mutex_);
  v1::EmbedResponse response_ ABSL_GUARDED_BY(mutex_);
  std::size_t open_ ABSL_GUARDED_BY(mutex_) = 0;
  int next_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace

void StartEmbed(FlowServices& services, v1::EmbedRequest request,
                std::vector<std::vector<std::uint32_t>> inputs, std::shared_ptr<CallScope> scope,
                OnTokensCounted counted, Callback<v1::EmbedResponse> done) {
  std::make_shared<EmbedFlow>(services, std::move(request), std::move(inputs), std::move(scope),
                              std::move(counted), std::move(done))
      ->Begin();
}

}  // namespace yangtuo::gateway
