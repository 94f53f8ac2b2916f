#include "inference_core/checkpoint/adapter_fit.h"

#include <algorithm>
#include <map>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "inference_core/base/status_macros.h"
#include "inference_core/checkpoint/llama_tensors.h"
#include "inference_core/formats/nearest_name.h"
#include "inference_core/tokenizer/vocabulary.h"

namespace yangtuo {
namespace {

constexpr char kEmbedding[] = "model.embed_tokens.weight";
constexpr char kHead[] = "lm_head.weight";

// Published vocabularies, for messages.
std::string TokensOf(std::int32_t size) {
  const char* const name = size == 32000   ? " (LLaMA or LLaMA-2)"
                           : size == 49953 ? " (Chinese-LLaMA)"
                           : size == 49954 ? " (Chinese-Alpaca)"
                           : size == 55296 ? " (Chinese-LLaMA-2 or Chinese-Alpaca-2)"
                                           : "";
  return absl::StrFormat("%d tokens%s", size, name);
}

std::string SizeOf(std::int64_t hidden) {
  const char* const name = hidden == 4096   ? " (7B)"
                           : hidden == 5120 ? " (13B)"
                           : hidden == 6656 ? " (33B)"
                           : hidden == 8192 ? " (65B or 70B)"
                                            : "";
  return absl::StrFormat("%d%s", hidden, name);
}

absl::Status Misfit(const AdaptedModel& model, const PeftAdapter& adapter,
                    const std::string& what) {
  return absl::FailedPreconditionError(absl::StrFormat("adapter %s does not belong on %s: %s",
                                                       adapter.folder.string(), model.name, what));
}

std::string ShapeText(const std::vector<std::int64_t>& shape) {
  return absl::StrFormat("[%s]", absl::StrJoin(shape, ", "));
}

absl::Status CheckPair(const AdaptedModel& model, const PeftAdapter& adapter,
                       const LlamaTensor& tensor, const LoraPair& pair) {
  const std::int64_t rank = adapter.config.rank;
  const bool transposed = adapter.config.fan_in_fan_out;
  const std::int64_t out = tensor.shape[transposed ? 1 : 0];
  const std::int64_t in = tensor.shape[transposed ? 0 : 1];
  if (pair.a.shape == std::vector{rank, in} && pair.b.shape == std::vector{out, rank}) {
    return absl::OkStatus();
  }
  if (pair.a.shape.size() == 2 && pair.a.shape[0] != rank) {
    return Misfit(model, adapter,
                  absl::StrFormat("%s has shape %s, but adapter_config.json says r = %d",
                                  pair.a.name, ShapeText(pair.a.shape), rank));
  }
  const std::string hint =
      tensor.part == LlamaPart::kQuery && pair.a.shape.size() == 2
          ? absl::StrFormat("; it was trained on a model of hidden size %s, this one has %s",
                            SizeOf(pair.a.shape[1]), SizeOf(model.config.hidden))
          : std::string();
  return Misfit(model, adapter,
                absl::StrFormat("for %s %s expected factors [%d, %d] and [%d, %d], found %s and "
                                "%s%s",
                                HfName(tensor), ShapeText(tensor.shape), rank, in, out, rank,
                                ShapeText(pair.a.shape), ShapeText(pair.b.shape), hint));
}

// Factors and copies are of tensors that the model has, with their shapes.
absl::Status CheckTensors(const AdaptedModel& model, const PeftAdapter& adapter) {
  if (adapter.pairs.empty() && adapter.saved.empty()) {
    return Misfit(model, adapter, "it has no tensors");
  }
  std::map<std::string, LlamaTensor> known;
  std::vector<std::string> names;
  LlamaConfig untied = model.config;
  untied.tied_embeddings = false;  // an adapter may bring a head to a model without one
  for (LlamaTensor& tensor : ListLlamaTensors(untied)) {
    names.push_back(HfName(tensor));
    known.emplace(names.back(), std::move(tensor));
  }
  // Queries first: their shapes say best which model an adapter is for.
  std::vector<const std::pair<const std::string, LoraPair>*> pairs;
  for (const auto& entry : adapter.pairs) {
    pairs.push_back(&entry);
  }
  std::stable_partition(pairs.begin(), pairs.end(), [](const auto* entry) {
    return entry->first.find("q_proj") != std::string::npos;
  });
  for (const auto* const entry : pairs) {
    const auto found = known.find(entry->first);
    if (found == known.end()) {
      return Misfit(model, adapter,
                    absl::StrFormat("%s is for a tensor that the model does not have; the nearest "
                                    "is %s",
                                    entry->second.a.name, NearestTensorName(entry->first, names)));
    }
    if (found->second.shape.size() != 2 || found->second.part == LlamaPart::kEmbedding ||
        found->second.part == LlamaPart::kHead) {
      return Misfit(model, adapter,
                    absl::StrFormat("%s changes %s by factors; expected a projection of a layer",
                                    entry->second.a.name, entry->first));
    }
    YANGTUO_RETURN_IF_ERROR(CheckPair(model, adapter, found->second, entry->second));
  }
  for (const auto& [name, saved] : adapter.saved) {
    const auto found = known.find(name);
    if (found == known.end()) {
      return Misfit(model, adapter,
                    absl::StrFormat("%s is for a tensor that the model does not have; the nearest "
                                    "is %s",
                                    saved.name, NearestTensorName(name, names)));
    }
    const bool by_token = name == kEmbedding || name == kHead;
    const std::vector<std::int64_t>& shape = found->second.shape;
    const bool fits =
        by_token ? saved.shape.size() == 2 && saved.shape[1] == shape[1] : saved.shape == shape;
    if (!fits) {
      return Misfit(model, adapter,
                    absl::StrFormat(
                        "%s has shape %s, the model's has %s%s", saved.name, ShapeText(saved.shape),
                        ShapeText(shape),
                        by_token && saved.shape.size() == 2
                            ? "; it was trained on a model of hidden size " + SizeOf(saved.shape[1])
                            : ""));
    }
    if (adapter.pairs.contains(name)) {
      return Misfit(model, adapter, absl::StrFormat("%s is both replaced and changed", name));
    }
  }
  return absl::OkStatus();
}

std::optional<std::int32_t> SavedRows(const PeftAdapter& adapter, const char* name) {
  const auto saved = adapter.saved.find(name);
  return saved == adapter.saved.end()
             ? std::nullopt
             : std::optional(static_cast<std::int32_t>(saved->second.shape[0]));
}

constexpr char kOrderHint[] =
    "adapters go on in the order in which they were trained: first the pre-trained one "
    "(Chinese-LLaMA), then the instruction-tuned one (Chinese-Alpaca)";

// The number of tokens after the adapter.
absl::StatusOr<std::int32_t> NextVocab(const AdaptedModel& model, const PeftAdapter& adapter) {
  const std::int32_t vocab = model.config.vocab;
  const std::optional<std::int32_t> embedding = SavedRows(adapter, kEmbedding);
  const std::optional<std::int32_t> head = SavedRows(adapter, kHead);
  const std::optional<std::int32_t> tokenizer = adapter.tokenizer_size;
  if (embedding.has_value() && tokenizer.has_value() && *embedding != *tokenizer) {
    return Misfit(
        model, adapter,
        absl::StrFormat("its embedding has %d rows, but the tokenizer.model in its folder "
                        "has %s; put the tokenizer that was published with this adapter "
                        "into its folder",
                        *embedding, TokensOf(*tokenizer)));
  }
  const std::int32_t next = embedding.value_or(head.value_or(tokenizer.value_or(vocab)));
  if (next < vocab) {
    return Misfit(model, adapter,
                  absl::StrFormat("it is for %s, fewer than the model's %s; %s", TokensOf(next),
                                  TokensOf(vocab), kOrderHint));
  }
  if (head.has_value() && *head != next) {
    return Misfit(model, adapter,
                  absl::StrFormat("its head has %d rows, its embedding %d", *head, next));
  }
  const bool complete = embedding.has_value() && (head.has_value() || model.config.tied_embeddings);
  if (next > vocab && !complete) {
    return Misfit(model, adapter,
                  absl::StrFormat(
                      "it is for %s, the model has %s, and the adapter does not bring the missing "
                      "rows of embedding and head; give the model or the adapter that it was "
                      "trained on first: %s",
                      TokensOf(next), TokensOf(vocab), kOrderHint));
  }
  return next;
}

// New tokenizers extend old ones: a piece that changed its id betrays a mix-up.
absl::Status CheckTokenizers(const AdaptedModel& model, const PeftAdapter& adapter) {
  if (model.tokenizer_model.empty() || adapter.tokenizer_model.empty()) {
    return absl::OkStatus();
  }
  YANGTUO_ASSIGN_OR_RETURN(const Vocabulary old,
                           Vocabulary::Parse(model.tokenizer_model, model.name));
  YANGTUO_ASSIGN_OR_RETURN(
      const Vocabulary added,
      Vocabulary::Parse(adapter.tokenizer_model, (adapter.folder / "tokenizer.model").string()));
  for (std::int32_t id = 0; id < std::min(old.size(), added.size()); ++id) {
    if (old.piece(id).literal != added.piece(id).literal) {
      return Misfit(
          model, adapter,
          absl::StrFormat("token %d is \"%s\" in the model's tokenizer (%s) and \"%s\" in the "
                          "adapter's (%s), which should extend it; Chinese-LLaMA and "
                          "Chinese-Alpaca go on LLaMA, Chinese-LLaMA-2 and Chinese-Alpaca-2 on "
                          "LLaMA-2",
                          id, old.piece(id).literal, TokensOf(old.size()), added.piece(id).literal,
                          TokensOf(added.size())));
    }
  }
  return absl::OkStatus();
}

// An adapter's own config.json is how rope settings of long models travel; shapes must be equal.
absl::StatusOr<LlamaConfig> NextConfig(const AdaptedModel& model, const PeftAdapter& adapter) {
  LlamaConfig config = adapter.model_config.value_or(model.config);
  LlamaConfig shape = config;
  shape.vocab = model.config.vocab;
  const auto shapes = [](const LlamaConfig& c) {
    return absl::StrFormat("%d layers of hidden size %d, %d heads (%d for keys) of %d, ffn %d",
                           c.layers, c.hidden, c.heads, c.kv_heads, c.head_dim, c.ffn);
  };
  if (shapes(shape) != shapes(model.config)) {
    return Misfit(model, adapter,
                  absl::StrFormat("its config.json has %s, the model has %s", shapes(shape),
                                  shapes(model.config)));
  }
  YANGTUO_ASSIGN_OR_RETURN(config.vocab, NextVocab(model, adapter));
  config.tied_embeddings = model.config.tied_embeddings && !adapter.saved.contains(kHead);
  return config;
}

}  // namespace

absl::StatusOr<AdaptedModel> Adapt(const AdaptedModel& model, const PeftAdapter& adapter) {
  YANGTUO_RETURN_IF_ERROR(CheckTensors(model, adapter));
  AdaptedModel next = model;
  YANGTUO_ASSIGN_OR_RETURN(next.config, NextConfig(model, adapter));
  YANGTUO_RETURN_IF_ERROR(CheckTokenizers(model, adapter));
  if (!adapter.tokenizer_model.empty()) {
    next.tokenizer_model = adapter.tokenizer_model;
  }
  next.name += " with " + adapter.folder.filename().string();
  return next;
}

}  // namespace yangtuo
