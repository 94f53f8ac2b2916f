#include "inference_core/tokenizer/tokenizer.h"

#include <system_error>
#include <utility>

#include "absl/strings/str_format.h"
#include "inference_core/base/mapped_file.h"
#include "inference_core/base/status_macros.h"
#include "inference_core/tokenizer/chat_template.h"
#include "inference_core/tokenizer/hf_tokenizer_files.h"
#include "inference_core/tokenizer/incremental_decoder.h"

namespace yangtuo {
namespace {

constexpr std::size_t kMaxTextBytes = std::size_t{1} << 30;

// The id of the default template's choice must be a name that exists.
absl::StatusOr<TemplateChoice> ChooseTemplate(const std::string& asked,
                                              const HfTokenizerFiles& files,
                                              const Vocabulary& vocabulary) {
  if (asked == "none") {
    return TemplateChoice{};
  }
  if (!asked.empty()) {
    YANGTUO_ASSIGN_OR_RETURN(const ChatTemplate found, FindChatTemplate(asked));
    return TemplateChoice{.name = found.name};
  }
  return DefaultChatTemplate(files.chat_template, vocabulary);
}

}  // namespace

Tokenizer::Tokenizer(Vocabulary vocabulary, SpecialTokens specials, SentencePieceModel model,
                     const TemplateChoice& chat_template)
    : vocabulary_(std::move(vocabulary)),
      specials_(std::move(specials)),
      model_(std::move(model)),
      chat_template_(chat_template.name),
      template_known_(chat_template.known),
      lone_prefix_id_(vocabulary_.Find(kSpaceSymbol)) {}

absl::StatusOr<std::unique_ptr<const Tokenizer>> Tokenizer::Load(const std::filesystem::path& path,
                                                                 const TokenizerOptions& options) {
  std::error_code error;
  const std::filesystem::path file =
      std::filesystem::is_directory(path, error) ? path / "tokenizer.model" : path;
  YANGTUO_ASSIGN_OR_RETURN(const MappedFile mapped, MappedFile::Open(file));
  const std::string_view bytes(reinterpret_cast<const char*>(mapped.bytes().data()),
                               mapped.bytes().size());
  const std::filesystem::path folder = file.has_parent_path() ? file.parent_path() : ".";
  YANGTUO_ASSIGN_OR_RETURN(const HfTokenizerFiles files, ReadHfTokenizerFiles(folder));
  return FromModel(bytes, files, file.string(), options);
}

absl::StatusOr<std::unique_ptr<const Tokenizer>> Tokenizer::FromModel(
    std::string_view model, const HfTokenizerFiles& files, std::string_view origin,
    const TokenizerOptions& options) {
  YANGTUO_ASSIGN_OR_RETURN(Vocabulary vocabulary, Vocabulary::Parse(model, origin));
  absl::StatusOr<SpecialTokens> specials = SpecialTokens::Create(files, vocabulary);
  if (!specials.ok()) {
    return absl::DataLossError(
        absl::StrFormat("%s: %s", origin, std::string(specials.status().message())));
  }
  YANGTUO_ASSIGN_OR_RETURN(const TemplateChoice chat_template,
                           ChooseTemplate(options.chat_template, files, vocabulary));
  YANGTUO_ASSIGN_OR_RETURN(const SentencePieceLibrary* library,
                           SentencePieceLibrary::Load(options.shim));
  YANGTUO_ASSIGN_OR_RETURN(SentencePieceModel loaded, library->CreateModel(model, origin));
  return std::unique_ptr<const Tokenizer>(
      new Tokenizer(std::move(vocabulary), *std::move(specials), std::move(loaded), chat_template));
}

absl::StatusOr<std::vector<std::int32_t>> Tokenizer::Encode(std::string_view text,
                                                            const EncodeOptions& options) const {
  if (text.size() >= kMaxTextBytes) {
    return absl::InvalidArgumentError(
        absl::StrFormat("the text has %d bytes, the limit is %d", text.size(), kMaxTextBytes));
  }
  std::vector<std::int32_t> ids;
  if (options.add_bos) {
    ids.push_back(bos_id());
  }
  if (!options.parse_special) {
    YANGTUO_RETURN_IF_ERROR(EncodeText(text, options, ids));
    return ids;
  }
  for (const SpecialSplit& part : specials_.Split(text)) {
    if (part.special.has_value()) {
      ids.push_back(*part.special);
    } else {
      YANGTUO_RETURN_IF_ERROR(EncodeText(part.text, options, ids));
    }
  }
  return ids;
}

absl::Status Tokenizer::EncodeText(std::string_view text, const EncodeOptions& options,
                                   std::vector<std::int32_t>& ids) const {
  const std::size_t begin = ids.size();
  YANGTUO_RETURN_IF_ERROR(model_.Encode(text, ids));
  if (options.drop_lone_prefix && ids.size() > begin && ids[begin] == lone_prefix_id_) {
    ids.erase(ids.begin() + static_cast<std::ptrdiff_t>(begin));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> Tokenizer::Decode(std::span<const std::int32_t> ids) const {
  IncrementalDecoder decoder(vocabulary_);
  std::string text;
  YANGTUO_RETURN_IF_ERROR(decoder.Append(ids, text));
  decoder.Finish(text);
  return text;
}

}  // namespace yangtuo
