#include "tools/common/progress_bar.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <unistd.h>
#include <utility>

#include "absl/strings/str_format.h"
#include "tools/common/text_width.h"

namespace yangtuo {
namespace {

constexpr int kBarColumns = 24;
constexpr int kLeastColumnsForABar = 80;
constexpr Duration kRedraw = std::chrono::milliseconds(100);
constexpr Duration kLine = std::chrono::seconds(5);

std::string Bar(double part) {
  const auto full = static_cast<std::size_t>(std::lround(part * kBarColumns));
  return absl::StrFormat("[%s%s] ", std::string(full, '#'), std::string(kBarColumns - full, '-'));
}

}  // namespace

std::string FormatBytes(std::int64_t bytes) {
  constexpr std::array<const char*, 4> kUnits = {"kB", "MB", "GB", "TB"};
  if (bytes < 1000) {
    return absl::StrFormat("%d bytes", bytes);
  }
  double value = static_cast<double>(bytes) / 1000;
  std::size_t unit = 0;
  // 999.95 kB would be shown as 1000.0 kB.
  while (value >= 999.95 && unit + 1 < kUnits.size()) {
    value /= 1000;
    ++unit;
  }
  return absl::StrFormat("%.1f %s", value, kUnits[unit]);
}

std::string FormatSeconds(double seconds) {
  const std::int64_t whole = std::llround(std::clamp(seconds, 0.0, 1e9));
  if (whole < 60) {
    return absl::StrFormat("%d s", whole);
  }
  if (whole < 3600) {
    return absl::StrFormat("%d min %d s", whole / 60, whole % 60);
  }
  return absl::StrFormat("%d h %d min", whole / 3600, whole % 3600 / 60);
}

std::string FormatWorkDone(const WorkDone& work, int columns) {
  const double part =
      work.total <= 0
          ? 1.0
          : std::clamp(static_cast<double>(work.done) / static_cast<double>(work.total), 0.0, 1.0);
  const double seconds = ToSeconds(work.elapsed);
  std::string line = absl::StrFormat("%s %3.0f%% %s%s of %s", work.what, std::floor(part * 100),
                                     columns >= kLeastColumnsForABar ? Bar(part) : "",
                                     FormatBytes(work.done), FormatBytes(work.total));
  // Nothing can be said of a rate before there is one.
  if (seconds > 0 && work.done > 0) {
    const double rate = static_cast<double>(work.done) / seconds;
    line += absl::StrFormat("  %s/s", FormatBytes(static_cast<std::int64_t>(rate)));
    if (work.done < work.total) {
      line += absl::StrFormat("  %s left",
                              FormatSeconds(static_cast<double>(work.total - work.done) / rate));
    }
  }
  return columns > 0 ? CutToWidth(line, columns) : line;
}

ProgressBar::ProgressBar(Terminal terminal, std::string what, std::int64_t total, TimePoint begin)
    : terminal_(terminal),
      work_{.what = std::move(what), .done = 0, .total = total, .elapsed = {}},
      begin_(begin),
      next_(begin + (terminal.interactive ? kRedraw : kLine)) {}

ProgressBar::~ProgressBar() {
  if (drawn_ && terminal_.interactive) {
    WriteAll(STDERR_FILENO, "\r\033[K");
  }
}

void ProgressBar::Show(std::int64_t done, TimePoint now) {
  if (now < next_) {
    return;
  }
  work_.done = done;
  work_.elapsed = now - begin_;
  if (terminal_.interactive) {
    WriteAll(STDERR_FILENO, "\r\033[K" + FormatWorkDone(work_, terminal_.columns - 1));
    next_ = now + kRedraw;
  } else {
    WriteAll(STDERR_FILENO, FormatWorkDone(work_, 0) + "\n");
    next_ = now + kLine;
  }
  drawn_ = true;
}

ProgressOfPieces::ProgressOfPieces(std::string what)
    : what_(std::move(what)), begin_(SteadyClock().Now()) {}

void ProgressOfPieces::operator()(std::int64_t done, std::int64_t total) {
  if (!bar_.has_value()) {
    bar_.emplace(Terminal::LookAt(2), what_, total, begin_);
  }
  bar_->Show(done, SteadyClock().Now());
}

}  // namespace yangtuo
