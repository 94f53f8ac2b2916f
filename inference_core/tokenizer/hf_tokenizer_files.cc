#include "inference_core/tokenizer/hf_tokenizer_files.h"

#include <limits>
#include <string_view>
#include <system_error>

#include "absl/strings/numbers.h"
#include "absl/strings/str_format.h"
#include "inference_core/base/mapped_file.h"
#include "inference_core/base/status_macros.h"
#include "nlohmann/json.hpp"

namespace yangtuo {
namespace {

using Json = nlohmann::json;

// An absent file is an empty object.
absl::StatusOr<Json> ReadObject(const std::filesystem::path& path) {
  std::error_code error;
  if (!std::filesystem::exists(path, error)) {
    return Json::object();
  }
  YANGTUO_ASSIGN_OR_RETURN(const MappedFile file, MappedFile::Open(path));
  const std::string_view text(reinterpret_cast<const char*>(file.bytes().data()),
                              file.bytes().size());
  Json parsed = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!parsed.is_object()) {
    return absl::DataLossError(
        absl::StrFormat("%s: expected a JSON object, found something else", path.string()));
  }
  return parsed;
}

// A token is a string, or an object {"content": string, ...}. Null and absent: none.
std::optional<std::string> TokenContent(const Json& token) {
  if (token.is_string()) {
    return token.get<std::string>();
  }
  if (token.is_object() && token.contains("content") && token["content"].is_string()) {
    return token["content"].get<std::string>();
  }
  return std::nullopt;
}

void AddSpecial(const std::optional<std::string>& literal, HfTokenizerFiles& files) {
  if (literal.has_value() && !literal->empty()) {
    files.special_literals.push_back(*literal);
  }
}

// The roles that both special_tokens_map.json and tokenizer_config.json name.
void ReadRoles(const Json& object, HfTokenizerFiles& files) {
  const auto read = [&](const char* key) {
    const std::optional<std::string> literal =
        object.contains(key) ? TokenContent(object[key]) : std::nullopt;
    AddSpecial(literal, files);
    return literal;
  };
  const auto keep_first = [](std::optional<std::string>& kept, std::optional<std::string> found) {
    kept = kept.has_value() ? kept : found;
  };
  keep_first(files.bos_token, read("bos_token"));
  keep_first(files.eos_token, read("eos_token"));
  keep_first(files.pad_token, read("pad_token"));
  read("unk_token");
  if (object.contains("additional_special_tokens") &&
      object["additional_special_tokens"].is_array()) {
    for (const Json& token : object["additional_special_tokens"]) {
      AddSpecial(TokenContent(token), files);
    }
  }
}

// added_tokens.json: {"[PAD]": 32000}.
absl::Status ReadAddedTokens(const Json& object, HfTokenizerFiles& files) {
  for (const auto& [literal, id] : object.items()) {
    if (!id.is_number_integer() || id.get<std::int64_t>() < 0 ||
        id.get<std::int64_t>() > std::numeric_limits<std::int32_t>::max()) {
      return absl::DataLossError(absl::StrFormat(
          "added_tokens.json: expected an id for \"%s\", found %s", literal, id.dump()));
    }
    files.added_tokens[id.get<std::int32_t>()] = literal;
    AddSpecial(literal, files);
  }
  return absl::OkStatus();
}

// tokenizer_config.json: "added_tokens_decoder": {"32000": {"content": "[PAD]"}}.
absl::Status ReadAddedTokensDecoder(const Json& object, HfTokenizerFiles& files) {
  for (const auto& [key, token] : object.items()) {
    std::int32_t id = 0;
    const std::optional<std::string> literal = TokenContent(token);
    if (!absl::SimpleAtoi(key, &id) || id < 0 || !literal.has_value()) {
      return absl::DataLossError(absl::StrFormat(
          "tokenizer_config.json: expected id and content in added_tokens_decoder, found \"%s\"",
          key));
    }
    files.added_tokens[id] = *literal;
    AddSpecial(literal, files);
  }
  return absl::OkStatus();
}

// A file of its own goes before tokenizer_config.json, which has one text or several by name.
absl::StatusOr<std::string> ReadChatTemplate(const std::filesystem::path& folder,
                                             const Json& config) {
  const std::filesystem::path path = folder / "chat_template.jinja";
  std::error_code error;
  if (std::filesystem::exists(path, error)) {
    YANGTUO_ASSIGN_OR_RETURN(const MappedFile file, MappedFile::Open(path));
    return std::string(reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size());
  }
  const Json found = config.value("chat_template", Json());
  if (found.is_string()) {
    return found.get<std::string>();
  }
  for (const Json& named : found.is_array() ? found : Json::array()) {
    if (named.is_object() && named.value("name", Json()) == "default" &&
        named.value("template", Json()).is_string()) {
      return named["template"].get<std::string>();
    }
  }
  return std::string();
}

}  // namespace

absl::StatusOr<HfTokenizerFiles> ReadHfTokenizerFiles(const std::filesystem::path& folder) {
  HfTokenizerFiles files;
  YANGTUO_ASSIGN_OR_RETURN(const Json map, ReadObject(folder / "special_tokens_map.json"));
  YANGTUO_ASSIGN_OR_RETURN(const Json config, ReadObject(folder / "tokenizer_config.json"));
  YANGTUO_ASSIGN_OR_RETURN(const Json added, ReadObject(folder / "added_tokens.json"));
  ReadRoles(map, files);
  ReadRoles(config, files);
  YANGTUO_RETURN_IF_ERROR(ReadAddedTokens(added, files));
  if (config.contains("added_tokens_decoder") && config["added_tokens_decoder"].is_object()) {
    YANGTUO_RETURN_IF_ERROR(ReadAddedTokensDecoder(config["added_tokens_decoder"], files));
  }
  YANGTUO_ASSIGN_OR_RETURN(files.chat_template, ReadChatTemplate(folder, config));
  return files;
}

}  // namespace yangtuo
