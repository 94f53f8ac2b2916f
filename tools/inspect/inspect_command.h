#pragma once

#include <functional>

namespace CLI {  // NOLINT(readability-identifier-naming)
class App;
}

namespace yangtuo {

// Adds `yangtuo inspect`; sets `run` when it is chosen.
void AddInspectCommand(CLI::App& parent, std::function<int()>& run);

}  // namespace yangtuo
