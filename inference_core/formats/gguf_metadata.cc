#include <algorithm>
#include <cstring>
#include <limits>
#include <nlohmann/json.hpp>

#include "absl/strings/str_format.h"
#include "inference_core/base/status_macros.h"
#include "inference_core/formats/byte_reader.h"
#include "inference_core/formats/gguf.h"
#include "inference_core/formats/strict_json.h"

namespace yangtuo {
namespace {

std::string_view NameOf(GgufType type) {
  switch (type) {
    case GgufType::kUint8:
      return "uint8";
    case GgufType::kInt8:
      return "int8";
    case GgufType::kUint16:
      return "uint16";
    case GgufType::kInt16:
      return "int16";
    case GgufType::kUint32:
      return "uint32";
    case GgufType::kInt32:
      return "int32";
    case GgufType::kFloat32:
      return "float32";
    case GgufType::kBool:
      return "bool";
    case GgufType::kString:
      return "string";
    case GgufType::kArray:
      return "array";
    case GgufType::kUint64:
      return "uint64";
    case GgufType::kInt64:
      return "int64";
    case GgufType::kFloat64:
      return "float64";
  }
  return "?";
}

std::string Described(const GgufValue& value) {
  return value.type == GgufType::kArray
             ? absl::StrFormat("an array of %d %s", value.count, NameOf(value.element_type))
             : absl::StrFormat("%s %s", NameOf(value.type), Shown(value));
}

// The number at `bytes`, which has SizeOf(type) of them.
template <typename T>
T Number(std::span<const std::byte> bytes) {
  T value{};
  std::memcpy(&value, bytes.data(), sizeof(T));
  return value;
}

std::optional<std::int64_t> AsWhole(GgufType type, std::span<const std::byte> bytes) {
  switch (type) {
    case GgufType::kUint8:
      return Number<std::uint8_t>(bytes);
    case GgufType::kInt8:
      return Number<std::int8_t>(bytes);
    case GgufType::kUint16:
      return Number<std::uint16_t>(bytes);
    case GgufType::kInt16:
      return Number<std::int16_t>(bytes);
    case GgufType::kUint32:
      return Number<std::uint32_t>(bytes);
    case GgufType::kInt32:
      return Number<std::int32_t>(bytes);
    case GgufType::kInt64:
      return Number<std::int64_t>(bytes);
    case GgufType::kUint64: {
      const auto value = Number<std::uint64_t>(bytes);
      return value <= static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max())
                 ? std::optional(static_cast<std::int64_t>(value))
                 : std::nullopt;
    }
    default:
      return std::nullopt;
  }
}

std::optional<double> AsReal(GgufType type, std::span<const std::byte> bytes) {
  switch (type) {
    case GgufType::kFloat32:
      return Number<float>(bytes);
    case GgufType::kFloat64:
      return Number<double>(bytes);
    case GgufType::kUint64:
      return static_cast<double>(Number<std::uint64_t>(bytes));
    default: {
      const auto whole = AsWhole(type, bytes);
      return whole.has_value() ? std::optional(static_cast<double>(*whole)) : std::nullopt;
    }
  }
}

std::string AsText(const GgufValue& value) {
  return {reinterpret_cast<const char*>(value.bytes.data()), value.bytes.size()};
}

}  // namespace

std::size_t SizeOf(GgufType type) {
  switch (type) {
    case GgufType::kUint8:
    case GgufType::kInt8:
    case GgufType::kBool:
      return 1;
    case GgufType::kUint16:
    case GgufType::kInt16:
      return 2;
    case GgufType::kUint32:
    case GgufType::kInt32:
    case GgufType::kFloat32:
      return 4;
    case GgufType::kUint64:
    case GgufType::kInt64:
    case GgufType::kFloat64:
      return 8;
    case GgufType::kString:
    case GgufType::kArray:
      break;
  }
  return 0;
}

std::string Shown(const GgufValue& value) {
  if (value.type == GgufType::kString) {
    return Shown(nlohmann::json(AsText(value)));
  }
  if (value.type == GgufType::kArray) {
    return absl::StrFormat("%d x %s", value.count, NameOf(value.element_type));
  }
  if (value.type == GgufType::kBool) {
    return value.bytes.front() == std::byte{0} ? "false" : "true";
  }
  if (const auto whole = AsWhole(value.type, value.bytes)) {
    return absl::StrFormat("%d", *whole);
  }
  return absl::StrFormat("%.9g", AsReal(value.type, value.bytes).value_or(0));
}

const GgufValue* GgufMetadata::Find(std::string_view key) const {
  const auto found = places_.find(key);
  return found == places_.end() ? nullptr : &entries_[found->second].second;
}

bool GgufMetadata::Add(const std::string& key, GgufValue value) {
  if (!places_.try_emplace(key, entries_.size()).second) {
    return false;
  }
  entries_.emplace_back(key, value);
  return true;
}

absl::StatusOr<GgufValue> GgufMetadata::Require(std::string_view key) const {
  const GgufValue* const value = Find(key);
  if (value == nullptr) {
    return absl::NotFoundError(absl::StrFormat("%s: the metadata has no key \"%s\"", file_, key));
  }
  return *value;
}

absl::Status GgufMetadata::Unexpected(std::string_view key, std::string_view expected,
                                      const GgufValue& found) const {
  return absl::InvalidArgumentError(absl::StrFormat("%s: key \"%s\": expected %s, found %s", file_,
                                                    key, expected, Described(found)));
}

absl::StatusOr<std::int64_t> GgufMetadata::Whole(std::string_view key,
                                                 std::optional<std::int64_t> absent) const {
  if (absent.has_value() && Find(key) == nullptr) {
    return *absent;
  }
  YANGTUO_ASSIGN_OR_RETURN(const GgufValue value, Require(key));
  const auto whole = AsWhole(value.type, value.bytes);
  if (!whole.has_value()) {
    return Unexpected(key, "a whole number below 2^63", value);
  }
  return *whole;
}

absl::StatusOr<double> GgufMetadata::Real(std::string_view key,
                                          std::optional<double> absent) const {
  if (absent.has_value() && Find(key) == nullptr) {
    return *absent;
  }
  YANGTUO_ASSIGN_OR_RETURN(const GgufValue value, Require(key));
  const auto real = AsReal(value.type, value.bytes);
  if (!real.has_value()) {
    return Unexpected(key, "a number", value);
  }
  return *real;
}

absl::StatusOr<bool> GgufMetadata::Flag(std::string_view key, std::optional<bool> absent) const {
  if (absent.has_value() && Find(key) == nullptr) {
    return *absent;
  }
  YANGTUO_ASSIGN_OR_RETURN(const GgufValue value, Require(key));
  if (value.type != GgufType::kBool) {
    return Unexpected(key, "true or false", value);
  }
  return value.bytes.front() != std::byte{0};
}

absl::StatusOr<std::string> GgufMetadata::Text(std::string_view key,
                                               std::optional<std::string> absent) const {
  if (absent.has_value() && Find(key) == nullptr) {
    return *std::move(absent);
  }
  YANGTUO_ASSIGN_OR_RETURN(const GgufValue value, Require(key));
  if (value.type != GgufType::kString) {
    return Unexpected(key, "a string", value);
  }
  return AsText(value);
}

absl::StatusOr<std::vector<std::string_view>> GgufMetadata::Texts(std::string_view key) const {
  YANGTUO_ASSIGN_OR_RETURN(const GgufValue value, Require(key));
  if (value.type != GgufType::kArray || value.element_type != GgufType::kString) {
    return Unexpected(key, "an array of strings", value);
  }
  std::vector<std::string_view> texts;
  texts.reserve(static_cast<std::size_t>(value.count));
  ByteReader reader(value.bytes);
  for (std::uint64_t i = 0; i < value.count; ++i) {
    // Checked when the file was parsed.
    texts.push_back(*reader.TakeText(*reader.Take<std::uint64_t>()));
  }
  return texts;
}

absl::StatusOr<std::vector<float>> GgufMetadata::Reals(std::string_view key) const {
  YANGTUO_ASSIGN_OR_RETURN(const GgufValue value, Require(key));
  const std::size_t size = SizeOf(value.element_type);
  std::vector<float> reals;
  for (std::uint64_t i = 0; value.type == GgufType::kArray && i < value.count && size > 0; ++i) {
    const auto real =
        AsReal(value.element_type, value.bytes.subspan(static_cast<std::size_t>(i) * size, size));
    if (!real.has_value()) {
      break;
    }
    reals.push_back(static_cast<float>(*real));
  }
  if (value.type != GgufType::kArray || reals.size() != value.count) {
    return Unexpected(key, "an array of numbers", value);
  }
  return reals;
}

absl::StatusOr<std::vector<std::int64_t>> GgufMetadata::Wholes(std::string_view key) const {
  YANGTUO_ASSIGN_OR_RETURN(const GgufValue value, Require(key));
  const std::size_t size = SizeOf(value.element_type);
  std::vector<std::int64_t> wholes;
  for (std::uint64_t i = 0; value.type == GgufType::kArray && i < value.count && size > 0; ++i) {
    const auto whole =
        AsWhole(value.element_type, value.bytes.subspan(static_cast<std::size_t>(i) * size, size));
    if (!whole.has_value()) {
      break;
    }
    wholes.push_back(*whole);
  }
  if (value.type != GgufType::kArray || wholes.size() != value.count) {
    return Unexpected(key, "an array of whole numbers below 2^63", value);
  }
  return wholes;
}

}  // namespace yangtuo
