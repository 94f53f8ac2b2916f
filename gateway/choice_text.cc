#include "gateway/choice_text.h"

#include <algorithm>
#include <utility>

#include "gateway/utf8.h"

namespace yangtuo::gateway {
namespace {

void FillPiece(const std::vector<std::string>& pieces, v1::TokenLogprob& token) {
  if (token.token_id() < pieces.size()) {
    token.set_token(pieces[token.token_id()]);
  }
}

}  // namespace

void FillPieces(const std::vector<std::string>& pieces, v1::PositionLogprobs& entry) {
  if (entry.has_chosen()) {
    FillPiece(pieces, *entry.mutable_chosen());
  }
  for (v1::TokenLogprob& token : *entry.mutable_top()) {
    FillPiece(pieces, token);
  }
}

void ChoiceText::AddTokens(std::span<const std::uint32_t> ids,
                           google::protobuf::RepeatedPtrField<v1::PositionLogprobs>* logprobs) {
  for (std::size_t i = 0; i < ids.size(); ++i) {
    Token& token = untold_.emplace_back();
    token.id = ids[i];
    if (options_.pieces == nullptr) {
      continue;
    }
    if (logprobs != nullptr && i < static_cast<std::size_t>(logprobs->size())) {
      token.logprobs = std::move(*logprobs->Mutable(static_cast<int>(i)));
    }
    FillPieces(*options_.pieces, token.logprobs);
  }
}

std::optional<v1::Delta> ChoiceText::AddText(std::string_view text, std::uint32_t ids_consumed) {
  if (matcher_.found().has_value()) {
    return std::nullopt;
  }
  ids_consumed_ = std::max(ids_consumed_, ids_consumed);
  std::string released;
  if (IsUtf8(text)) {
    matcher_.Push(text, released);
  } else {
    matcher_.Push(ReplaceInvalidUtf8(text), released);
  }
  return Tell(std::move(released), options_.pieces != nullptr);
}

std::optional<v1::Delta> ChoiceText::Finish() {
  std::string released;
  matcher_.Finish(released);
  // The last ids may have no text: special tokens.
  return Tell(std::move(released), true);
}

std::optional<v1::Delta> ChoiceText::Tell(std::string text, bool ids_alone) {
  const std::size_t ready = std::min<std::size_t>(ids_consumed_ - ids_told_, untold_.size());
  if (text.empty() && (!ids_alone || ready == 0)) {
    return std::nullopt;
  }
  v1::Delta delta;
  delta.set_choice(options_.choice);
  delta.set_text(std::move(text));
  for (std::size_t i = 0; i < ready; ++i) {
    delta.add_token_ids(untold_.front().id);
    if (options_.pieces != nullptr) {
      *delta.add_logprobs() = std::move(untold_.front().logprobs);
    }
    untold_.pop_front();
  }
  ids_told_ += static_cast<std::uint32_t>(ready);
  return delta;
}

}  // namespace yangtuo::gateway
