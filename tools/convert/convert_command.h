#pragma once

#include <functional>

namespace CLI {  // NOLINT(readability-identifier-naming)
class App;
}

namespace yangtuo {

// Adds `yangtuo convert`; sets `run` when it is chosen.
void AddConvertCommand(CLI::App& parent, std::function<int()>& run);

}  // namespace yangtuo
