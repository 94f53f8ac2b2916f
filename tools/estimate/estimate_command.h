#pragma once

#include <functional>

namespace CLI {  // NOLINT(readability-identifier-naming)
class App;
}

namespace yangtuo {

// Adds `yangtuo estimate`; sets `run` when it is chosen.
void AddEstimateCommand(CLI::App& parent, std::function<int()>& run);

}  // namespace yangtuo
