#include "tools/quantize/type_rules.h"

#include <algorithm>
#include <fnmatch.h>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_format.h"
#include "inference_core/quant/quant.h"

namespace yangtuo {
namespace {

// Norms keep their type whatever the rules say.
bool Matches(const KeepRule& rule, const TensorSpec& tensor) {
  return tensor.shape.size() >= 2 && fnmatch(rule.pattern.c_str(), tensor.name.c_str(), 0) == 0;
}

}  // namespace

absl::StatusOr<KeepRule> ParseKeepRule(std::string_view text) {
  const std::size_t equals = text.rfind('=');
  const auto name = equals == std::string_view::npos ? "" : text.substr(equals + 1);
  const std::optional<DType> type = DTypeNamed(name);
  if (!type.has_value() || !CanQuantizeTo(*type)) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "--keep %s: expected PATTERN=TYPE with a type of f32, f16, bf16, q8_0, q6_k, q4_k, q4_0, "
        "int8, int4",
        text));
  }
  return KeepRule{std::string(text.substr(0, equals)), *type};
}

absl::StatusOr<TypePolicy> QuantizedTypes(DType type, std::vector<KeepRule> rules,
                                          const Checkpoint& input, CheckpointFormat output) {
  const std::vector<TensorSpec>& tensors = input.tensors->tensors();
  for (const KeepRule& rule : rules) {
    if (std::none_of(tensors.begin(), tensors.end(),
                     [&](const TensorSpec& tensor) { return Matches(rule, tensor); })) {
      return absl::InvalidArgumentError(absl::StrFormat(
          "--keep %s=%s: no matrix has such a name; there are names like %s and %s", rule.pattern,
          NameOf(rule.type), tensors.front().name, tensors.back().name));
    }
  }
  const std::string head =
      input.config.tied_embeddings ? "model.embed_tokens.weight" : "lm_head.weight";
  return TypePolicy([=, rules = std::move(rules)](const TensorSpec& from) {
    if (from.shape.size() < 2) {
      return output == CheckpointFormat::kGguf ? DType::kF32 : from.dtype;
    }
    const auto rule = std::find_if(rules.begin(), rules.end(), [&](const KeepRule& candidate) {
      return Matches(candidate, from);
    });
    if (rule != rules.end()) {
      return rule->type;
    }
    return type == DType::kQ4_K && from.name == head ? DType::kQ6_K : type;
  });
}

}  // namespace yangtuo
