#include "tools/up/progress.h"

#include <array>
#include <cstddef>
#include <unistd.h>

#include "absl/strings/str_format.h"
#include "tools/common/text_width.h"

namespace yangtuo {
namespace {

constexpr std::array<const char*, 10> kFrames = {"⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏"};

}  // namespace

void Progress::Show(const std::string& text, TimePoint now) {
  if (!terminal_.interactive) {
    if (text != shown_) {
      WriteAll(STDOUT_FILENO, text + "\n");
    }
    shown_ = text;
    return;
  }
  frame_ = (frame_ + 1) % static_cast<int>(kFrames.size());
  const std::string line = absl::StrFormat(
      "%s %s (%.0f s)", kFrames[static_cast<std::size_t>(frame_)], text, ToSeconds(now - begin_));
  WriteAll(STDOUT_FILENO, "\r\033[K" + CutToWidth(line, terminal_.columns - 1));
  shown_ = text;
}

void Progress::ShowBriefly(const std::string& text, TimePoint now) {
  if (terminal_.interactive) {
    Show(text, now);
  }
}

void Progress::Step(const std::string& line) {
  if (!terminal_.interactive) {
    WriteAll(STDOUT_FILENO, line + "\n");
  }
}

void Progress::Print(const std::string& line) {
  Clear();
  WriteAll(STDOUT_FILENO, line + "\n");
}

void Progress::Clear() {
  if (terminal_.interactive && !shown_.empty()) {
    WriteAll(STDOUT_FILENO, "\r\033[K");
    shown_.clear();
  }
}

}  // namespace yangtuo
