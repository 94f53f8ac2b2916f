#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "inference_core/checkpoint/peft_adapter.h"
#include "inference_core/checkpoint/tensor_source.h"
#include "inference_core/formats/hf_config.h"

namespace yangtuo {

// A model on its way through adapters: what the next one is checked against.
struct AdaptedModel {
  LlamaConfig config;
  std::string tokenizer_model;  // of the last adapter that has one, else the model's own
  std::string name;             // path, and adapters so far, for messages
};

// The model after `adapter`, whose values travel: vocabulary, tokenizer, and of its own config.json
// what does not decide shapes. FAILED_PRECONDITION when the two do not belong together; the message
// says what was found and which pairing is right. Pairs are published like this (tokens):
// LLaMA 32,000 -> Chinese-LLaMA 49,953 -> Chinese-Alpaca 49,954; LLaMA-2 32,000 ->
// Chinese-LLaMA-2 and Chinese-Alpaca-2 55,296.
absl::StatusOr<AdaptedModel> Adapt(const AdaptedModel& model, const PeftAdapter& adapter);

}  // namespace yangtuo
