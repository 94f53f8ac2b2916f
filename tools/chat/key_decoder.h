#pragma once

#include <string>

namespace yangtuo {

enum class Key {
  kNone,  // nothing to do: part of a sequence, or one without a meaning here
  kText,  // characters to insert
  kEnter,
  kInterrupt,
  kEndOfInput,
  kLeft,
  kRight,
  kUp,
  kDown,
  kHome,
  kEnd,
  kBackspace,
  kDelete,
  kDeleteWord,
  kDeleteToStart,
  kDeleteToEnd,
  kClearScreen,
};

struct KeyPress {
  Key key = Key::kNone;
  std::string text;  // of kText: whole characters
};

// Turns the bytes that a terminal in raw mode sends into keys. Pasted text (bracketed paste) is
// text, newlines included.
class KeyDecoder {
 public:
  KeyPress Feed(char byte);

 private:
  KeyPress Control(char byte);
  KeyPress EndSequence();

  std::string sequence_;   // an escape sequence so far, with its ESC
  std::string character_;  // a UTF-8 character so far
  bool pasting_ = false;
};

}  // namespace yangtuo
