#pragma once

#include <functional>

namespace CLI {  // NOLINT(readability-identifier-naming)
class App;
}

namespace yangtuo {

// Adds `yangtuo chat`; sets `run` when it is chosen.
void AddChatCommand(CLI::App& parent, std::function<int()>& run);

}  // namespace yangtuo
