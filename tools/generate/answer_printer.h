#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "inference_core/base/clock.h"
#include "yangtuo/v1/generation.pb.h"

namespace yangtuo {

// Where text goes; called with complete UTF-8 characters.
using TextSink = std::function<void(std::string_view)>;

// Prints the events of one Generate call as plain text: the first choice as it comes, the others
// one after the other at the end, since a terminal shows one text at a time.
class AnswerPrinter {
 public:
  explicit AnswerPrinter(TextSink sink) : sink_(std::move(sink)) {}

  void OnEvent(const v1::GenerateResponse& response);
  // After the last event, whatever the status: the other choices, log-probabilities and the newline
  // at the end.
  void Finish();

  // Of the first choice.
  [[nodiscard]] const std::string& text() const { return first_text_; }
  [[nodiscard]] const v1::Started& started() const { return started_; }
  [[nodiscard]] const v1::Finished& finished() const { return finished_; }

 private:
  void PrintLogprobs(std::uint32_t choice);

  TextSink sink_;
  std::string first_text_;
  std::map<std::uint32_t, std::string> other_texts_;
  std::map<std::uint32_t, std::vector<v1::PositionLogprobs>> logprobs_;
  v1::Started started_;
  v1::Finished finished_;
};

// One event as one line of JSON, field names as in the proto.
std::string ToJsonLine(const v1::GenerateResponse& response);

// "23 prompt + 48 answer tokens, first after 0.085 s, 23.4 tokens/s, 2.13 s in all; ended at its
// end; seed 17". `wall` is the whole call as the client saw it.
std::string DescribeStats(const v1::Started& started, const v1::Finished& finished, Duration wall);

}  // namespace yangtuo
