#include "services/inference/readiness.h"

#include <span>
#include <string>
#include <utility>
#include <vector>

#include "services/common/log.h"

namespace yangtuo {
namespace {

constexpr Duration kProbePause = std::chrono::seconds(1);

}  // namespace

// One request at a time. The engine's thread ends it, the ticker's begins it.
class Readiness::Probe final : public SequenceSink {
 public:
  [[nodiscard]] bool busy() const { return busy_.load(); }
  [[nodiscard]] bool succeeded_once() const { return succeeded_once_.load(); }

  void Begin(Engine& engine, EngineRequest request) {
    busy_.store(true);
    if (const auto id = engine.Submit(std::move(request), this); !id.ok()) {
      busy_.store(false);
    }
  }

 private:
  void OnStarted(std::int32_t /*cached_prompt_tokens*/) override {}
  void OnToken(SampledToken /*token*/) override {}
  void OnPromptLogprobs(std::span<const SampledToken> /*entries*/) override {}
  void OnEmbedding(std::vector<float> /*values*/) override {}
  void OnFinished(const SequenceOutcome& outcome) override {
    if (outcome.status.ok()) {
      succeeded_once_.store(true);
    } else {
      Log(LogLevel::kWarning, "probe failed", {{"reason", std::string(outcome.status.message())}});
    }
    busy_.store(false);
  }

  std::atomic<bool> busy_ = false;
  std::atomic<bool> succeeded_once_ = false;
};

Readiness::Readiness(Engine& engine, const Clock& clock, Options options)
    : engine_(engine),
      clock_(clock),
      options_(std::move(options)),
      probe_(std::make_unique<Probe>()) {}

Readiness::~Readiness() = default;

void Readiness::OnTick(TimePoint /*now*/) {
  const bool stage_ok = engine_.load().stage_ok;
  const bool connected = options_.next == nullptr || options_.next->connected();
  const bool ready = stage_ok && connected && probe_->succeeded_once();
  if (ready != ready_) {
    ready_ = ready;
    options_.on_change(ready);
  }
  const bool unnoticed_loss = stage_ok && !connected;
  const TimePoint now = clock_.Now();
  if ((unnoticed_loss || !probe_->succeeded_once()) && !probe_->busy() &&
      (!last_probe_.has_value() || now - *last_probe_ >= kProbePause)) {
    last_probe_ = now;
    EngineRequest request;
    request.prompt_ids = {options_.probe_token};
    request.max_new_tokens = 1;
    request.sampling.temperature = 0;
    probe_->Begin(engine_, std::move(request));
  }
}

}  // namespace yangtuo
