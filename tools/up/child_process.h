#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <sys/types.h>
#include <vector>

#include "absl/status/statusor.h"

namespace yangtuo {

// A program that this process started. It cannot outlive its parent: the destructor kills it, and
// so does the kernel when the parent's main thread ends. For the main thread.
class ChildProcess {
 public:
  // `arguments[0]` is the program's path. Both outputs are appended to `log`. The child has its own
  // process group, so that a terminal's Ctrl-C reaches the parent alone, which stops its children
  // in order. NOT_FOUND or PERMISSION_DENIED when the program cannot be run.
  static absl::StatusOr<ChildProcess> Start(const std::vector<std::string>& arguments,
                                            const std::filesystem::path& log);
  ChildProcess(ChildProcess&& other) noexcept;
  ChildProcess& operator=(ChildProcess&& other) noexcept;
  ChildProcess(const ChildProcess&) = delete;
  ChildProcess& operator=(const ChildProcess&) = delete;
  ~ChildProcess();

  [[nodiscard]] pid_t pid() const { return pid_; }

  // How it ended, in words ("exit code 1", "killed by signal 9 (Killed)"); empty while it runs.
  std::optional<std::string> Poll();
  void Signal(int number);

 private:
  explicit ChildProcess(pid_t pid) : pid_(pid) {}
  void KillAndWait();

  pid_t pid_;
  std::optional<std::string> ended_;
};

// The last lines of a file; empty when it cannot be read.
std::string ReadTail(const std::filesystem::path& file, int num_lines);

}  // namespace yangtuo
