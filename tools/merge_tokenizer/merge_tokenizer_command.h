#pragma once

#include <functional>

namespace CLI {  // NOLINT(readability-identifier-naming)
class App;
}

namespace yangtuo {

// Adds `yangtuo merge-tokenizer`; sets `run` when it is chosen.
void AddMergeTokenizerCommand(CLI::App& parent, std::function<int()>& run);

}  // namespace yangtuo
