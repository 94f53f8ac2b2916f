#pragma once

#include <string>
#include <string_view>

namespace yangtuo {

// What a stream of this process is connected to. Plain values; found out by LookAt.
struct Terminal {
  bool interactive = false;  // a terminal
  bool colour = false;       // one that shows colours, and the user did not set NO_COLOR
  int columns = 0;           // 0: not a terminal, lines have any length

  // `fd` is 1 for standard output, 2 for standard error.
  static Terminal LookAt(int fd);

  [[nodiscard]] std::string Bold(std::string_view text) const;
  [[nodiscard]] std::string Dim(std::string_view text) const;
  [[nodiscard]] std::string Good(std::string_view text) const;  // green
  [[nodiscard]] std::string Bad(std::string_view text) const;   // red
};

// Writes all of it, straight to the descriptor. False when the reader is gone.
bool WriteAll(int fd, std::string_view text);

}  // namespace yangtuo
