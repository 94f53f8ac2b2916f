#pragma once

#include <functional>

namespace CLI {
class App;
}

namespace yangtuo {

// Adds `compare` below `parent` (the command `yangtuo bench`); sets `run` when it is chosen.
void AddBenchCompareCommand(CLI::App& parent, std::function<int()>& run);

}  // namespace yangtuo
