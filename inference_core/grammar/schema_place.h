#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace yangtuo {

// Where in a JSON schema something is, for messages: a JSON pointer as a fragment,
// "#/properties/a".
class SchemaPlace {
 public:
  explicit SchemaPlace(std::string text) : text_(std::move(text)) {}

  [[nodiscard]] SchemaPlace Below(std::string_view key) const;
  [[nodiscard]] SchemaPlace Below(std::size_t index) const {
    return SchemaPlace(text_ + "/" + std::to_string(index));
  }
  [[nodiscard]] const std::string& text() const { return text_; }
  // INVALID_ARGUMENT that begins with the place.
  [[nodiscard]] absl::Status Fault(std::string_view what) const;

 private:
  std::string text_;
};

// The steps of a "$ref" within the document. INVALID_ARGUMENT for any other.
absl::StatusOr<std::vector<std::string>> PathOf(std::string_view reference);

}  // namespace yangtuo
