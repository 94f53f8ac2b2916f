#include "gateway/text_calls.h"

#include <utility>

#include "gateway/chat_template.h"
#include "gateway/request_validation.h"
#include "gateway/utf8.h"
#include "inference_core/base/status_macros.h"

namespace yangtuo::gateway {
namespace {

struct ModelAndTokenizer {
  ServedModel model;
  internal::v1::TokenizerInfo tokenizer;
};

absl::StatusOr<ModelAndTokenizer> Resolve(const FlowServices& services, const Caller& caller,
                                          const std::string& name) {
  ModelAndTokenizer both;
  YANGTUO_ASSIGN_OR_RETURN(both.model, ResolveFor(services, caller, name));
  YANGTUO_ASSIGN_OR_RETURN(
      both.tokenizer,
      services.tokenizers.Find(both.model.status->tokenizer_digest(), both.model.status->model()));
  return both;
}

v1::Model Describe(const FlowServices& services, const ServedModel& served) {
  const internal::v1::WorkerStatus& status = *served.status;
  v1::Model model;
  model.set_name(status.model());
  model.set_context_tokens(status.context_tokens());
  model.set_vocabulary_size(status.vocabulary_size());
  model.set_hidden_size(status.hidden_size());
  model.set_ready_groups(served.ready_groups);
  model.set_digest(status.model_digest());
  model.set_weight_type(status.weight_type());
  // Without a tokenizer the model is still there; its templates are unknown for now.
  const auto tokenizer = services.tokenizers.Find(status.tokenizer_digest(), status.model());
  if (tokenizer.ok()) {
    model.set_chat_template(DefaultTemplate(status, *tokenizer));
    *model.mutable_chat_templates() = tokenizer->chat_templates();
  }
  return model;
}

template <typename Ids>
v1::TokenizeResponse Answer(const std::string& model, const Ids& ids) {
  v1::TokenizeResponse response;
  response.set_model(model);
  response.mutable_token_ids()->Assign(ids.begin(), ids.end());
  return response;
}

}  // namespace

void StartTokenize(FlowServices& services, const v1::TokenizeRequest& request,
                   std::shared_ptr<CallScope> scope, Callback<v1::TokenizeResponse> done) {
  if (const absl::Status valid = CheckTokenizeRequest(request); !valid.ok()) {
    done(valid);
    return;
  }
  const auto both = Resolve(services, scope->caller(), request.model());
  if (!both.ok()) {
    done(both.status());
    return;
  }
  const std::string model = both->model.status->model();
  if (request.has_chat()) {
    auto render = MakeRenderRequest(request.chat(), *both->model.status, both->tokenizer);
    if (!render.ok()) {
      done(render.status());
      return;
    }
    services.tokenizers.RenderChat(
        std::move(scope), *std::move(render),
        [model, done = std::move(done)](absl::StatusOr<internal::v1::RenderChatResponse> rendered) {
          done(rendered.ok() ? absl::StatusOr<v1::TokenizeResponse>(Answer(model, rendered->ids()))
                             : rendered.status());
        });
    return;
  }
  internal::v1::EncodeRequest encode;
  encode.set_tokenizer(TokenizerAddress(both->tokenizer));
  encode.add_texts(request.text());
  encode.set_add_bos(!request.has_add_bos() || request.add_bos());
  encode.set_parse_special(request.parse_special());
  services.tokenizers.Encode(
      std::move(scope), std::move(encode),
      [model, done = std::move(done)](absl::StatusOr<internal::v1::EncodeResponse> encoded) {
        if (encoded.ok() && encoded->texts_size() != 1) {
          encoded = absl::InternalError("the tokenizer encoded one text to none or several");
        }
        done(encoded.ok()
                 ? absl::StatusOr<v1::TokenizeResponse>(Answer(model, encoded->texts(0).ids()))
                 : encoded.status());
      });
}

void StartDetokenize(FlowServices& services, const v1::DetokenizeRequest& request,
                     std::shared_ptr<CallScope> scope, Callback<v1::DetokenizeResponse> done) {
  const auto both = Resolve(services, scope->caller(), request.model());
  if (!both.ok()) {
    done(both.status());
    return;
  }
  const internal::v1::WorkerStatus& status = *both->model.status;
  const absl::Status valid = CheckDetokenizeRequest(
      request,
      {.context_tokens = status.context_tokens(), .vocabulary_size = status.vocabulary_size()});
  if (!valid.ok()) {
    done(valid);
    return;
  }
  internal::v1::DecodeRequest decode;
  decode.set_tokenizer(TokenizerAddress(both->tokenizer));
  *decode.mutable_ids() = request.token_ids();
  services.tokenizers.Decode(std::move(scope), std::move(decode),
                             [model = status.model(), done = std::move(done)](
                                 absl::StatusOr<internal::v1::DecodeResponse> decoded) {
                               if (!decoded.ok()) {
                                 done(decoded.status());
                                 return;
                               }
                               v1::DetokenizeResponse response;
                               response.set_model(model);
                               response.set_text(ReplaceInvalidUtf8(decoded->text()));
                               done(std::move(response));
                             });
}

v1::ListModelsResponse ListModels(const FlowServices& services, const Caller& caller) {
  v1::ListModelsResponse response;
  for (const auto& [name, model] : services.workers.Models()) {
    if (caller.MayUse(name)) {
      *response.add_models() = Describe(services, model);
    }
  }
  return response;
}

absl::StatusOr<v1::GetModelResponse> GetModel(const FlowServices& services, const Caller& caller,
                                              const std::string& name) {
  YANGTUO_ASSIGN_OR_RETURN(const ServedModel model, ResolveFor(services, caller, name));
  v1::GetModelResponse response;
  *response.mutable_model() = Describe(services, model);
  return response;
}

}  // namespace yangtuo::gateway
