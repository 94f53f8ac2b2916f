#include "services/inference/peer_pulse.h"

#include <string>

#include "absl/strings/str_format.h"

namespace yangtuo {

void PeerPulse::StepSent(std::uint64_t step_id, TimePoint now) {
  if (pending_.empty()) {
    last_progress_ = now;
  }
  pending_.push_back(step_id);
}

absl::Status PeerPulse::StepAnswered(std::uint64_t step_id, TimePoint now) {
  if (pending_.empty() || pending_.front() != step_id) {
    return absl::DataLossError(absl::StrFormat(
        "answer to step %d, expected %s", step_id,
        pending_.empty() ? std::string("none") : absl::StrFormat("step %d", pending_.front())));
  }
  pending_.pop_front();
  last_progress_ = now;
  return absl::OkStatus();
}

void PeerPulse::Counters(std::uint64_t steps_received, std::uint64_t steps_answered,
                         TimePoint now) {
  if (steps_received != peer_received_ || steps_answered != peer_answered_) {
    peer_received_ = steps_received;
    peer_answered_ = steps_answered;
    last_progress_ = now;
  }
}

absl::Status PeerPulse::Check(TimePoint now) const {
  if (now - last_heard_ > timing_.silence_limit) {
    return absl::UnavailableError(
        absl::StrFormat("no sign of life for %.1f s", ToSeconds(now - last_heard_)));
  }
  if (!pending_.empty() && now - last_progress_ > timing_.step_limit) {
    return absl::UnavailableError(
        absl::StrFormat("hung: %d steps pending without progress for %.1f s", pending_.size(),
                        ToSeconds(now - last_progress_)));
  }
  return absl::OkStatus();
}

}  // namespace yangtuo
