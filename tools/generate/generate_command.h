#pragma once

#include <functional>

namespace CLI {  // NOLINT(readability-identifier-naming)
class App;
}

namespace yangtuo {

// Adds `yangtuo generate`; sets `run` when it is chosen.
void AddGenerateCommand(CLI::App& parent, std::function<int()>& run);

}  // namespace yangtuo
