#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "gateway/stop_matcher.h"
#include "yangtuo/v1/generation.pb.h"

namespace yangtuo::gateway {

// Fills in the bytes of every token in `entry`; ids that the table lacks stay without.
void FillPieces(const std::vector<std::string>& pieces, v1::PositionLogprobs& entry);

// Makes the deltas of one choice out of what arrives separately: ids with log-probabilities from
// the worker, text from the tokenizer. Not thread-safe; it knows neither of them.
class ChoiceText {
 public:
  struct Options {
    std::uint32_t choice = 0;
    std::vector<std::string> stop_strings{};
    // Set if and only if log-probabilities were asked for: the bytes of every id.
    std::shared_ptr<const std::vector<std::string>> pieces{};
  };

  explicit ChoiceText(Options options)
      : options_(std::move(options)), matcher_(options_.stop_strings) {}

  // Ids that were sent to the tokenizer. `logprobs` has one entry per id, or is not looked at.
  void AddTokens(std::span<const std::uint32_t> ids,
                 google::protobuf::RepeatedPtrField<v1::PositionLogprobs>* logprobs);

  // `text` is new, and all of `ids_consumed` ids are behind the text so far. Empty when there is
  // nothing to tell yet. After a stop string was found nothing more is told.
  std::optional<v1::Delta> AddText(std::string_view text, std::uint32_t ids_consumed);
  // The text is complete: what was held back, and ids that no text came after.
  std::optional<v1::Delta> Finish();

  [[nodiscard]] const std::optional<std::string>& stop_string() const { return matcher_.found(); }
  // Ids behind the text up to now, or up to the stop string.
  [[nodiscard]] std::uint32_t ids_consumed() const { return ids_consumed_; }

 private:
  struct Token {
    std::uint32_t id;
    v1::PositionLogprobs logprobs;
  };

  // `ids_alone`: also without text.
  std::optional<v1::Delta> Tell(std::string text, bool ids_alone);

  const Options options_;
  StopMatcher matcher_;
  std::uint32_t ids_consumed_ = 0;
  std::uint32_t ids_told_ = 0;
  std::deque<Token> untold_;  // behind no delta yet
};

}  // namespace yangtuo::gateway
