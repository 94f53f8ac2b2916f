#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

namespace yangtuo::gateway {

// One group as routing sees it: what it reported last, and what this gateway did since.
struct GroupLoad {
  std::uint32_t running = 0;                // reported
  std::uint32_t waiting = 0;                // reported
  std::uint32_t started_since = 0;          // streams we opened after the report, if still open
  std::uint32_t own_open = 0;               // streams we hold open now, in the report or not
  std::uint64_t pending_prompt_tokens = 0;  // reported, plus those of the streams since
  std::uint32_t kv_blocks_total = 0;
  std::uint32_t kv_blocks_free = 0;
  // Of the request that is to be routed: leading tokens that the group has computed before, as far
  // as is known.
  std::uint64_t cached_prompt_tokens = 0;
};

// Expected wait as a number of streams. Two gateways see each other through the report only, one
// gateway sees itself at once.
double Cost(const GroupLoad& load);

// The group with the least cost; of equals the one with more free KV blocks, then the one that
// `turn` points at, so that idle groups take turns. Empty for no groups.
std::optional<std::size_t> ChooseGroup(std::span<const GroupLoad> groups, std::uint64_t turn);

// Of the groups that have computed most of the prompt before, the one with the least cost, unless
// it is overloaded: then, and when nobody has any of it, empty. Overloaded is who costs more than
// twice as much as the idlest group and a few streams.
std::optional<std::size_t> ChooseByPrefix(std::span<const GroupLoad> groups, std::uint64_t turn);

}  // namespace yangtuo::gateway
