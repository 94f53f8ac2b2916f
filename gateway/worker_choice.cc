#include "gateway/worker_choice.h"

#include <algorithm>
#include <vector>

namespace yangtuo::gateway {
namespace {

// A running stream costs a group about as much of a step as this many prompt tokens do.
constexpr double kPromptTokensPerStream = 256;
// Below this share of free KV blocks new sequences mean preemption, which computes prompts twice.
constexpr double kScarceKv = 0.05;
// Each stream then counts as this many.
constexpr double kScarceKvFactor = 2;
// A group that has a prompt's beginning gets it until it costs this much more than the idlest one.
constexpr double kOverloadFactor = 2;
constexpr double kOverloadStreams = 4;

double FreeShare(const GroupLoad& load) {
  return load.kv_blocks_total == 0
             ? 1
             : static_cast<double>(load.kv_blocks_free) / static_cast<double>(load.kv_blocks_total);
}

}  // namespace

double Cost(const GroupLoad& load) {
  const double reported = static_cast<double>(load.running) + load.waiting + load.started_since;
  const double streams = std::max(reported, static_cast<double>(load.own_open));
  const double prompts = static_cast<double>(load.pending_prompt_tokens) / kPromptTokensPerStream;
  const double factor = FreeShare(load) < kScarceKv ? kScarceKvFactor : 1;
  return streams * factor + prompts;
}

std::optional<std::size_t> ChooseGroup(std::span<const GroupLoad> groups, std::uint64_t turn) {
  std::optional<std::size_t> best;
  for (std::size_t i = 0; i < groups.size(); ++i) {
    const std::size_t candidate = (i + turn) % groups.size();
    if (!best.has_value()) {
      best = candidate;
      continue;
    }
    const double cost = Cost(groups[candidate]);
    const double best_cost = Cost(groups[*best]);
    if (cost < best_cost ||
        (cost == best_cost && FreeShare(groups[candidate]) > FreeShare(groups[*best]))) {
      best = candidate;
    }
  }
  return best;
}

std::optional<std::size_t> ChooseByPrefix(std::span<const GroupLoad> groups, std::uint64_t turn) {
  std::uint64_t most = 0;
  for (const GroupLoad& group : groups) {
    most = std::max(most, group.cached_prompt_tokens);
  }
  if (most == 0) {
    return std::nullopt;
  }
  std::vector<std::size_t> holders;
  std::vector<GroupLoad> loads;
  for (std::size_t i = 0; i < groups.size(); ++i) {
    if (groups[i].cached_prompt_tokens == most) {
      holders.push_back(i);
      loads.push_back(groups[i]);
    }
  }
  const std::size_t holder = holders[*ChooseGroup(loads, turn)];
  const double idlest = Cost(groups[*ChooseGroup(groups, turn)]);
  const bool overloaded = Cost(groups[holder]) > kOverloadFactor * idlest + kOverloadStreams;
  return overloaded ? std::nullopt : std::optional<std::size_t>(holder);
}

}  // namespace yangtuo::gateway
