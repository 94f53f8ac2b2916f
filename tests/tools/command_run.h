#pragma once

#include <optional>
#include <string>
#include <vector>

#include "tests/testing/temp_dir.h"
#include "tools/up/child_process.h"

namespace yangtuo::testing {

// The real `yangtuo` program, run by a test with its input from nowhere or a file.
class CommandRun {
 public:
  explicit CommandRun(const std::vector<std::string>& arguments, const std::string& input = "");

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
