#pragma once

#include <functional>

namespace CLI {  // NOLINT(readability-identifier-naming)
class App;
}

namespace yangtuo {

// Adds `yangtuo keys add|list|remove`; sets `run` when one is chosen.
void AddKeysCommand(CLI::App& parent, std::function<int()>& run);

}  // namespace yangtuo
