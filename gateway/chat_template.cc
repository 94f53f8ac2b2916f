#include "gateway/chat_template.h"

#include <algorithm>

#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "gateway/tokenizer_pool.h"
#include "services/common/status.h"

namespace yangtuo::gateway {
namespace {

bool Knows(const internal::v1::TokenizerInfo& tokenizer, const std::string& name) {
  return std::find(tokenizer.chat_templates().begin(), tokenizer.chat_templates().end(), name) !=
         tokenizer.chat_templates().end();
}

}  // namespace

std::string DefaultTemplate(const internal::v1::WorkerStatus& model,
                            const internal::v1::TokenizerInfo& tokenizer) {
  if (!model.chat_template().empty() && Knows(tokenizer, model.chat_template())) {
    return model.chat_template();
  }
  return tokenizer.chat_template();
}

absl::StatusOr<internal::v1::RenderChatRequest> MakeRenderRequest(
    const v1::ChatPrompt& chat, const internal::v1::WorkerStatus& model,
    const internal::v1::TokenizerInfo& tokenizer) {
  const std::string names = absl::StrJoin(tokenizer.chat_templates(), ", ");
  const std::string wanted =
      chat.has_template_() ? chat.template_() : DefaultTemplate(model, tokenizer);
  if (wanted.empty()) {
    return WithReason(
        absl::FailedPreconditionError(absl::StrFormat(
            "model \"%s\" is for completion only, it has no chat template: send a text prompt, or "
            "choose a template in chat.template (%s)",
            model.model(), names)),
        "NO_CHAT_TEMPLATE", {{"model", model.model()}});
  }
  if (!Knows(tokenizer, wanted) && wanted != tokenizer.chat_template()) {
    return InvalidField("chat.template",
                        absl::StrFormat("\"%s\" is unknown, the templates are: %s", wanted, names));
  }
  internal::v1::RenderChatRequest render;
  render.set_tokenizer(TokenizerAddress(tokenizer));
  render.set_template_(wanted);
  for (const v1::ChatMessage& message : chat.messages()) {
    internal::v1::RenderMessage& copy = *render.add_messages();
    copy.set_role(message.role());
    copy.set_content(message.content());
  }
  return render;
}

}  // namespace yangtuo::gateway
