#pragma once

#include <functional>

namespace CLI {  // NOLINT(readability-identifier-naming)
class App;
}

namespace yangtuo {

// Adds `yangtuo models`; sets `run` when it is chosen.
void AddModelsCommand(CLI::App& parent, std::function<int()>& run);

}  // namespace yangtuo
