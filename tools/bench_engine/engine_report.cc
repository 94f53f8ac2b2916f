#include "tools/bench_engine/engine_report.h"

#include <nlohmann/json.hpp>
#include <utility>
#include <vector>

#include "absl/strings/str_format.h"
#include "tools/common/progress_bar.h"
#include "tools/common/svg_plot.h"
#include "tools/common/table.h"

namespace yangtuo {
namespace {

std::string Rate(double tokens_per_second) {
  return absl::StrFormat("%.1f tok/s", tokens_per_second);
}

// What one step of one sequence reads after so many tokens.
std::int64_t StepBytes(const EngineSpeed& speed, std::int64_t tokens) {
  return speed.weight_bytes + speed.kv_token_bytes * tokens;
}

std::string Reading(const EngineSpeed& speed, const DecodeSpeed& decode) {
  const double steps = decode.tokens_per_second / decode.sequences;
  return absl::StrFormat("%.1f GB/s of weights",
                         static_cast<double>(speed.weight_bytes) * steps / 1e9);
}

}  // namespace

std::string FormatEngineSpeed(const EngineSpeed& speed) {
  Table table{.columns = {{"measure"}, {"result", Align::kRight}, {"that is"}}, .rows = {}};
  const auto add = [&](std::string name, std::string value, std::string that_is = "") {
    table.rows.push_back({std::move(name), std::move(value), std::move(that_is)});
  };
  add("weights", speed.weight_type, speed.numerics);
  add("threads", absl::StrFormat("%d", speed.threads));
  add("load", FormatSeconds(speed.load_seconds));
  add("anonymous memory", FormatBytes(speed.anonymous_bytes),
      absl::StrFormat("%s read in each step, KV cache yet to come",
                      FormatBytes(speed.weight_bytes)));
  add(absl::StrFormat("prefill of %d", speed.prompt_tokens), Rate(speed.prefill_tokens_per_second));
  add("the same, seven eighths of it cached",
      absl::StrFormat("%.1f times faster", speed.prefill_seconds / speed.cached_prefill_seconds));
  for (const DecodeSpeed& d : speed.decode) {
    add(absl::StrFormat("decode of %d together", d.sequences), Rate(d.tokens_per_second),
        Reading(speed, d));
  }
  for (const ContextSpeed& c : speed.contexts) {
    add(absl::StrFormat("prefill of %d", c.tokens), Rate(c.prefill_tokens_per_second));
    // On average: each token read back makes the next step longer.
    const std::int64_t bytes = StepBytes(speed, c.tokens + c.decoded / 2);
    add(absl::StrFormat("decode of 1 after %d", c.tokens), Rate(c.decode_tokens_per_second),
        absl::StrFormat("%.1f GB/s of weights and KV cache",
                        static_cast<double>(bytes) * c.decode_tokens_per_second / 1e9));
  }
  return FormatTable(table, 0);
}

std::string EngineSpeedJson(const EngineSpeed& speed) {
  nlohmann::json decode = nlohmann::json::object();
  for (const DecodeSpeed& d : speed.decode) {
    decode[absl::StrFormat("%d", d.sequences)] = d.tokens_per_second;
  }
  nlohmann::json contexts = nlohmann::json::object();
  for (const ContextSpeed& c : speed.contexts) {
    contexts[absl::StrFormat("%d", c.tokens)] = {{"prefill", c.prefill_tokens_per_second},
                                                 {"decode", c.decode_tokens_per_second}};
  }
  const nlohmann::json json = {{"weight_type", speed.weight_type},
                               {"numerics", speed.numerics},
                               {"threads", speed.threads},
                               {"load_seconds", speed.load_seconds},
                               {"anonymous_bytes", speed.anonymous_bytes},
                               {"weight_bytes", speed.weight_bytes},
                               {"kv_token_bytes", speed.kv_token_bytes},
                               {"prompt_tokens", speed.prompt_tokens},
                               {"prefill", speed.prefill_tokens_per_second},
                               {"prefill_seconds", speed.prefill_seconds},
                               {"cached_prefill_seconds", speed.cached_prefill_seconds},
                               {"decode", decode},
                               {"contexts", contexts}};
  return json.dump(2) + "\n";
}

std::string EngineSpeedSvg(const EngineSpeed& speed) {
  Plot together{
      .title = absl::StrFormat("Decoding, %s, %d threads", speed.weight_type, speed.threads),
      .x_label = "sequences",
      .y_label = "tokens a second",
      .x = {},
      .series = {{"all together", {}}}};
  for (const DecodeSpeed& d : speed.decode) {
    together.x.push_back(absl::StrFormat("%d", d.sequences));
    together.series[0].values.push_back(d.tokens_per_second);
  }
  std::vector<Plot> plots = {std::move(together)};
  if (!speed.contexts.empty()) {
    Plot prefill{.title = "Prefill of one sequence",
                 .x_label = "tokens of context",
                 .y_label = "tokens a second",
                 .x = {},
                 .series = {{"prefill", {}}}};
    Plot decode{.title = "Decoding of one sequence",
                .x_label = "tokens of context",
                .y_label = "tokens a second",
                .x = {},
                .series = {{"decode", {}}}};
    for (const ContextSpeed& c : speed.contexts) {
      for (Plot* const plot : {&prefill, &decode}) {
        plot->x.push_back(absl::StrFormat("%d", c.tokens));
      }
      prefill.series[0].values.push_back(c.prefill_tokens_per_second);
      decode.series[0].values.push_back(c.decode_tokens_per_second);
    }
    plots.push_back(std::move(prefill));
    plots.push_back(std::move(decode));
  }
  return DrawSvg(plots);
}

}  // namespace yangtuo
