#pragma once

#include <functional>

namespace CLI {
class App;
}

namespace yangtuo {

// Adds `make-model` below `parent` (the command `yangtuo bench`); sets `run` when it is chosen.
void AddBenchMakeModelCommand(CLI::App& parent, std::function<int()>& run);

}  // namespace yangtuo
