#include "tools/merge_tokenizer/merge_tokenizer.h"

#include <algorithm>
#include <filesystem>
#include <iostream>
#include <memory>
#include <optional>
#include <system_error>
#include <utility>

#include "absl/strings/str_format.h"
#include "inference_core/base/mapped_file.h"
#include "inference_core/base/output_file.h"
#include "inference_core/base/sha256.h"
#include "inference_core/base/status_macros.h"
#include "inference_core/tokenizer/hf_tokenizer_files.h"
#include "inference_core/tokenizer/tokenizer.h"
#include "nlohmann/json.hpp"

namespace yangtuo {
namespace {

namespace fs = std::filesystem;

// A quarter English, the rest Chinese, old and new.
constexpr char kSample[] =
    "白日依山尽，黄河入海流。欲穷千里目，更上一层楼。\n"
    "人工智能是计算机科学、心理学、哲学等学科融合的交叉学科。\n"
    "为什么要减少污染，保护环境？\n"
    "The quick brown fox jumps over the lazy dog.\n";
constexpr std::size_t kShownPieces = 8;

struct Merged {
  TokenizerMerge merge;
  TokenSaving saving;
  std::string digest;
};

absl::StatusOr<std::string> ReadWhole(const fs::path& path) {
  YANGTUO_ASSIGN_OR_RETURN(const MappedFile file, MappedFile::Open(path));
  return std::string(reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size());
}

fs::path ModelFile(const std::string& path) {
  std::error_code error;
  return fs::is_directory(path, error) ? fs::path(path) / "tokenizer.model" : fs::path(path);
}

// A sentencepiece model begins with field 1 of its message, its first piece: a byte that no word
// list begins with.
absl::StatusOr<PieceSource> ReadAddition(const std::string& path) {
  const fs::path file = ModelFile(path);
  YANGTUO_ASSIGN_OR_RETURN(const std::string bytes, ReadWhole(file));
  if (file.extension() == ".model" || bytes.starts_with('\n')) {
    if (absl::StatusOr<PieceSource> pieces = PiecesOfModel(bytes, file.string());
        pieces.ok() || file.extension() == ".model") {
      return pieces;
    }
  }
  return PiecesOfWords(bytes, file.string());
}

absl::StatusOr<TokenSaving> Measure(const std::string& before, const std::string& after,
                                    const MergeTokenizerOptions& options) {
  TokenSaving saving{.sample = options.sample.empty() ? "the built-in sample" : options.sample};
  std::string text = kSample;
  if (!options.sample.empty()) {
    YANGTUO_ASSIGN_OR_RETURN(text, ReadWhole(options.sample));
  }
  saving.characters = std::count_if(text.begin(), text.end(), [](char c) {
    return (static_cast<unsigned char>(c) & 0xC0U) != 0x80U;
  });
  const auto count = [&text](const std::string& model,
                             std::string_view name) -> absl::StatusOr<std::size_t> {
    YANGTUO_ASSIGN_OR_RETURN(const auto tokenizer, Tokenizer::FromModel(model, {}, name));
    YANGTUO_ASSIGN_OR_RETURN(const std::vector<std::int32_t> ids, tokenizer->Encode(text));
    return ids.size();
  };
  YANGTUO_ASSIGN_OR_RETURN(saving.before, count(before, "the base tokenizer"));
  YANGTUO_ASSIGN_OR_RETURN(saving.after, count(after, "the merged tokenizer"));
  return saving;
}

absl::StatusOr<Merged> Merge(const MergeTokenizerOptions& options) {
  const fs::path base_file = ModelFile(options.base);
  YANGTUO_ASSIGN_OR_RETURN(const std::string base, ReadWhole(base_file));
  std::vector<PieceSource> sources;
  for (const std::string& path : options.additions) {
    YANGTUO_ASSIGN_OR_RETURN(PieceSource source, ReadAddition(path));
    sources.push_back(std::move(source));
  }
  Merged merged;
  YANGTUO_ASSIGN_OR_RETURN(merged.merge,
                           MergeTokenizers(base, base_file.string(), sources, options.pad_token));
  if (merged.merge.added.empty()) {
    return absl::FailedPreconditionError(
        absl::StrFormat("nothing to add: all %d pieces are in %s already", merged.merge.duplicates,
                        base_file.string()));
  }
  YANGTUO_ASSIGN_OR_RETURN(merged.saving, Measure(base, merged.merge.model, options));
  merged.digest = Sha256Hex(merged.merge.model);
  return merged;
}

// The padding token: asked for, or what the files beside the base name.
absl::StatusOr<std::string> PadToken(const MergeTokenizerOptions& options) {
  if (!options.pad_token.empty()) {
    return options.pad_token;
  }
  const fs::path file = ModelFile(options.base);
  YANGTUO_ASSIGN_OR_RETURN(const HfTokenizerFiles files,
                           ReadHfTokenizerFiles(file.has_parent_path() ? file.parent_path() : "."));
  return files.pad_token.value_or("");
}

absl::Status Write(const Merged& merged, const MergeTokenizerOptions& options) {
  YANGTUO_ASSIGN_OR_RETURN(const std::string pad_token, PadToken(options));
  YANGTUO_ASSIGN_OR_RETURN(OutputFolder folder, OutputFolder::Create(options.output));
  const nlohmann::ordered_json config = {{"add_bos_token", true},
                                         {"add_eos_token", false},
                                         {"clean_up_tokenization_spaces", false},
                                         {"legacy", true},
                                         {"tokenizer_class", "LlamaTokenizer"}};
  YANGTUO_RETURN_IF_ERROR(WriteOutputFile(folder.path() / "tokenizer.model", merged.merge.model));
  YANGTUO_RETURN_IF_ERROR(
      WriteOutputFile(folder.path() / "special_tokens_map.json", SpecialTokensMap(pad_token)));
  YANGTUO_RETURN_IF_ERROR(
      WriteOutputFile(folder.path() / "tokenizer_config.json", config.dump(2) + "\n"));
  return folder.Commit();
}

const std::string& Literal(const TokenizerMerge& merge, std::int32_t id) {
  return merge.added[static_cast<std::size_t>(id - merge.base_pieces)];
}

void PrintReport(const Merged& merged, const MergeTokenizerOptions& options, std::ostream& out) {
  const TokenizerMerge& merge = merged.merge;
  out << absl::StrFormat("pieces       %d in the base + %d added = %d\n", merge.base_pieces,
                         merge.added.size(),
                         merge.base_pieces + static_cast<std::int64_t>(merge.added.size()));
  out << absl::StrFormat("duplicates   %d were there already\n", merge.duplicates);
  if (merge.passed_over > 0) {
    out << absl::StrFormat("passed over  %d control, unknown and byte pieces\n", merge.passed_over);
  }
  out << absl::StrFormat("unreachable  %d of the added pieces", merge.unreachable.size());
  for (std::size_t i = 0; i < std::min(merge.unreachable.size(), kShownPieces); ++i) {
    out << (i == 0 ? ": " : " ") << Literal(merge, merge.unreachable[i]);
  }
  out << (merge.unreachable.size() > kShownPieces ? " ...\n" : "\n");
  if (!merge.unreachable.empty()) {
    out << "             no text encodes to them: pairs of known pieces do not lead there. Add "
           "their parts too.\n";
  }
  if (!merge.hidden.empty()) {
    out << absl::StrFormat("hidden       %d pieces of the base: an added piece wins first\n",
                           merge.hidden.size());
  }
  const TokenSaving& saving = merged.saving;
  out << absl::StrFormat("tokens       %d -> %d for the %d characters of %s (%.1f %% fewer)\n",
                         saving.before, saving.after, saving.characters, saving.sample,
                         saving.before == 0 ? 0.0
                                            : 100.0 - 100.0 * static_cast<double>(saving.after) /
                                                          static_cast<double>(saving.before));
  out << "sha256       " << merged.digest << "\n";
  out << (options.dry_run ? "nothing written (--dry-run): would be " : "written      ")
      << options.output << "\n";
}

void PrintJson(const Merged& merged, const MergeTokenizerOptions& options, std::ostream& out) {
  const TokenizerMerge& merge = merged.merge;
  nlohmann::ordered_json unreachable = nlohmann::ordered_json::array();
  for (const std::int32_t id : merge.unreachable) {
    unreachable.push_back({{"id", id}, {"piece", Literal(merge, id)}});
  }
  const nlohmann::ordered_json report = {
      {"base_pieces", merge.base_pieces},
      {"added", merge.added.size()},
      {"pieces", merge.base_pieces + static_cast<std::int64_t>(merge.added.size())},
      {"duplicates", merge.duplicates},
      {"passed_over", merge.passed_over},
      {"unreachable", unreachable},
      {"hidden_base_ids", merge.hidden},
      {"sample",
       {{"text", merged.saving.sample},
        {"characters", merged.saving.characters},
        {"tokens_before", merged.saving.before},
        {"tokens_after", merged.saving.after}}},
      {"sha256", merged.digest},
      {"output",
       options.dry_run ? nlohmann::ordered_json() : nlohmann::ordered_json(options.output)}};
  out << report.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) << "\n";
}

}  // namespace

std::string SpecialTokensMap(const std::string& pad_token) {
  nlohmann::ordered_json map = {{"bos_token", "<s>"}, {"eos_token", "</s>"}};
  if (!pad_token.empty()) {
    map["pad_token"] = pad_token;
  }
  map["unk_token"] = "<unk>";
  return map.dump(2) + "\n";
}

int RunMergeTokenizer(const MergeTokenizerOptions& options) {
  const absl::StatusOr<Merged> merged = Merge(options);
  absl::Status status = merged.status();
  if (status.ok() && !options.dry_run) {
    status = Write(*merged, options);
  }
  if (!status.ok()) {
    std::cerr << "yangtuo merge-tokenizer: " << std::string(status.message()) << "\n";
    return 1;
  }
  if (options.json) {
    PrintJson(*merged, options, std::cout);
  } else {
    PrintReport(*merged, options, std::cout);
  }
  return 0;
}

}  // namespace yangtuo
