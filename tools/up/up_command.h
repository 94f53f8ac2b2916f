#pragma once

#include <functional>

namespace CLI {  // NOLINT(readability-identifier-naming)
class App;
}

namespace yangtuo {

// Adds `yangtuo up`; sets `run` when it is chosen.
void AddUpCommand(CLI::App& parent, std::function<int()>& run);

}  // namespace yangtuo
