#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "gateway/choice_text.h"
#include "gateway/generation_flow.h"
#include "gateway/text_stream.h"
#include "gateway/worker_stream.h"

namespace yangtuo::gateway {

// One choice of a request; guarded by the flow's lock.
struct GenerationFlow::Choice {
  Choice(std::uint32_t number, ChoiceText::Options options)
      : index(number), text(std::move(options)) {}

  std::uint32_t index;
  ChoiceText text;
  std::vector<std::uint32_t> ids;  // everything received so far
  std::unique_ptr<WorkerStream> stream;
  std::shared_ptr<TextStream> decode;

  // Of the prompt, gathered until the first id.
  std::vector<v1::PositionLogprobs> prompt_logprobs;
  bool echoed = false;

  // Where it runs and ran.
  int streams = 0;
  int attempts = 0;  // streams since the last token, the one that brought it included
  std::string worker;
  std::string numerics_id;
  std::vector<std::string> lost_workers;
  std::optional<TimePoint> give_up;  // set while it waits for a group

  std::optional<TimePoint> first_token;
  TimePoint last_token{};
  std::uint32_t cached_prompt_tokens = 0;  // as its first stream with tokens said
  Duration worker_queue{};
  bool done = false;
  v1::ChoiceResult result;
};

// Hands the events of one choice's streams to its flow, and keeps the flow alive for them.
class GenerationFlow::ChoiceEvents final : public WorkerStreamEvents, public TextEvents {
 public:
  ChoiceEvents(std::shared_ptr<GenerationFlow> flow, std::size_t index)
      : flow_(std::move(flow)), index_(index) {}

  void OnStreamDelta(internal::v1::GenerateDelta& delta) override { flow_->OnDelta(index_, delta); }
  void OnStreamEnd(const absl::Status& status,
                   const internal::v1::GenerateFinished* finished) override {
    flow_->OnStreamEnd(index_, status, finished);
  }
  void OnText(std::string_view text, std::uint32_t ids_consumed) override {
    flow_->OnText(index_, text, ids_consumed);
  }
  void OnTextEnd(const absl::Status& status) override { flow_->OnTextEnd(index_, status); }

 private:
  const std::shared_ptr<GenerationFlow> flow_;
  const std::size_t index_;
};

}  // namespace yangtuo::gateway
