// Columns of text, as wide as their widest cell.
#pragma once

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

namespace culvert::cli {

class Table {
 public:
  explicit Table(std::vector<std::string> header) { add(std::move(header)); }

  /// A row of as many cells as the header has.
  void add(std::vector<std::string> row) {
    widths_.resize(std::max(widths_.size(), row.size()));
    for (std::size_t column = 0; column < row.size(); ++column) {
      widths_[column] = std::max(widths_[column], row[column].size());
    }
    rows_.push_back(std::move(row));
  }

  [[nodiscard]] bool empty() const { return rows_.size() == 1; }

  [[nodiscard]] std::string to_string() const {
    std::string text;
    for (const auto& row : rows_) {
      std::string line;
      for (std::size_t column = 0; column < row.size(); ++column) {
        line += row[column];
        if (column + 1 < row.size()) line.append(widths_[column] - row[column].size() + 2, ' ');
      }
      line.erase(line.find_last_not_of(' ') + 1);
      text += line + '\n';
    }
    return text;
  }

 private:
  std::vector<std::vector<std::string>> rows_;
  std::vector<std::size_t> widths_;
};

}  // namespace culvert::cli
