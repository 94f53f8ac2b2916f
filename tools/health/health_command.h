#pragma once

#include <functional>

namespace CLI {  // NOLINT(readability-identifier-naming)
class App;
}

namespace yangtuo {

// Adds `yangtuo health`; sets `run` when it is chosen.
void AddHealthCommand(CLI::App& parent, std::function<int()>& run);

}  // namespace yangtuo
