#pragma once

#include <string>

#include "tools/bench_engine/engine_bench.h"

namespace yangtuo {

// A table for people. Bytes that a decoding step must read stand beside its rate.
[[nodiscard]] std::string FormatEngineSpeed(const EngineSpeed& speed);
// The same for machines; tokens a second by what was measured.
[[nodiscard]] std::string EngineSpeedJson(const EngineSpeed& speed);
// Plots of decoding against the number of sequences, and of both against the context.
[[nodiscard]] std::string EngineSpeedSvg(const EngineSpeed& speed);

}  // namespace yangtuo
