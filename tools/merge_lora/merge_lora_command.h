#pragma once

#include <functional>

namespace CLI {  // NOLINT(readability-identifier-naming)
class App;
}

namespace yangtuo {

// Adds `yangtuo merge-lora`; sets `run` when it is chosen.
void AddMergeLoraCommand(CLI::App& parent, std::function<int()>& run);

}  // namespace yangtuo
