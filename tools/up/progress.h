#pragma once

#include <string>

#include "inference_core/base/clock.h"
#include "tools/common/terminal.h"

namespace yangtuo {

// Shows that something is under way: one line redrawn in place on a terminal, otherwise a line
// whenever the text changes. Other output goes through Print, so that it does not run into it.
class Progress {
 public:
  Progress(Terminal terminal, TimePoint begin) : terminal_(terminal), begin_(begin) {}

  void Show(const std::string& text, TimePoint now);
  void Print(const std::string& line);
  // Takes the line off the terminal.
  void Clear();

 private:
  Terminal terminal_;
  TimePoint begin_;
  std::string shown_;
  int frame_ = 0;
};

}  // namespace yangtuo
