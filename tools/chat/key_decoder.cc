#include "tools/chat/key_decoder.h"

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <utility>

#include "services/common/utf8.h"

namespace yangtuo {
namespace {

constexpr char kEscape = '\033';
constexpr std::size_t kMaxUtf8Bytes = 4;

struct Sequence {
  std::string_view bytes;
  Key key;
};
// What xterm and its relatives send.
constexpr std::array<Sequence, 15> kSequences = {{
    {"\033[D", Key::kLeft},
    {"\033[C", Key::kRight},
    {"\033[A", Key::kUp},
    {"\033[B", Key::kDown},
    {"\033OD", Key::kLeft},
    {"\033OC", Key::kRight},
    {"\033OA", Key::kUp},
    {"\033OB", Key::kDown},
    {"\033[H", Key::kHome},
    {"\033[F", Key::kEnd},
    {"\033OH", Key::kHome},
    {"\033OF", Key::kEnd},
    {"\033[1~", Key::kHome},
    {"\033[4~", Key::kEnd},
    {"\033[3~", Key::kDelete},
}};
constexpr std::string_view kPasteBegin = "\033[200~";
constexpr std::string_view kPasteEnd = "\033[201~";

// ESC O and one byte, or ESC [ with parameters and a final byte of 0x40..0x7E.
bool IsComplete(std::string_view sequence) {
  if (sequence.size() < 2) {
    return false;
  }
  if (sequence[1] == 'O') {
    return sequence.size() == 3;
  }
  return sequence[1] != '[' ||
         (sequence.size() > 2 && sequence.back() >= 0x40 && sequence.back() <= 0x7E);
}

KeyPress Press(Key key) { return {.key = key, .text = ""}; }

}  // namespace

KeyPress KeyDecoder::Feed(char byte) {
  if (!sequence_.empty()) {
    sequence_ += byte;
    return IsComplete(sequence_) ? EndSequence() : KeyPress{};
  }
  if (byte == kEscape) {
    character_.clear();
    sequence_ = byte;
    return {};
  }
  const auto code = static_cast<std::uint8_t>(byte);
  if (code < 0x20 || code == 0x7F) {
    character_.clear();
    return Control(byte);
  }
  character_ += byte;
  if (Utf8CharacterLength(character_) == character_.size()) {
    return {.key = Key::kText, .text = std::exchange(character_, "")};
  }
  if (character_.size() >= kMaxUtf8Bytes) {
    character_.clear();  // not UTF-8: nothing that could be sent
  }
  return {};
}

KeyPress KeyDecoder::Control(char byte) {
  if (pasting_) {
    const bool newline = byte == '\r' || byte == '\n';
    return {.key = newline || byte == '\t' ? Key::kText : Key::kNone,
            .text = newline ? "\n" : "  "};
  }
  switch (byte) {
    case '\r':
    case '\n':
      return Press(Key::kEnter);
    case '\t':
      return {.key = Key::kText, .text = "  "};
    case 'A' - '@':
      return Press(Key::kHome);
    case 'B' - '@':
      return Press(Key::kLeft);
    case 'C' - '@':
      return Press(Key::kInterrupt);
    case 'D' - '@':
      return Press(Key::kEndOfInput);
    case 'E' - '@':
      return Press(Key::kEnd);
    case 'F' - '@':
      return Press(Key::kRight);
    case 'H' - '@':
    case 0x7F:
      return Press(Key::kBackspace);
    case 'K' - '@':
      return Press(Key::kDeleteToEnd);
    case 'L' - '@':
      return Press(Key::kClearScreen);
    case 'N' - '@':
      return Press(Key::kDown);
    case 'P' - '@':
      return Press(Key::kUp);
    case 'U' - '@':
      return Press(Key::kDeleteToStart);
    case 'W' - '@':
      return Press(Key::kDeleteWord);
    default:
      return {};
  }
}

KeyPress KeyDecoder::EndSequence() {
  const std::string sequence = std::exchange(sequence_, "");
  if (sequence == kPasteBegin || sequence == kPasteEnd) {
    pasting_ = sequence == kPasteBegin;
    return {};
  }
  if (sequence == "\033\r" || sequence == "\033\n") {
    return {.key = Key::kText, .text = "\n"};  // Alt-Enter
  }
  for (const Sequence& known : kSequences) {
    if (sequence == known.bytes) {
      return {.key = known.key, .text = ""};
    }
  }
  return {};
}

}  // namespace yangtuo
