#pragma once

#include <functional>

namespace CLI {
class App;
}

namespace yangtuo {

// Adds `engine` below `parent` (the command `yangtuo bench`); sets `run` when it is chosen.
void AddBenchEngineCommand(CLI::App& parent, std::function<int()>& run);

}  // namespace yangtuo
