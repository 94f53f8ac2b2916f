#pragma once

#include <cstdint>
#include <fstream>
#include <string>
#include <utility>
#include <vector>

#include "nlohmann/json.hpp"
#include "tests/testing/data.h"

namespace yangtuo {

// One line of golden/dev/encode-*.jsonl or decode-*.jsonl.
struct GoldenCase {
  std::string label;
  std::string text;  // encode only
  std::vector<std::int32_t> ids;
  std::string decoded;
};

inline std::string FromHex(const std::string& hex) {
  std::string bytes;
  for (std::size_t i = 0; i + 1 < hex.size(); i += 2) {
    bytes.push_back(static_cast<char>(std::stoi(hex.substr(i, 2), nullptr, 16)));
  }
  return bytes;
}

// `name`: "encode-llama" and so on. Empty when the data is absent.
inline std::vector<GoldenCase> ReadGolden(const std::string& name) {
  const auto path = SharedData("golden/dev/" + name + ".jsonl");
  if (!path.has_value()) {
    return {};
  }
  std::ifstream file(*path);
  std::vector<GoldenCase> cases;
  for (std::string line; std::getline(file, line);) {
    const nlohmann::json row = nlohmann::json::parse(line);
    GoldenCase golden;
    golden.label = row.value("cat", "") + " " + row.value("note", "") + " line " +
                   std::to_string(cases.size() + 1);
    golden.text = row.contains("text_hex") ? FromHex(row["text_hex"]) : row.value("text", "");
    golden.ids = row["ids"].get<std::vector<std::int32_t>>();
    golden.decoded = row["decoded"].get<std::string>();
    cases.push_back(std::move(golden));
  }
  return cases;
}

}  // namespace yangtuo
