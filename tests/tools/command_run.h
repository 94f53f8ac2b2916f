#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "tests/testing/temp_dir.h"
#include "tools/up/child_process.h"

namespace yangtuo::testing {

// The real `yangtuo` program, run by a test.
class CommandRun {
 public:
  explicit CommandRun(const std::vector<std::string>& arguments, const std::string& input = "");
  // A copy of the program that is somewhere else.
  CommandRun(const std::filesystem::path& program, const std::vector<std::string>& arguments,
             const std::string& input);

  // How it ended, in ChildProcess's words; "still runs" after a minute.
  std::string Wait();
  void Signal(int number) { child_->Signal(number); }

  [[nodiscard]] std::string out() const;
  [[nodiscard]] std::string err() const;
  // Until standard output contains `text`; false after a minute.
  bool WaitForOutput(const std::string& text) const;

 private:
  TempDir folder_;
  std::optional<ChildProcess> child_;
};

}  // namespace yangtuo::testing
