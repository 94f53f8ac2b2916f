#include "tests/inference_core/model/stage_driver.h"

#include <algorithm>
#include <cstring>
#include <random>
#include <stdexcept>
#include <utility>

namespace yangtuo {
namespace {

// A sequence under way.
struct Live {
  const DriverRequest* request = nullptr;
  DriverAnswer* answer = nullptr;
  SequenceId id = 0;
  bool open = false;
  std::int32_t computed = 0;
  std::vector<std::int32_t> blocks;

  [[nodiscard]] std::int32_t tokens() const {
    return static_cast<std::int32_t>(request->prompt.size() + answer->tokens.size());
  }
  [[nodiscard]] TokenId token(std::int32_t position) const {
    const auto at = static_cast<std::size_t>(position);
    return at < request->prompt.size() ? request->prompt[at]
                                       : answer->tokens[at - request->prompt.size()].id;
  }
  [[nodiscard]] bool done() const {
    return request->task == SequenceTask::kEmbed
               ? !answer->embedding.empty()
               : static_cast<std::int32_t>(answer->tokens.size()) >= request->new_tokens;
  }
};

class Driver {
 public:
  Driver(Stage& stage, const DriverSchedule& schedule)
      : stage_(stage), schedule_(schedule), random_(schedule.seed) {
    for (std::int32_t block = 0; block < stage.info().kv_blocks; ++block) {
      free_blocks_.push_back(block);
    }
    std::shuffle(free_blocks_.begin(), free_blocks_.end(), random_);
  }

  void Run(std::vector<Live>& live) {
    while (!std::all_of(live.begin(), live.end(), [](const Live& l) { return l.done(); })) {
      const Step step = NextStep(live);
      if (absl::Status status = stage_.Submit(step); !status.ok()) {
        throw std::runtime_error(status.ToString());
      }
      absl::StatusOr<StepResult> result = stage_.Next();
      if (!result.ok()) {
        throw std::runtime_error(result.status().ToString());
      }
      if (!result->failures.empty()) {
        throw std::runtime_error(result->failures.front().status.ToString());
      }
      Take(*std::move(result), live);
    }
  }

 private:
  [[nodiscard]] bool Chance(std::int32_t percent) {
    return std::uniform_int_distribution<std::int32_t>(0, 99)(random_) < percent;
  }

  Step NextStep(std::vector<Live>& live) {
    Step step;
    step.id = ++steps_;
    std::int32_t budget = stage_.info().max_step_tokens;
    std::vector<Live*> order;
    for (Live& l : live) {
      order.push_back(&l);
    }
    std::shuffle(order.begin(), order.end(), random_);
    for (Live* l : order) {
      if (l->done() || budget == 0) {
        continue;
      }
      if (l->open && l->request->task == SequenceTask::kGenerate && !l->request->prompt_logprobs &&
          Chance(schedule_.preempt_percent)) {
        step.closes.push_back(l->id);
        free_blocks_.insert(free_blocks_.begin(), l->blocks.begin(), l->blocks.end());
        *l = {.request = l->request, .answer = l->answer, .blocks = {}};
        continue;
      }
      if (!Chance(schedule_.skip_percent)) {
        AddRows(*l, budget, step);
      }
    }
    return step;
  }

  void AddRows(Live& l, std::int32_t& budget, Step& step) {
    if (!l.open) {
      l.id = ++sequences_;
      l.open = true;
      SequenceOpen open;
      open.id = l.id;
      open.task = l.request->task;
      open.prompt_ids = l.request->prompt;
      for (const SampledToken& token : l.answer->tokens) {
        open.emitted_ids.push_back(token.id);
      }
      open.sampling = l.request->sampling;
      open.prompt_logprobs = l.request->prompt_logprobs;
      step.opens.push_back(std::move(open));
    }
    const std::int32_t most = std::min({l.tokens() - l.computed, budget, schedule_.max_chunk});
    const std::int32_t least = schedule_.max_chunk >= 512 ? most : 1;
    const auto count = std::uniform_int_distribution<std::int32_t>(least, most)(random_);
    StepRows rows;
    rows.id = l.id;
    rows.first_position = l.computed;
    for (std::int32_t i = 0; i < count; ++i) {
      rows.token_ids.push_back(l.token(l.computed + i));
    }
    l.computed += count;
    budget -= count;
    while (static_cast<std::int32_t>(l.blocks.size()) * stage_.info().kv_block_size < l.computed) {
      l.blocks.push_back(free_blocks_.back());
      free_blocks_.pop_back();
    }
    rows.kv_blocks = l.blocks;
    rows.want_output = l.computed == l.tokens();
    step.rows.push_back(std::move(rows));
  }

  static Live& Find(std::vector<Live>& live, SequenceId id) {
    for (Live& l : live) {
      if (l.open && l.id == id) {
        return l;
      }
    }
    throw std::runtime_error("a result of an unknown sequence");
  }

  void Take(StepResult result, std::vector<Live>& live) {
    if (result.id != steps_) {
      throw std::runtime_error("results out of order");
    }
    for (PromptLogprobs& part : result.prompt_logprobs) {
      std::vector<SampledToken>& all = Find(live, part.id).answer->prompt_logprobs;
      if (part.first_position != static_cast<std::int32_t>(all.size()) + 1) {
        throw std::runtime_error("prompt log-probabilities with a gap");
      }
      std::move(part.entries.begin(), part.entries.end(), std::back_inserter(all));
    }
    for (SequenceSample& sample : result.samples) {
      Find(live, sample.id).answer->tokens.push_back(std::move(sample.token));
    }
    for (SequenceEmbedding& embedding : result.embeddings) {
      Find(live, embedding.id).answer->embedding = std::move(embedding.values);
    }
  }

  Stage& stage_;
  DriverSchedule schedule_;
  std::mt19937 random_;
  std::uint64_t steps_ = 0;
  SequenceId sequences_ = 0;
  std::vector<std::int32_t> free_blocks_;
};

bool SameFloat(float a, float b) { return std::memcmp(&a, &b, sizeof(float)) == 0; }

bool SameTokens(const std::vector<SampledToken>& a, const std::vector<SampledToken>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [](const SampledToken& x, const SampledToken& y) {
                      return x.id == y.id && SameFloat(x.logprob, y.logprob) &&
                             std::equal(x.top.begin(), x.top.end(), y.top.begin(), y.top.end(),
                                        [](const TokenLogprob& s, const TokenLogprob& t) {
                                          return s.id == t.id && SameFloat(s.logprob, t.logprob);
                                        });
                    });
}

}  // namespace

std::vector<DriverAnswer> Drive(Stage& stage, std::span<const DriverRequest> requests,
                                const DriverSchedule& schedule) {
  if (const absl::Status status = stage.Reset(); !status.ok()) {
    throw std::runtime_error(status.ToString());
  }
  std::vector<DriverAnswer> answers(requests.size());
  std::vector<Live> live(requests.size());
  for (std::size_t i = 0; i < requests.size(); ++i) {
    live[i].request = &requests[i];
    live[i].answer = &answers[i];
  }
  Driver(stage, schedule).Run(live);
  return answers;
}

bool SameAnswer(const DriverAnswer& a, const DriverAnswer& b) {
  return SameTokens(a.tokens, b.tokens) && SameTokens(a.prompt_logprobs, b.prompt_logprobs) &&
         std::equal(a.embedding.begin(), a.embedding.end(), b.embedding.begin(), b.embedding.end(),
                    SameFloat);
}

}  // namespace yangtuo
