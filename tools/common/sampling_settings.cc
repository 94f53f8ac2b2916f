#include "tools/common/sampling_settings.h"

#include <algorithm>

namespace yangtuo {
namespace {

constexpr std::uint32_t kDefaultMaxNewTokens = 512;

}  // namespace

std::uint32_t SamplingSettings::MaxNewTokens(const v1::Model& model) const {
  return max_new_tokens.value_or(model.context_tokens() == 0
                                     ? kDefaultMaxNewTokens
                                     : std::min(kDefaultMaxNewTokens, model.context_tokens()));
}

void SamplingSettings::ApplyTo(v1::GenerateRequest& request, const v1::Model& model) const {
  v1::SamplingParams& params = *request.mutable_sampling();
  params.set_temperature(temperature);
  params.set_top_k(model.vocabulary_size() == 0 ? top_k : std::min(top_k, model.vocabulary_size()));
  params.set_top_p(top_p);
  params.set_repetition_penalty(repetition_penalty);
  if (min_p) {
    params.set_min_p(*min_p);
  }
  if (presence_penalty) {
    params.set_presence_penalty(*presence_penalty);
  }
  if (frequency_penalty) {
    params.set_frequency_penalty(*frequency_penalty);
  }
  if (seed) {
    params.set_seed(*seed);
  }
  v1::StopConditions& conditions = *request.mutable_stop();
  conditions.set_max_new_tokens(MaxNewTokens(model));
  for (const std::string& text : stop) {
    conditions.add_stop_strings(text);
  }
}

}  // namespace yangtuo
