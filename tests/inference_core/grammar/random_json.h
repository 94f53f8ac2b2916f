#pragma once

#include <cmath>
#include <cstdint>
#include <iterator>
#include <nlohmann/json.hpp>
#include <string>

#include "tests/inference_core/grammar/random.h"

namespace yangtuo {

// Valid UTF-8 of up to 7 characters, with all that has to be escaped.
inline std::string RandomString(Random& random) {
  static const char* const kCharacters[] = {
      "a", "b", "/", "\"", "\\", "\n", "\t", "\x01", "\x7F", "é", "人", "智", "\xF0\x9F\xA6\x99",
      " ", "{", "0"};
  std::string text;
  for (std::uint32_t length = random() % 8; length > 0; --length) {
    text += kCharacters[random() % std::size(kCharacters)];
  }
  return text;
}

// Any value, nested at most `depth` deep.
inline nlohmann::json RandomJson(Random& random, int depth) {
  switch (random() % (depth > 0 ? 9 : 7)) {
    case 0:
      return nullptr;
    case 1:
      return random() % 2 == 0;
    case 2:
      return static_cast<std::int64_t>(random()) - 2'000'000'000;
    case 3:
      return std::ldexp(static_cast<double>(random()), static_cast<int>(random() % 600) - 300);
    case 4:
      return static_cast<double>(random() % 1000) / 8.0 - 50.0;
    case 5:
    case 6:
      return RandomString(random);
    case 7: {
      auto array = nlohmann::json::array();
      for (std::uint32_t length = random() % 4; length > 0; --length) {
        array.push_back(RandomJson(random, depth - 1));
      }
      return array;
    }
    default: {
      auto object = nlohmann::json::object();
      for (std::uint32_t length = random() % 4; length > 0; --length) {
        object[RandomString(random)] = RandomJson(random, depth - 1);
      }
      return object;
    }
  }
}

}  // namespace yangtuo
