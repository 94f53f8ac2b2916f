#include "gateway/generation_flow.h"

#include <algorithm>
#include <random>
#include <utility>

#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "gateway/chat_template.h"
#include "gateway/generation_choice.h"
#include "gateway/request_trace.h"
#include "gateway/utf8.h"
#include "inference_core/base/status_macros.h"
#include "services/common/status.h"

namespace yangtuo::gateway {
namespace {

// Enough of a prompt to know how the text goes on after it.
constexpr std::size_t kDecodeContextTokens = 16;
// Seeds are drawn below 2^53, so that clients whose numbers are doubles can send them back.
constexpr int kDrawnSeedBits = 53;

std::uint64_t DrawSeed() {
  std::random_device device;
  const std::uint64_t bits = (std::uint64_t{device()} << 32U) | device();
  return bits >> (64 - kDrawnSeedBits);
}

ModelBounds BoundsOf(const internal::v1::WorkerStatus& status) {
  return {.context_tokens = status.context_tokens(), .vocabulary_size = status.vocabulary_size()};
}

}  // namespace

absl::StatusOr<ServedModel> ResolveFor(const FlowServices& services, const Caller& caller,
                                       const std::string& name) {
  if (caller.models.empty()) {
    return services.workers.Resolve(name);
  }
  if (name.empty() && caller.models.size() > 1) {
    return InvalidField("model", absl::StrFormat("is missing, and this API key allows several: %s",
                                                 absl::StrJoin(caller.models, ", ")));
  }
  const std::string& wanted = name.empty() ? caller.models.front() : name;
  if (!caller.MayUse(wanted)) {
    return ModelNotAllowed(wanted);
  }
  auto served = services.workers.Resolve(wanted);
  if (absl::IsNotFound(served.status())) {
    // Without the names of models that others may use.
    return WithReason(absl::NotFoundError(absl::StrFormat(
                          "the model \"%s\" is not served here at present", wanted)),
                      "MODEL_NOT_FOUND");
  }
  return served;
}

std::shared_ptr<GenerationFlow> GenerationFlow::Start(FlowServices& services,
                                                      v1::GenerateRequest request,
                                                      std::shared_ptr<CallScope> scope,
                                                      std::unique_ptr<RequestRecord> record,
                                                      std::shared_ptr<ResponseSink> sink) {
  std::shared_ptr<GenerationFlow> flow(new GenerationFlow(
      services, std::move(request), std::move(scope), std::move(record), std::move(sink)));
  flow->Begin();
  return flow;
}

GenerationFlow::GenerationFlow(FlowServices& services, v1::GenerateRequest request,
                               std::shared_ptr<CallScope> scope,
                               std::unique_ptr<RequestRecord> record,
                               std::shared_ptr<ResponseSink> sink)
    : services_(services),
      request_(std::move(request)),
      scope_(std::move(scope)),
      sink_(std::move(sink)),
      record_(std::move(record)) {}

GenerationFlow::~GenerationFlow() = default;

void GenerationFlow::Begin() {
  TraceRequest(request_, scope_->span());
  if (const absl::Status prepared = Prepare(); !prepared.ok()) {
    Fail(prepared);
    return;
  }
  WatchDeadline();
  WatchQueue();
  if (IsConstraintAtHand(request_, services_.grammars)) {
    CheckConstraintAndGoOn();
    return;
  }
  // A schema may take a second, which the transport's threads do not have.
  services_.compiling.After(Duration{},
                            [self = shared_from_this()] { self->CheckConstraintAndGoOn(); });
}

void GenerationFlow::CheckConstraintAndGoOn() {
  {
    const MutexLock lock(mutex_);
    if (ended_) {
      return;
    }
  }
  if (const absl::Status fits = CheckConstraint(request_, services_.grammars); !fits.ok()) {
    Fail(fits);
    return;
  }
  switch (request_.prompt_case()) {
    case v1::GenerateRequest::kChat:
      RenderChat();
      break;
    case v1::GenerateRequest::kTokenIds:
      OnPrompt({.ids = {request_.token_ids().ids().begin(), request_.token_ids().ids().end()}});
      break;
    default:
      EncodeText();
      break;
  }
}

absl::Status GenerationFlow::Prepare() {
  YANGTUO_RETURN_IF_ERROR(CheckGenerateRequest(request_, services_.limits));
  YANGTUO_RETURN_IF_ERROR(scope_->caller().CheckPriority(request_.priority()));
  YANGTUO_ASSIGN_OR_RETURN(model_, ResolveFor(services_, scope_->caller(), request_.model()));
  const std::string& name = model_.status->model();
  TraceModel(OperationOf(request_), name, scope_->span());
  {
    const MutexLock lock(mutex_);
    record_->model = name;
  }
  YANGTUO_RETURN_IF_ERROR(CheckAgainstModel(request_, BoundsOf(*model_.status)));
  if (model_.ready_groups == 0) {
    return NoReadyGroup(name);
  }
  YANGTUO_ASSIGN_OR_RETURN(tokenizer_,
                           services_.tokenizers.Find(model_.status->tokenizer_digest(), name));
  YANGTUO_ASSIGN_OR_RETURN(AdmissionPermit permit, services_.admission.Admit());
  model_metrics_.emplace(services_.metrics.ForModel(name));
  seed_ = request_.sampling().has_seed() ? request_.sampling().seed() : DrawSeed();
  const MutexLock lock(mutex_);
  permit_.emplace(std::move(permit));
  return absl::OkStatus();
}

void GenerationFlow::WatchDeadline() {
  if (scope_->deadline() == CallScope::Deadline::max()) {
    return;
  }
  const auto left = scope_->deadline() - std::chrono::system_clock::now();
  services_.timers.After(std::max<Duration>(std::chrono::duration_cast<Duration>(left), {}),
                         [flow = weak_from_this()] {
                           if (const auto alive = flow.lock(); alive != nullptr) {
                             alive->Cancel();
                           }
                         });
}

void GenerationFlow::WatchQueue() {
  if (services_.queue.max_wait > Duration{}) {
    services_.timers.After(services_.queue.max_wait, [flow = weak_from_this()] {
      if (const auto alive = flow.lock(); alive != nullptr) {
        alive->OnQueueLimit();
      }
    });
  }
}

void GenerationFlow::OnQueueLimit() {
  {
    const MutexLock lock(mutex_);
    if (ended_ || record_->time_to_first_token.has_value()) {
      return;
    }
  }
  Fail(WithRetryAfter(
      WithReason(absl::ResourceExhaustedError(absl::StrFormat(
                     "no token came within %g s, the limit of this gateway (--max-queue-seconds): "
                     "too many requests wait before this one, try again later",
                     ToSeconds(services_.queue.max_wait))),
                 "QUEUE_TIMEOUT"),
      services_.queue.max_wait));
}

void GenerationFlow::EncodeText() {
  internal::v1::EncodeRequest encode;
  encode.set_tokenizer(TokenizerAddress(*tokenizer_));
  encode.add_texts(request_.text());
  encode.set_add_bos(true);
  encode.set_parse_special(request_.parse_special());
  encode.set_max_tokens(model_.status->context_tokens());
  services_.tokenizers.Encode(
      scope_, std::move(encode),
      [self = shared_from_this()](absl::StatusOr<internal::v1::EncodeResponse> encoded) {
        if (!encoded.ok()) {
          self->Fail(encoded.status());
        } else if (encoded->texts_size() != 1) {
          self->Fail(absl::InternalError("the tokenizer encoded one text to none or several"));
        } else {
          self->OnPrompt({.ids = {encoded->texts(0).ids().begin(), encoded->texts(0).ids().end()}});
        }
      });
}

void GenerationFlow::RenderChat() {
  auto render = MakeRenderRequest(request_.chat(), *model_.status, *tokenizer_);
  if (!render.ok()) {
    Fail(render.status());
    return;
  }
  render->set_max_tokens(model_.status->context_tokens());
  services_.tokenizers.RenderChat(
      scope_, *std::move(render),
      [self = shared_from_this()](absl::StatusOr<internal::v1::RenderChatResponse> rendered) {
        if (!rendered.ok()) {
          self->Fail(rendered.status());
          return;
        }
        self->OnPrompt(
            {.ids = {rendered->ids().begin(), rendered->ids().end()},
             .stop_strings = {rendered->stop_strings().begin(), rendered->stop_strings().end()}});
      });
}

void GenerationFlow::OnPrompt(Prompt prompt) {
  const ModelBounds bounds = BoundsOf(*model_.status);
  const std::uint32_t wanted = request_.stop().max_new_tokens();
  absl::Status fits = prompt.ids.empty() ? InvalidField("prompt", "has no tokens")
                                         : CheckContextLength(prompt.ids.size(), wanted, bounds);
  if (fits.ok()) {
    const auto room = bounds.context_tokens - static_cast<std::uint32_t>(prompt.ids.size());
    max_new_tokens_ = request_.stop().has_max_new_tokens() ? std::min(wanted, room) : room;
    const std::uint64_t choices = request_.has_n() ? request_.n() : 1;
    const MutexLock lock(mutex_);
    if (ended_) {
      return;
    }
    record_->SetPromptTokens(prompt.ids.size());
    fits = permit_->AddTokens(choices * (prompt.ids.size() + max_new_tokens_));
  }
  if (!fits.ok()) {
    Fail(fits);
    return;
  }
  prompt_ = std::move(prompt);
  LoadPieces();
}

void GenerationFlow::LoadPieces() {
  if (!request_.sampling().has_logprobs()) {
    LoadEcho();
    return;
  }
  services_.tokenizers.Pieces(
      scope_, *tokenizer_,
      [self = shared_from_this()](absl::StatusOr<std::shared_ptr<const PieceTable>> pieces) {
        if (!pieces.ok()) {
          self->Fail(pieces.status());
          return;
        }
        self->pieces_ = *std::move(pieces);
        self->LoadEcho();
      });
}

void GenerationFlow::LoadEcho() {
  if (!request_.echo()) {
    Launch();
    return;
  }
  internal::v1::DecodeRequest decode;
  decode.set_tokenizer(TokenizerAddress(*tokenizer_));
  decode.mutable_ids()->Assign(prompt_.ids.begin(), prompt_.ids.end());
  services_.tokenizers.Decode(
      scope_, std::move(decode),
      [self = shared_from_this()](absl::StatusOr<internal::v1::DecodeResponse> decoded) {
        if (!decoded.ok()) {
          self->Fail(decoded.status());
          return;
        }
        self->echo_text_ = ReplaceInvalidUtf8(decoded->text());
        self->Launch();
      });
}

std::vector<GenerationFlow::Choice> GenerationFlow::MakeChoices() const {
  std::vector<std::string> stops(request_.stop().stop_strings().begin(),
                                 request_.stop().stop_strings().end());
  stops.insert(stops.end(), prompt_.stop_strings.begin(), prompt_.stop_strings.end());
  std::vector<Choice> choices;
  const std::uint32_t count = request_.has_n() ? request_.n() : 1;
  for (std::uint32_t i = 0; i < count; ++i) {
    choices.emplace_back(
        i, ChoiceText::Options{.choice = i, .stop_strings = stops, .pieces = pieces_});
    choices.back().result.set_choice(i);
  }
  return choices;
}

void GenerationFlow::Launch() {
  launched_at_ = std::chrono::steady_clock::now();
  v1::GenerateResponse response;
  v1::Started& started = *response.mutable_started();
  started.set_request_id(scope_->context().request_id);
  started.set_model(model_.status->model());
  started.set_seed(seed_);
  started.set_prompt_tokens(static_cast<std::uint32_t>(prompt_.ids.size()));
  std::size_t count = 0;
  {
    const MutexLock lock(mutex_);
    if (ended_) {
      return;
    }
    choices_ = MakeChoices();
    count = choices_open_ = choices_.size();
    sink_full_ = sink_->Add(std::move(response)) == SinkRoom::kFull;
    for (Choice& choice : choices_) {
      if (pieces_ == nullptr) {
        AddEcho(choice);
      }
    }
  }
  model_metrics_->prompt_tokens.Add(static_cast<double>(prompt_.ids.size()));
  sink_->Flush();
  TextStream::Options text{.tokenizer = TokenizerAddress(*tokenizer_)};
  if (!request_.has_chat()) {
    const std::size_t tail = std::min(prompt_.ids.size(), kDecodeContextTokens);
    text.context_ids.assign(prompt_.ids.end() - static_cast<std::ptrdiff_t>(tail),
                            prompt_.ids.end());
  }
  for (std::size_t i = 0; i < count; ++i) {
    auto decode =
        services_.tokenizers.OpenText(text, std::make_shared<ChoiceEvents>(shared_from_this(), i));
    bool ended = false;
    {
      const MutexLock lock(mutex_);
      ended = ended_;
      if (!ended) {
        choices_[i].decode = decode;
      }
    }
    if (ended) {
      decode->Abandon();
      return;
    }
    StartStream(i);
  }
}

void GenerationFlow::Cancel() {
  if (scope_->expired()) {
    Fail(WithReason(absl::DeadlineExceededError("the request's deadline passed before its answer "
                                                "was complete: allow more time, or ask for fewer "
                                                "tokens"),
                    "DEADLINE"));
  } else {
    Fail(absl::CancelledError("the client cancelled the request"));
  }
}

void GenerationFlow::Fail(const absl::Status& status) {
  std::vector<std::unique_ptr<WorkerStream>> streams;
  std::vector<std::shared_ptr<TextStream>> decodes;
  std::unique_ptr<RequestRecord> record;
  {
    const MutexLock lock(mutex_);
    if (ended_) {
      return;
    }
    ended_ = true;
    for (Choice& choice : choices_) {
      streams.push_back(std::move(choice.stream));
      decodes.push_back(std::move(choice.decode));
      record_->completion_tokens += choice.ids.size();
    }
    record = std::move(record_);
    permit_.reset();
  }
  scope_->Cancel();
  streams.clear();
  for (const auto& decode : decodes) {
    if (decode != nullptr) {
      decode->Abandon();
    }
  }
  record->End(status);
  sink_->End(status);
}

}  // namespace yangtuo::gateway
