#pragma once

#include <functional>

namespace CLI {  // NOLINT(readability-identifier-naming)
class App;
}

namespace yangtuo {

// Adds `yangtuo status`; sets `run` when it is chosen.
void AddStatusCommand(CLI::App& parent, std::function<int()>& run);

}  // namespace yangtuo
