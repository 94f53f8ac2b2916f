#pragma once

#include <functional>

namespace CLI {
class App;
}

namespace yangtuo {

// Adds `eval` with its measures; when one is chosen, `run` gets what to do.
void AddEvalCommand(CLI::App& parent, std::function<int()>& run);

}  // namespace yangtuo
