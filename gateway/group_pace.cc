#include "gateway/group_pace.h"

#include <algorithm>

namespace yangtuo::gateway {
namespace {

constexpr Duration kWindow = std::chrono::seconds(15);
// Shorter prompts tell about overheads, not about speed.
constexpr std::uint64_t kLeastPromptTokens = 32;

std::int64_t WindowOf(TimePoint now) { return now.time_since_epoch() / kWindow; }

}  // namespace

void GroupPace::RecentLeast::Add(TimePoint now, double value) {
  const std::int64_t window = WindowOf(now);
  if (window != window_) {
    before_ = window == window_ + 1 ? current_ : std::nullopt;
    current_.reset();
    window_ = window;
  }
  current_ = std::min(current_.value_or(value), value);
}

std::optional<double> GroupPace::RecentLeast::Get(TimePoint now) const {
  const std::int64_t age = WindowOf(now) - window_;
  if (age == 0 && current_.has_value() && before_.has_value()) {
    return std::min(*current_, *before_);
  }
  return age <= 1 ? current_ : std::nullopt;
}

void GroupPace::AddPrompt(TimePoint now, Duration time, std::uint64_t tokens) {
  if (tokens >= kLeastPromptTokens) {
    seconds_per_prompt_token_.Add(now, ToSeconds(time) / static_cast<double>(tokens));
  }
}

void GroupPace::AddTokens(TimePoint now, Duration time, std::uint64_t tokens) {
  if (tokens > 0) {
    seconds_per_token_.Add(now, ToSeconds(time) / static_cast<double>(tokens));
  }
}

std::optional<Duration> GroupPace::LeastTime(TimePoint now, std::uint64_t prompt_tokens,
                                             std::uint64_t tokens) const {
  const auto prompt = seconds_per_prompt_token_.Get(now);
  const auto token = seconds_per_token_.Get(now);
  if (!prompt.has_value() && !token.has_value()) {
    return std::nullopt;
  }
  const double seconds = prompt.value_or(0) * static_cast<double>(prompt_tokens) +
                         token.value_or(0) * static_cast<double>(tokens > 0 ? tokens - 1 : 0);
  return std::chrono::duration_cast<Duration>(std::chrono::duration<double>(seconds));
}

}  // namespace yangtuo::gateway
