#include "tests/tools/command_run.h"

#include <chrono>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <thread>

namespace yangtuo::testing {
namespace {

constexpr std::chrono::minutes kLimit{1};
constexpr std::chrono::milliseconds kPoll{2};

std::string ReadAll(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

template <typename Condition>
bool WaitUntil(const Condition& condition) {
  const auto limit = std::chrono::steady_clock::now() + kLimit;
  while (!condition()) {
    if (std::chrono::steady_clock::now() > limit) {
      return false;
    }
    std::this_thread::sleep_for(kPoll);
  }
  return true;
}

}  // namespace

CommandRun::CommandRun(const std::vector<std::string>& arguments, const std::string& input)
    : CommandRun(YANGTUO_BINARY_DIR "/bin/yangtuo", arguments, input) {}

CommandRun::CommandRun(const std::filesystem::path& program,
                       const std::vector<std::string>& arguments, const std::string& input) {
  std::ofstream(folder_.path() / "in") << input;
  // The shell sets the streams up and becomes the program, so that signals reach the program.
  std::vector<std::string> all = {"/bin/sh", "-c", R"(cd "$0"; exec "$@" <in >out 2>err)",
                                  folder_.path().string(), program.string()};
  all.insert(all.end(), arguments.begin(), arguments.end());
  auto child = ChildProcess::Start(all, folder_.path() / "log");
  if (child.ok()) {
    child_ = *std::move(child);
  }
}

std::string CommandRun::Wait() {
  std::optional<std::string> ended;
  if (!child_ || !WaitUntil([&] { return (ended = child_->Poll()).has_value(); })) {
    return "still runs";
  }
  return *ended;
}

bool CommandRun::WaitForOutput(const std::string& text) const {
  return WaitUntil([&] { return out().find(text) != std::string::npos; });
}

std::string CommandRun::out() const { return ReadAll(folder_.path() / "out"); }
std::string CommandRun::err() const { return ReadAll(folder_.path() / "err"); }

}  // namespace yangtuo::testing
