#include "tools/generate/answer_printer.h"

#include <algorithm>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_format.h"
#include "google/protobuf/util/json_util.h"
#include "tools/common/text_width.h"

namespace yangtuo {
namespace {

double Seconds(const google::protobuf::Duration& duration) {
  return static_cast<double>(duration.seconds()) + static_cast<double>(duration.nanos()) * 1e-9;
}

// A token's bytes in quotes; bytes that are no text, and control characters, as escapes.
std::string Quoted(const std::string& token) {
  const std::string escaped =
      FindInvalidUtf8(token) ? absl::CHexEscape(token) : absl::Utf8SafeCHexEscape(token);
  return "\"" + escaped + "\"";
}

std::string WhyItEnded(const v1::ChoiceResult& choice) {
  if (choice.finish_reason() == v1::FINISH_REASON_LENGTH) {
    return "cut at the length limit";
  }
  if (choice.stopped_by_case() == v1::ChoiceResult::kStopString) {
    return absl::StrFormat("stopped by %s", Quoted(choice.stop_string()));
  }
  return "complete";
}

}  // namespace

void AnswerPrinter::OnEvent(const v1::GenerateResponse& response) {
  switch (response.event_case()) {
    case v1::GenerateResponse::kStarted:
      started_ = response.started();
      break;
    case v1::GenerateResponse::kDelta: {
      const v1::Delta& delta = response.delta();
      auto& logprobs = logprobs_[delta.choice()];
      logprobs.insert(logprobs.end(), delta.logprobs().begin(), delta.logprobs().end());
      if (delta.choice() > 0) {
        other_texts_[delta.choice()] += delta.text();
      } else if (!delta.text().empty()) {
        first_text_ += delta.text();
        sink_(delta.text());
      }
      break;
    }
    case v1::GenerateResponse::kFinished:
      finished_ = response.finished();
      break;
    case v1::GenerateResponse::EVENT_NOT_SET:
      break;  // of a newer gateway
  }
}

void AnswerPrinter::Finish() {
  if (!first_text_.empty() && first_text_.back() != '\n') {
    sink_("\n");
  }
  PrintLogprobs(0);
  for (const auto& [choice, text] : other_texts_) {
    sink_(absl::StrFormat("\n--- choice %u\n%s%s", choice + 1, text,
                          text.empty() || text.back() == '\n' ? "" : "\n"));
    PrintLogprobs(choice);
  }
}

void AnswerPrinter::PrintLogprobs(std::uint32_t choice) {
  std::string lines;
  for (const v1::PositionLogprobs& position : logprobs_[choice]) {
    const v1::TokenLogprob& chosen = position.chosen();
    absl::StrAppendFormat(
        &lines, "%9s  %6u  %s",
        chosen.no_logprob() ? std::string("-") : absl::StrFormat("%.4f", chosen.logprob()),
        chosen.token_id(), Quoted(chosen.token()));
    const char* separator = "   of: ";
    for (const v1::TokenLogprob& candidate : position.top()) {
      absl::StrAppendFormat(&lines, "%s%s %.4f", separator, Quoted(candidate.token()),
                            candidate.logprob());
      separator = ", ";
    }
    lines += "\n";
  }
  if (!lines.empty()) {
    sink_("\n  logprob      id  token\n" + lines);
  }
}

std::string ToJsonLine(const v1::GenerateResponse& response) {
  google::protobuf::util::JsonPrintOptions options;
  options.preserve_proto_field_names = true;
  std::string line;
  if (!google::protobuf::util::MessageToJsonString(response, &line, options).ok()) {
    line = "{}";  // cannot happen: every message of the schema has a JSON form
  }
  return line + "\n";
}

std::string DescribeStats(const v1::Started& started, const v1::Finished& finished, Duration wall) {
  const double first = Seconds(finished.timings().time_to_first_token());
  const double total =
      finished.timings().has_total() ? Seconds(finished.timings().total()) : ToSeconds(wall);
  const std::uint32_t tokens = finished.usage().completion_tokens();
  const auto choices = static_cast<std::uint32_t>(std::max(1, finished.choices_size()));
  std::string text = absl::StrFormat("%u prompt + %u answer tokens, first after %.3g s",
                                     finished.usage().prompt_tokens(), tokens, first);
  // The first token of every choice comes with the prompt; the rest are decoding.
  if (tokens > choices && total > first) {
    absl::StrAppendFormat(&text, ", %.3g tokens/s",
                          static_cast<double>(tokens - choices) / (total - first));
  }
  absl::StrAppendFormat(&text, ", %.3g s in all", ToSeconds(wall));
  for (const v1::ChoiceResult& choice : finished.choices()) {
    absl::StrAppendFormat(&text, "; %s%s",
                          choices > 1 ? absl::StrFormat("choice %u ", choice.choice() + 1) : "",
                          WhyItEnded(choice));
  }
  absl::StrAppendFormat(&text, "; seed %u", started.seed());
  return text;
}

}  // namespace yangtuo
