#pragma once

#include <functional>

namespace CLI {  // NOLINT(readability-identifier-naming)
class App;
}

namespace yangtuo {

// Adds `yangtuo quantize`; sets `run` when it is chosen.
void AddQuantizeCommand(CLI::App& parent, std::function<int()>& run);

}  // namespace yangtuo
