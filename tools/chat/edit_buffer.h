#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace yangtuo {

// A text being edited and the place of its cursor, which is always between two characters.
class EditBuffer {
 public:
  [[nodiscard]] const std::string& text() const { return text_; }
  [[nodiscard]] std::size_t cursor_bytes() const { return cursor_; }

  void Set(std::string text);  // cursor at the end
  void Insert(std::string_view text);
  void Left();
  void Right();
  void Home() { cursor_ = 0; }
  void End() { cursor_ = text_.size(); }
  void Backspace();
  void DeleteForward();
  void DeleteWordBack();
  void DeleteToStart();
  void DeleteToEnd() { text_.resize(cursor_); }

 private:
  // Offset of the character before `offset`.
  [[nodiscard]] std::size_t Before(std::size_t offset) const;

  std::string text_;
  std::size_t cursor_ = 0;
};

// Where on a terminal of `columns` columns text ends up that starts at column `start`: wide
// characters that do not fit in a line's last column go to the next one, '\n' starts a new line.
struct ScreenPosition {
  int row = 0;
  int column = 0;
};
ScreenPosition PositionAfter(std::string_view text, int start, int columns);

}  // namespace yangtuo
