#include "tools/chat/edit_buffer.h"

#include <cstdint>
#include <utility>

#include "tools/common/text_width.h"

namespace yangtuo {
namespace {

bool IsContinuation(char byte) { return (static_cast<std::uint8_t>(byte) & 0xC0) == 0x80; }

bool IsBlank(char byte) { return byte == ' ' || byte == '\n'; }

}  // namespace

void EditBuffer::Set(std::string text) {
  text_ = std::move(text);
  cursor_ = text_.size();
}

void EditBuffer::Insert(std::string_view text) {
  text_.insert(cursor_, text);
  cursor_ += text.size();
}

std::size_t EditBuffer::Before(std::size_t offset) const {
  while (offset > 0 && IsContinuation(text_[--offset])) {
  }
  return offset;
}

void EditBuffer::Left() { cursor_ = Before(cursor_); }

void EditBuffer::Right() {
  cursor_ += LookAtFirstChar(std::string_view(text_).substr(cursor_)).size_bytes;
}

void EditBuffer::Backspace() {
  const std::size_t begin = Before(cursor_);
  text_.erase(begin, cursor_ - begin);
  cursor_ = begin;
}

void EditBuffer::DeleteForward() {
  text_.erase(cursor_, LookAtFirstChar(std::string_view(text_).substr(cursor_)).size_bytes);
}

void EditBuffer::DeleteWordBack() {
  std::size_t begin = cursor_;
  while (begin > 0 && IsBlank(text_[begin - 1])) {
    --begin;
  }
  while (begin > 0 && !IsBlank(text_[begin - 1])) {
    --begin;
  }
  text_.erase(begin, cursor_ - begin);
  cursor_ = begin;
}

void EditBuffer::DeleteToStart() {
  text_.erase(0, cursor_);
  cursor_ = 0;
}

ScreenPosition PositionAfter(std::string_view text, int start, int columns) {
  ScreenPosition position{.row = start / columns, .column = start % columns};
  while (!text.empty()) {
    const FirstChar next = LookAtFirstChar(text);
    if (text.front() == '\n') {
      position = {.row = position.row + 1, .column = 0};
    } else {
      if (position.column + next.columns > columns) {
        position = {.row = position.row + 1, .column = 0};
      }
      position.column += next.columns;
    }
    text.remove_prefix(next.size_bytes);
  }
  if (position.column == columns) {
    position = {.row = position.row + 1, .column = 0};
  }
  return position;
}

}  // namespace yangtuo
