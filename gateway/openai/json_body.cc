#include "gateway/openai/json_body.h"

#include <array>
#include <cmath>
#include <cstddef>
#include <limits>
#include <utility>

#include "absl/strings/str_format.h"
#include "inference_core/base/status_macros.h"
#include "services/common/status.h"

namespace yangtuo::gateway::openai {
namespace {

constexpr double kTwoTo63 = 9223372036854775808.0;  // no int64_t any more
constexpr std::size_t kMaxDepth = 64;
constexpr int kMaxMembers = 1024;
constexpr int kMaxAllMembers = 65536;

// Looks at the marks between the strings alone, before anything is built.
absl::Status CheckShape(std::string_view text) {
  std::array<int, kMaxDepth + 1> members{};  // of the object at this depth
  std::size_t depth = 0;
  int all_members = 0;
  bool in_string = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\') {
        ++i;
      } else if (c == '"') {
        in_string = false;
      }
    } else if (c == '"') {
      in_string = true;
    } else if (c == '[' || c == '{') {
      if (++depth > kMaxDepth) {
        return absl::InvalidArgumentError(
            absl::StrFormat("the request body is nested more than %d deep", kMaxDepth));
      }
      members[depth] = 0;
    } else if ((c == ']' || c == '}') && depth > 0) {
      --depth;
    } else if (c == ':' && (++members[depth] > kMaxMembers || ++all_members > kMaxAllMembers)) {
      return absl::InvalidArgumentError(
          absl::StrFormat("the request body has more than %d members in one object, or %d in all",
                          kMaxMembers, kMaxAllMembers));
    }
  }
  return absl::OkStatus();
}

const char* NameOf(const Json& value) {
  switch (value.type()) {
    case Json::value_t::object:
      return "an object";
    case Json::value_t::array:
      return "a list";
    case Json::value_t::string:
      return "a string";
    case Json::value_t::boolean:
      return "a boolean";
    case Json::value_t::null:
      return "null";
    default:
      return "a number";
  }
}

}  // namespace

absl::StatusOr<Json> ParseBody(std::string_view body) {
  YANGTUO_RETURN_IF_ERROR(CheckShape(body));
  try {
    Json parsed = Json::parse(body.begin(), body.end());
    if (!parsed.is_object()) {
      return absl::InvalidArgumentError(
          absl::StrFormat("the request body is %s, expected a JSON object", NameOf(parsed)));
    }
    return parsed;
  } catch (const Json::exception& error) {
    return absl::InvalidArgumentError(
        absl::StrFormat("the request body is not JSON in UTF-8: %s", error.what()));
  }
}

absl::Status WrongField(std::string_view field, std::string_view description) {
  return WithReason(InvalidField(field, description), "INVALID_FIELD");
}

absl::Status UnsupportedField(std::string_view field, std::string_view description) {
  return WithReason(InvalidField(field, description), "UNSUPPORTED_FIELD");
}

const Json* Fields::Find(const char* name) const {
  const auto found = object_.find(name);
  return found == object_.end() || found->is_null() ? nullptr : &*found;
}

void Fields::Fail(absl::Status status) {
  if (status_.ok()) {
    status_ = std::move(status);
  }
}

void Fields::WrongType(const char* name, const char* expected, const Json& found) {
  Fail(WrongField(name, absl::StrFormat("is %s, expected %s", NameOf(found), expected)));
}

std::optional<double> Fields::Number(const char* name) {
  const Json* value = Find(name);
  if (value != nullptr && !value->is_number()) {
    WrongType(name, "a number", *value);
    return std::nullopt;
  }
  return value == nullptr ? std::nullopt : std::optional<double>(value->get<double>());
}

std::optional<std::int64_t> Fields::Integer(const char* name, std::int64_t low, std::int64_t high) {
  const Json* value = Find(name);
  if (value == nullptr) {
    return std::nullopt;
  }
  if (!value->is_number()) {
    WrongType(name, "an integer", *value);
    return std::nullopt;
  }
  // Some clients write 16.0; 64-bit integers do not all fit a double.
  const double number = value->get<double>();
  const bool whole =
      value->is_number_integer() || (number == std::floor(number) && std::abs(number) < kTwoTo63);
  if (!whole || number < static_cast<double>(low) || number > static_cast<double>(high)) {
    Fail(WrongField(
        name, absl::StrFormat("is %s, must be an integer in %d..%d", value->dump(), low, high)));
    return std::nullopt;
  }
  return value->is_number_integer() ? value->get<std::int64_t>()
                                    : static_cast<std::int64_t>(number);
}

std::optional<std::uint32_t> Fields::Count(const char* name) {
  const auto value = Integer(name, 0, std::numeric_limits<std::uint32_t>::max());
  return value.has_value() ? std::optional<std::uint32_t>(static_cast<std::uint32_t>(*value))
                           : std::nullopt;
}

std::optional<bool> Fields::Bool(const char* name) {
  const Json* value = Find(name);
  if (value != nullptr && !value->is_boolean()) {
    WrongType(name, "true or false", *value);
    return std::nullopt;
  }
  return value == nullptr ? std::nullopt : std::optional<bool>(value->get<bool>());
}

std::optional<std::string> Fields::Text(const char* name) {
  const Json* value = Find(name);
  if (value != nullptr && !value->is_string()) {
    WrongType(name, "a string", *value);
    return std::nullopt;
  }
  return value == nullptr ? std::nullopt
                          : std::optional<std::string>(value->get_ref<const std::string&>());
}

std::vector<std::string> Fields::Texts(const char* name) {
  const Json* value = Find(name);
  if (value == nullptr) {
    return {};
  }
  if (value->is_string()) {
    return {value->get<std::string>()};
  }
  std::vector<std::string> texts;
  bool strings = value->is_array();
  for (std::size_t i = 0; strings && i < value->size(); ++i) {
    strings = (*value)[i].is_string();
    if (strings) {
      texts.push_back((*value)[i].get<std::string>());
    }
  }
  if (!strings) {
    WrongType(name, "a string or a list of strings", *value);
  }
  return texts;
}

std::vector<std::uint32_t> Fields::Ids(const char* name) {
  const Json* value = Find(name);
  if (value == nullptr) {
    return {};
  }
  auto ids = TokenIdsOf(name, *value);
  if (!ids.ok()) {
    Fail(ids.status());
    return {};
  }
  return *std::move(ids);
}

absl::StatusOr<std::vector<std::uint32_t>> TokenIdsOf(const std::string& field, const Json& list) {
  if (!list.is_array()) {
    return WrongField(field, absl::StrFormat("is %s, expected a list of token ids", NameOf(list)));
  }
  std::vector<std::uint32_t> ids;
  ids.reserve(list.size());
  for (const Json& id : list) {
    if (!id.is_number_unsigned() ||
        id.get<std::uint64_t>() > std::numeric_limits<std::uint32_t>::max()) {
      return WrongField(field, absl::StrFormat("has %s among its token ids, which must be "
                                               "integers from 0",
                                               id.dump(-1, ' ', true).substr(0, 64)));
    }
    ids.push_back(id.get<std::uint32_t>());
  }
  return ids;
}

std::string Write(const Json& value) {
  return value.dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace yangtuo::gateway::openai
