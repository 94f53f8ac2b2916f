#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace yangtuo {

// One object of a pickle. Objects name each other by their place in Pickle::values, so shared and
// even circular ones cost nothing.
struct PickleValue {
  enum class Kind : std::uint8_t {
    kNone,
    kBool,        // whole
    kWhole,       // whole
    kReal,        // real
    kText,        // text: of a string (UTF-8 unless the file lies) or of bytes
    kTuple,       // items
    kList,        // items
    kDict,        // items: key, value, key, value, ...
    kGlobal,      // text: "module.name"
    kCall,        // items: the global, then its arguments (a tuple)
    kPersistent,  // items: the id that torch gives a storage
  };

  Kind kind = Kind::kNone;
  std::int64_t whole = 0;
  double real = 0;
  std::string text = {};
  std::vector<std::uint32_t> items = {};
};

struct Pickle {
  std::deque<PickleValue> values;
  std::uint32_t root = 0;

  [[nodiscard]] const PickleValue& at(std::uint32_t place) const { return values[place]; }
};

// Reads a Python pickle (PEP 307, 3154, 574; the opcodes of protocols 2 to 5 that torch.save uses)
// as data. Nothing is ever called: a call stays a kCall value, and a global that is not in
// `allowed` ("collections.OrderedDict") is refused by name with UNIMPLEMENTED. What is left of an
// object's state (BUILD) is dropped. INVALID_ARGUMENT for all that is malformed. Messages name the
// offset and not the file. Memory stays below some hundred bytes for each byte of `bytes`, which
// are at most 16 MiB.
absl::StatusOr<Pickle> ParsePickle(std::span<const std::byte> bytes,
                                   std::span<const std::string_view> allowed);

}  // namespace yangtuo
