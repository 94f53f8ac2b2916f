#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "inference_core/base/clock.h"
#include "tools/common/terminal.h"

namespace yangtuo {

// How far a long piece of work is, in bytes.
struct WorkDone {
  std::string what;  // "merging"
  std::int64_t done = 0;
  std::int64_t total = 0;
  Duration elapsed{};
};

// "merging  42% [########------------] 5.6 of 13.5 GB  310 MB/s  25 s left". Without columns (0) no
// bar, and never wider than them.
[[nodiscard]] std::string FormatWorkDone(const WorkDone& work, int columns);

// "512 bytes", "1.5 MB", "13.5 GB": powers of 1000, as disks are sold and `df -H` counts.
[[nodiscard]] std::string FormatBytes(std::int64_t bytes);

// "8 s", "3 min 20 s", "2 h 5 min".
[[nodiscard]] std::string FormatSeconds(double seconds);

// Shows work on standard error: a line redrawn in place on a terminal, elsewhere a line every few
// seconds. One thread.
class ProgressBar {
 public:
  ProgressBar(Terminal terminal, std::string what, std::int64_t total, TimePoint begin);
  ~ProgressBar();
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;

  // Draws when it is time to; cheap enough to be called for every piece.
  void Show(std::int64_t done, TimePoint now);

 private:
  Terminal terminal_;
  WorkDone work_;
  TimePoint begin_;
  TimePoint next_;
  bool drawn_ = false;
};

// A ProgressBar of work whose size is known only with its first piece, for callbacks of (done,
// total).
class ProgressOfPieces {
 public:
  explicit ProgressOfPieces(std::string what);
  void operator()(std::int64_t done, std::int64_t total);

 private:
  std::string what_;
  TimePoint begin_;
  std::optional<ProgressBar> bar_;
};

}  // namespace yangtuo
