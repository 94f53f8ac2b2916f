#include "gateway/openai/other_calls.h"

#include <bit>
#include <cmath>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_format.h"
#include "gateway/openai/generate_request.h"
#include "inference_core/base/status_macros.h"

namespace yangtuo::gateway::openai {
namespace {

bool IsListOf(const Json& value, bool (Json::*is_kind)() const noexcept) {
  return value.is_array() && !value.empty() && (value.front().*is_kind)();
}

absl::Status ReadInputs(Fields& fields, EmbedCall& call) {
  const Json* input = fields.Find("input");
  if (input == nullptr) {
    return WrongField("input", "is missing");
  }
  if (IsListOf(*input, &Json::is_number)) {
    YANGTUO_ASSIGN_OR_RETURN(call.token_inputs.emplace_back(), TokenIdsOf("input", *input));
  } else if (IsListOf(*input, &Json::is_array)) {
    for (const Json& ids : *input) {
      YANGTUO_ASSIGN_OR_RETURN(call.token_inputs.emplace_back(), TokenIdsOf("input", ids));
    }
  } else {
    for (std::string& text : fields.Texts("input")) {
      call.request.add_texts(std::move(text));
    }
  }
  return fields.status();
}

std::string Base64Of(const std::vector<float>& values) {
  static_assert(std::endian::native == std::endian::little, "clients expect little-endian floats");
  return absl::Base64Escape(absl::string_view(reinterpret_cast<const char*>(values.data()),
                                              values.size() * sizeof(float)));
}

std::vector<float> FirstOf(const v1::Embedding& embedding, std::size_t dimensions) {
  std::vector<float> values(embedding.values().begin(), embedding.values().end());
  if (dimensions == 0 || dimensions >= values.size()) {
    return values;
  }
  values.resize(dimensions);
  double squares = 0;
  for (const float value : values) {
    squares += static_cast<double>(value) * value;
  }
  for (float& value : values) {
    value = squares > 0 ? static_cast<float>(value / std::sqrt(squares)) : value;
  }
  return values;
}

}  // namespace

absl::StatusOr<EmbedCall> ParseEmbedCall(const Json& body) {
  EmbedCall call;
  Fields fields(body);
  call.request.set_model(fields.Text("model").value_or(""));
  call.request.set_truncate(fields.Bool("truncate").value_or(false));
  const std::string format = fields.Text("encoding_format").value_or("float");
  if (format != "float" && format != "base64") {
    fields.Fail(WrongField("encoding_format", "must be float or base64"));
  }
  call.encoding = format == "base64" ? VectorEncoding::kBase64 : VectorEncoding::kFloats;
  if (const auto dimensions = fields.Count("dimensions"); dimensions.has_value()) {
    call.dimensions = *dimensions;
    if (*dimensions == 0) {
      fields.Fail(WrongField("dimensions", "is 0, must be at least 1"));
    }
  }
  YANGTUO_RETURN_IF_ERROR(fields.status());
  YANGTUO_RETURN_IF_ERROR(ReadInputs(fields, call));
  return call;
}

absl::StatusOr<Json> EmbedAnswer(const EmbedCall& call, const v1::EmbedResponse& response) {
  Json data = Json::array();
  for (const v1::Embedding& embedding : response.embeddings()) {
    if (call.dimensions > static_cast<std::uint32_t>(embedding.values_size())) {
      return WrongField("dimensions", absl::StrFormat("is %u, this model's vectors have %d",
                                                      call.dimensions, embedding.values_size()));
    }
    const std::vector<float> values = FirstOf(embedding, call.dimensions);
    Json item = {{"object", "embedding"}, {"index", data.size()}};
    item["embedding"] =
        call.encoding == VectorEncoding::kBase64 ? Json(Base64Of(values)) : Json(values);
    data.push_back(std::move(item));
  }
  return Json{{"object", "list"},
              {"data", std::move(data)},
              {"model", response.model()},
              {"usage",
               {{"prompt_tokens", response.usage().prompt_tokens()},
                {"total_tokens", response.usage().prompt_tokens()}}}};
}

absl::StatusOr<v1::TokenizeRequest> ParseTokenizeCall(const Json& body) {
  v1::TokenizeRequest request;
  Fields fields(body);
  request.set_model(fields.Text("model").value_or(""));
  const auto prompt = fields.Text("prompt");
  const auto content = fields.Text("content");
  const Json* messages = fields.Find("messages");
  if (messages != nullptr) {
    YANGTUO_ASSIGN_OR_RETURN(*request.mutable_chat(), ParseMessages(*messages));
  } else if (prompt.has_value()) {
    request.set_text(*prompt);
    request.set_add_bos(fields.Bool("add_special_tokens").value_or(true));
  } else if (content.has_value()) {
    request.set_text(*content);
    request.set_add_bos(fields.Bool("add_special").value_or(false));
  } else {
    fields.Fail(WrongField("prompt", "is missing: give one of prompt, content and messages"));
  }
  YANGTUO_RETURN_IF_ERROR(fields.status());
  return request;
}

Json TokenizeAnswer(const v1::TokenizeResponse& response, std::uint32_t context_tokens) {
  return {{"model", response.model()},
          {"tokens", Json(response.token_ids())},
          {"count", response.token_ids_size()},
          {"max_model_len", context_tokens}};
}

absl::StatusOr<v1::DetokenizeRequest> ParseDetokenizeCall(const Json& body) {
  v1::DetokenizeRequest request;
  Fields fields(body);
  request.set_model(fields.Text("model").value_or(""));
  if (fields.Find("tokens") == nullptr) {
    fields.Fail(WrongField("tokens", "is missing"));
  }
  for (const std::uint32_t id : fields.Ids("tokens")) {
    request.add_token_ids(id);
  }
  YANGTUO_RETURN_IF_ERROR(fields.status());
  return request;
}

Json DetokenizeAnswer(const v1::DetokenizeResponse& response) {
  return {{"model", response.model()},
          {"content", response.text()},  // llama.cpp
          {"prompt", response.text()},   // vLLM
          {"text", response.text()}};    // private-gpt's second choice
}

Json ModelJson(const v1::Model& model, std::int64_t created) {
  Json capabilities = Json::array({"completion", "embedding"});
  if (!model.chat_template().empty()) {
    capabilities.push_back("chat");
  }
  return {{"id", model.name()},
          {"object", "model"},
          {"created", created},
          {"owned_by", "yangtuo"},
          {"root", model.name()},
          {"parent", nullptr},
          {"permission", Json::array()},
          {"max_model_len", model.context_tokens()},   // vLLM
          {"context_window", model.context_tokens()},  // private-gpt
          {"context_length", model.context_tokens()},
          {"embedding_dimension", model.hidden_size()},
          {"capabilities", std::move(capabilities)},
          {"chat_template", model.chat_template()},
          {"ready", model.ready_groups() > 0},
          {"meta",  // llama.cpp
           {{"n_ctx", model.context_tokens()},
            {"n_ctx_train", model.context_tokens()},
            {"n_vocab", model.vocabulary_size()},
            {"n_embd", model.hidden_size()}}}};
}

Json ModelsAnswer(const v1::ListModelsResponse& response, std::int64_t created) {
  Json data = Json::array();
  for (const v1::Model& model : response.models()) {
    data.push_back(ModelJson(model, created));
  }
  return {{"object", "list"}, {"data", std::move(data)}};
}

}  // namespace yangtuo::gateway::openai
