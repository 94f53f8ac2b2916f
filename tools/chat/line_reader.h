#pragma once

#include <memory>
#include <string>

namespace yangtuo {

struct ReadLine {
  enum class Kind {
    kLine,
    kInterrupted,  // Ctrl-C
    kEnd,          // Ctrl-D on an empty line, or the end of a pipe
  };
  Kind kind = Kind::kEnd;
  std::string text;
};

// Where the user's messages come from.
class LineReader {
 public:
  virtual ~LineReader() = default;
  virtual ReadLine Read(const std::string& prompt) = 0;
  // Puts the terminal back as it was found; for a signal that ends the program. Thread-safe.
  virtual void Restore() = 0;
};

// Lines from a pipe or file, without a prompt.
std::unique_ptr<LineReader> NewPipeReader();

// A line with editing (arrows, Home, End, Ctrl-A E U K W L, history with up and down), on the
// terminal of standard input and output. Knows the width of Chinese characters, which the
// terminal's own line mode does not. Pasted newlines and Alt-Enter stay in the message.
std::unique_ptr<LineReader> NewTerminalReader();

}  // namespace yangtuo
