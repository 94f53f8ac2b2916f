#pragma once

#include <functional>

namespace CLI {  // NOLINT(readability-identifier-naming)
class App;
}

namespace yangtuo {

// Adds `yangtuo verify`; sets `run` when it is chosen.
void AddVerifyCommand(CLI::App& parent, std::function<int()>& run);

}  // namespace yangtuo
