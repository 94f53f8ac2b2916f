#include "inference_core/formats/strict_json.h"

#include <algorithm>
#include <cstddef>
#include <nlohmann/json.hpp>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_format.h"

namespace yangtuo {
namespace {

using nlohmann::json;

constexpr int kDeepest = 32;
constexpr std::size_t kShownBytes = 120;

// Builds the value and stops at the first fault: a fault costs no more than the text before it.
class StrictBuilder final : public nlohmann::json_sax<json> {
 public:
  bool null() override { return Add(nullptr); }
  bool boolean(bool value) override { return Add(value); }
  bool number_integer(number_integer_t value) override { return Add(value); }
  bool number_unsigned(number_unsigned_t value) override { return Add(value); }
  bool number_float(number_float_t value, const string_t& /*text*/) override { return Add(value); }
  bool string(string_t& value) override { return Add(std::move(value)); }
  bool binary(binary_t& /*value*/) override { return Fail("binary values are not JSON"); }

  bool start_object(std::size_t /*size*/) override { return Open(json::object()); }
  bool end_object() override { return Close(); }
  bool start_array(std::size_t /*size*/) override { return Open(json::array()); }
  bool end_array() override { return Close(); }

  bool key(string_t& name) override {
    json& object = *open_.back();
    if (object.contains(name)) {
      return Fail(absl::StrFormat("key %s appears twice in one object", Shown(name)));
    }
    key_ = std::move(name);
    return true;
  }

  bool parse_error(std::size_t position, const std::string& /*token*/,
                   const nlohmann::detail::exception& error) override {
    // "[json.exception.parse_error.101] parse error at line 1, column 2: REASON; last read: 'X'",
    // where X holds raw bytes of the file, which need not be text.
    std::string reason = error.what();
    reason.resize(std::min(reason.size(), reason.find("; last read")));
    const std::size_t prefix = reason.find(": ");
    return Fail(
        absl::StrFormat("not JSON at byte %d: %s", position,
                        prefix == std::string::npos ? "syntax error" : reason.substr(prefix + 2)));
  }

  [[nodiscard]] const std::string& fault() const { return fault_; }
  [[nodiscard]] json Take() { return std::move(root_); }

 private:
  bool Fail(std::string fault) {
    if (fault_.empty()) {
      fault_ = std::move(fault);
    }
    return false;
  }

  json* Place(json value) {
    if (open_.empty()) {
      root_ = std::move(value);
      return &root_;
    }
    json& parent = *open_.back();
    if (parent.is_array()) {
      parent.push_back(std::move(value));
      return &parent.back();
    }
    return &(parent[key_] = std::move(value));
  }

  bool Add(json value) {
    Place(std::move(value));
    return true;
  }

  bool Open(json container) {
    if (open_.size() >= kDeepest) {
      return Fail(absl::StrFormat("nested more than %d deep", kDeepest));
    }
    // Only the innermost container grows, so the outer pointers stay valid.
    open_.push_back(Place(std::move(container)));
    return true;
  }

  bool Close() {
    open_.pop_back();
    return true;
  }

  json root_;
  std::vector<json*> open_;
  std::string key_;
  std::string fault_;
};

}  // namespace

absl::StatusOr<json> ParseStrictJson(std::string_view text) {
  // The parser takes a zero byte for the end of its input and would ignore what follows.
  if (const std::size_t zero = text.find('\0'); zero != std::string_view::npos) {
    return absl::InvalidArgumentError(absl::StrFormat("not JSON at byte %d: zero byte", zero));
  }
  StrictBuilder builder;
  if (!json::sax_parse(text.begin(), text.end(), &builder)) {
    return absl::InvalidArgumentError(builder.fault());
  }
  json value = builder.Take();
  if (!value.is_object()) {
    return absl::InvalidArgumentError(
        absl::StrFormat("expected a JSON object, found %s", Shown(value)));
  }
  return value;
}

bool IsUtf8(const std::string& text) {
  try {
    static_cast<void>(json(text).dump());
    return true;
  } catch (const json::exception&) {
    return false;
  }
}

std::string Shown(const json& value) {
  std::string text =
      value.dump(/*indent=*/-1, ' ', /*ensure_ascii=*/false, json::error_handler_t::replace);
  if (text.size() <= kShownBytes) {
    return text;
  }
  std::size_t end = kShownBytes;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0U) == 0x80U) {
    --end;  // not inside a character
  }
  text.resize(end);
  return text + "...";
}

}  // namespace yangtuo
