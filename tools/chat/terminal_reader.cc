#include <cerrno>
#include <cstddef>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_format.h"
#include "inference_core/base/mutex.h"
#include "tools/chat/edit_buffer.h"
#include "tools/chat/key_decoder.h"
#include "tools/chat/line_reader.h"
#include "tools/common/terminal.h"
#include "tools/common/text_width.h"

namespace yangtuo {
namespace {

constexpr char kBracketedPasteOn[] = "\033[?2004h";
constexpr char kBracketedPasteOff[] = "\033[?2004l";
constexpr char kClearScreen[] = "\033[H\033[2J";

// The terminal sends every key at once while this is on. Thread-safe, because a signal that ends
// the program switches it off.
class RawMode {
 public:
  void On() ABSL_LOCKS_EXCLUDED(mutex_) {
    const MutexLock lock(mutex_);
    if (on_ || tcgetattr(STDIN_FILENO, &before_) != 0) {
      return;
    }
    termios raw = before_;
    raw.c_iflag &= static_cast<tcflag_t>(~(BRKINT | ICRNL | INPCK | ISTRIP | IXON));
    raw.c_lflag &= static_cast<tcflag_t>(~(ECHO | ICANON | IEXTEN | ISIG));
    raw.c_cc[VMIN] = 1;
    raw.c_cc[VTIME] = 0;
    on_ = tcsetattr(STDIN_FILENO, TCSADRAIN, &raw) == 0;
    WriteAll(STDOUT_FILENO, kBracketedPasteOn);
  }
  void Off() ABSL_LOCKS_EXCLUDED(mutex_) {
    const MutexLock lock(mutex_);
    if (on_) {
      WriteAll(STDOUT_FILENO, kBracketedPasteOff);
      tcsetattr(STDIN_FILENO, TCSADRAIN, &before_);
      on_ = false;
    }
  }

 private:
  Mutex mutex_;
  bool on_ ABSL_GUARDED_BY(mutex_) = false;
  termios before_ ABSL_GUARDED_BY(mutex_) = {};
};

class TerminalReader final : public LineReader {
 public:
  ~TerminalReader() override { raw_.Off(); }

  ReadLine Read(const std::string& prompt) override {
    prompt_ = prompt;
    buffer_ = EditBuffer();
    cursor_row_ = 0;
    history_place_ = history_.size();
    raw_.On();
    Draw();
    ReadLine line = Edit();
    buffer_.End();
    Draw();
    WriteAll(STDOUT_FILENO, "\r\n");
    raw_.Off();
    if (line.kind == ReadLine::Kind::kLine && !line.text.empty()) {
      history_.push_back(line.text);
    }
    return line;
  }

  void Restore() override { raw_.Off(); }

 private:
  ReadLine Edit() {
    char byte = 0;
    while (true) {
      const ssize_t got = read(STDIN_FILENO, &byte, 1);
      if (got < 0 && errno == EINTR) {
        continue;
      }
      if (got <= 0) {
        return {.kind = ReadLine::Kind::kEnd, .text = ""};
      }
      const KeyPress press = decoder_.Feed(byte);
      switch (press.key) {
        case Key::kEnter:
          return {.kind = ReadLine::Kind::kLine, .text = buffer_.text()};
        case Key::kInterrupt:
          return {.kind = ReadLine::Kind::kInterrupted, .text = ""};
        case Key::kEndOfInput:
          if (buffer_.text().empty()) {
            return {.kind = ReadLine::Kind::kEnd, .text = ""};
          }
          buffer_.DeleteForward();
          break;
        case Key::kNone:
          continue;
        default:
          Apply(press);
      }
      // A paste arrives in many bytes: one drawing for all of them.
      if (int waiting = 0; ioctl(STDIN_FILENO, FIONREAD, &waiting) != 0 || waiting == 0) {
        Draw();
      }
    }
  }

  void Apply(const KeyPress& press) {
    switch (press.key) {
      case Key::kText:
        return buffer_.Insert(press.text);
      case Key::kLeft:
        return buffer_.Left();
      case Key::kRight:
        return buffer_.Right();
      case Key::kUp:
        return Recall(history_place_ == 0 ? 0 : history_place_ - 1);
      case Key::kDown:
        return Recall(history_place_ + 1);
      case Key::kHome:
        return buffer_.Home();
      case Key::kEnd:
        return buffer_.End();
      case Key::kBackspace:
        return buffer_.Backspace();
      case Key::kDelete:
        return buffer_.DeleteForward();
      case Key::kDeleteWord:
        return buffer_.DeleteWordBack();
      case Key::kDeleteToStart:
        return buffer_.DeleteToStart();
      case Key::kDeleteToEnd:
        return buffer_.DeleteToEnd();
      case Key::kClearScreen:
        WriteAll(STDOUT_FILENO, kClearScreen);
        cursor_row_ = 0;
        return;
      default:
        return;
    }
  }

  void Recall(std::size_t place) {
    if (place > history_.size() || place == history_place_) {
      return;
    }
    if (history_place_ == history_.size()) {
      unsent_ = buffer_.text();
    }
    history_place_ = place;
    buffer_.Set(place == history_.size() ? unsent_ : history_[place]);
  }

  // Writes the prompt and the text over what is there and puts the cursor in its place.
  void Draw() {
    const Terminal terminal = Terminal::LookAt(STDOUT_FILENO);
    const int columns = terminal.columns > 0 ? terminal.columns : 80;
    const int start = TextWidth(prompt_);
    const std::string& text = buffer_.text();
    const ScreenPosition end = PositionAfter(text, start, columns);
    const ScreenPosition cursor =
        PositionAfter(std::string_view(text).substr(0, buffer_.cursor_bytes()), start, columns);
    std::string out;
    if (cursor_row_ > 0) {
      absl::StrAppendFormat(&out, "\033[%dA", cursor_row_);
    }
    out += "\r\033[J" + terminal.Bold(prompt_);
    for (const char byte : text) {
      out += byte == '\n' ? std::string("\r\n") : std::string(1, byte);
    }
    // A terminal stays in a line that is just full until the next character comes.
    if (end.column == 0 && end.row > 0 && !text.empty() && text.back() != '\n') {
      out += "\r\n";
    }
    if (end.row > cursor.row) {
      absl::StrAppendFormat(&out, "\033[%dA", end.row - cursor.row);
    }
    out += "\r";
    if (cursor.column > 0) {
      absl::StrAppendFormat(&out, "\033[%dC", cursor.column);
    }
    cursor_row_ = cursor.row;
    WriteAll(STDOUT_FILENO, out);
  }

  RawMode raw_;
  KeyDecoder decoder_;
  EditBuffer buffer_;
  std::string prompt_;
  int cursor_row_ = 0;  // below the row in which the prompt starts
  std::vector<std::string> history_;
  std::size_t history_place_ = 0;  // history_.size(): the new message
  std::string unsent_;             // the new message while an old one is shown
};

}  // namespace

std::unique_ptr<LineReader> NewTerminalReader() { return std::make_unique<TerminalReader>(); }

}  // namespace yangtuo
