#pragma once

#include <string>
#include <vector>

namespace yangtuo {

enum class Align { kLeft, kRight };

struct Column {
  std::string title;
  Align align = Align::kLeft;
};

// Text in columns, two spaces apart, sized to their widest cell. Cells are UTF-8.
struct Table {
  std::vector<Column> columns;
  std::vector<std::vector<std::string>> rows;  // as many cells as columns
};

// One line a row, each ending in a newline, titles first. With `max_width` > 0 no line is wider:
// the widest left-aligned column gives way first, down to 8 columns, then lines are cut.
std::string FormatTable(const Table& table, int max_width);

}  // namespace yangtuo
