#pragma once

#include <string>

#include "inference_core/base/clock.h"
#include "tools/common/terminal.h"

namespace yangtuo {

// Shows that something is under way: one line redrawn in place on a terminal. Elsewhere steps are
// lines of their own, and what is waited for is one whenever it changes. Other output goes through
// Print, so that it does not run into it.
class Progress {
 public:
  Progress(Terminal terminal, TimePoint begin) : terminal_(terminal), begin_(begin) {}

  void Show(const std::string& text, TimePoint now);
  // What changes so quickly that it is only for a terminal.
  void ShowBriefly(const std::string& text, TimePoint now);
  // Something is done; a terminal has no need of it.
  void Step(const std::string& line);
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
