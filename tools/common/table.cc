#include "tools/common/table.h"

#include <algorithm>
#include <cstddef>
#include <numeric>

#include "tools/common/text_width.h"

namespace yangtuo {
namespace {

constexpr int kGap = 2;
constexpr int kSmallestColumn = 8;

std::vector<int> NaturalWidths(const Table& table) {
  std::vector<int> widths;
  for (std::size_t i = 0; i < table.columns.size(); ++i) {
    int width = TextWidth(table.columns[i].title);
    for (const auto& row : table.rows) {
      width = std::max(width, TextWidth(row[i]));
    }
    widths.push_back(width);
  }
  return widths;
}

int TotalWidth(const std::vector<int>& widths) {
  return std::accumulate(widths.begin(), widths.end(), 0) +
         kGap * (static_cast<int>(widths.size()) - 1);
}

void Shrink(const Table& table, int max_width, std::vector<int>& widths) {
  while (TotalWidth(widths) > max_width) {
    int* widest = nullptr;
    for (std::size_t i = 0; i < widths.size(); ++i) {
      const bool may_shrink = table.columns[i].align == Align::kLeft && widths[i] > kSmallestColumn;
      if (may_shrink && (widest == nullptr || widths[i] > *widest)) {
        widest = &widths[i];
      }
    }
    if (widest == nullptr) {
      return;
    }
    --*widest;
  }
}

}  // namespace

std::string FormatTable(const Table& table, int max_width) {
  std::vector<int> widths = NaturalWidths(table);
  if (max_width > 0) {
    Shrink(table, max_width, widths);
  }
  std::string text;
  const auto add_line = [&](const auto& cell_at) {
    std::string line;
    for (std::size_t i = 0; i < widths.size(); ++i) {
      const std::string cell = CutToWidth(cell_at(i), widths[i]);
      const std::string padding(static_cast<std::size_t>(widths[i] - TextWidth(cell)), ' ');
      line += i == 0 ? "" : std::string(kGap, ' ');
      line += table.columns[i].align == Align::kRight ? padding + cell : cell + padding;
    }
    line.erase(line.find_last_not_of(' ') + 1);
    text += (max_width > 0 ? CutToWidth(line, max_width) : line) + "\n";
  };
  add_line([&](std::size_t i) { return table.columns[i].title; });
  for (const auto& row : table.rows) {
    add_line([&](std::size_t i) { return row[i]; });
  }
  return text;
}

}  // namespace yangtuo
