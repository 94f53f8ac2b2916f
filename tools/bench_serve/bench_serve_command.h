#pragma once

#include <functional>

namespace CLI {
class App;
}

namespace yangtuo {

// Adds `serve` below `parent` (the command `yangtuo bench`); sets `run` when it is chosen.
void AddBenchServeCommand(CLI::App& parent, std::function<int()>& run);

}  // namespace yangtuo
