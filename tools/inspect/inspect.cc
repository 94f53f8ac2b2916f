#include "tools/inspect/inspect.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <system_error>
#include <utility>

#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "inference_core/base/mapped_file.h"
#include "inference_core/base/status_macros.h"
#include "inference_core/checkpoint/checkpoint.h"
#include "inference_core/checkpoint/gguf_tokenizer.h"
#include "inference_core/checkpoint/known_files.h"
#include "inference_core/checkpoint/peft_adapter.h"
#include "inference_core/formats/gguf.h"
#include "inference_core/tokenizer/hf_tokenizer_files.h"
#include "inference_core/tokenizer/tokenizer.h"
#include "tools/common/json_text.h"
#include "tools/common/progress_bar.h"
#include "tools/common/table.h"
#include "tools/inspect/family.h"
#include "tools/inspect/inspect_tensor_file.h"

namespace yangtuo {
namespace {

namespace fs = std::filesystem;
using nlohmann::ordered_json;

std::string KindOf(CheckpointFormat format) {
  switch (format) {
    case CheckpointFormat::kSafetensors:
      return "model: Hugging Face folder, safetensors";
    case CheckpointFormat::kTorchBin:
      return "model: Hugging Face folder, pytorch_model.bin";
    case CheckpointFormat::kMeta:
      return "model: Meta's consolidated.NN.pth";
    case CheckpointFormat::kGguf:
      return "model: GGUF file";
    case CheckpointFormat::kLlama2C:
      return "model: llama2.c file";
  }
  return "model";
}

void AddListed(ListedTensor tensor, std::int64_t elements, Inspection& found) {
  found.parameters += elements;
  found.bytes += tensor.bytes;
  TypeShare& share = found.types[tensor.type];
  ++share.tensors;
  share.bytes += tensor.bytes;
  found.tensors.push_back(std::move(tensor));
}

absl::StatusOr<TokenizerFacts> FactsOf(const std::string& model, const HfTokenizerFiles& files,
                                       const std::string& origin) {
  YANGTUO_ASSIGN_OR_RETURN(const auto tokenizer, Tokenizer::FromModel(model, files, origin));
  const Vocabulary& vocabulary = tokenizer->vocabulary();
  const Family* const family = FamilyOf(vocabulary.size());
  const KnownFile* const known = FindKnownFile(vocabulary.digest());
  return TokenizerFacts{.origin = origin,
                        .pieces = vocabulary.size(),
                        .sha256 = vocabulary.digest(),
                        .family = known != nullptr ? std::string(known->what)
                                  : family != nullptr
                                      ? absl::StrFormat("as many as %s", family->name)
                                      : std::string(),
                        .bos = vocabulary.piece(tokenizer->bos_id()).literal,
                        .eos = vocabulary.piece(tokenizer->eos_id()).literal,
                        .chat_template = tokenizer->chat_template(),
                        .template_known = tokenizer->template_known()};
}

void CheckTokenizer(std::int64_t rows, const char* what, Inspection& found) {
  if (!found.tokenizer.has_value()) {
    found.problems.push_back(
        "there is no tokenizer.model beside it: it cannot be served until one is");
  } else if (found.tokenizer->pieces > rows) {
    found.problems.push_back(absl::StrFormat(
        "%s has %d rows, but the tokenizer has %d pieces: they are not of one model", what, rows,
        found.tokenizer->pieces));
  }
}

absl::StatusOr<Inspection> InspectModel(const fs::path& path) {
  YANGTUO_ASSIGN_OR_RETURN(const Checkpoint model, OpenCheckpoint(path));
  Inspection found{.path = path.string(), .kind = KindOf(model.format), .config = model.config};
  for (const TensorSpec& tensor : model.tensors->tensors()) {
    AddListed({.name = tensor.name,
               .type = std::string(NameOf(tensor.dtype)),
               .shape = tensor.shape,
               .bytes = tensor.bytes()},
              tensor.rows() * tensor.cols(), found);
  }
  found.digest = model.digest;
  found.weak_digest = model.weak_digest;
  if (!model.tokenizer_model.empty()) {
    HfTokenizerFiles files;
    if (!model.tokenizer_file.empty()) {
      YANGTUO_ASSIGN_OR_RETURN(files, ReadHfTokenizerFiles(model.tokenizer_file.parent_path()));
    }
    files.chat_template = model.chat_template;
    YANGTUO_ASSIGN_OR_RETURN(
        found.tokenizer,
        FactsOf(model.tokenizer_model, files,
                model.tokenizer_file.empty() ? path.string() : model.tokenizer_file.string()));
  }
  CheckTokenizer(model.config.vocab, "the embedding", found);
  if (const Family* family = FamilyOf(model.config.vocab)) {
    found.pairs_with.emplace_back(family->pairs);
  } else {
    found.pairs_with.push_back(absl::StrFormat(
        "a tokenizer of at most %d pieces, the one that it was trained with", model.config.vocab));
  }
  return found;
}

absl::StatusOr<Inspection> InspectAdapter(const fs::path& path) {
  YANGTUO_ASSIGN_OR_RETURN(const PeftAdapter adapter, OpenPeftAdapter(path));
  Inspection found{.path = path.string(), .kind = "LoRA adapter (PEFT)"};
  AdapterFacts facts{
      .rank = adapter.config.rank, .scale = adapter.config.scale, .factors = adapter.pairs.size()};
  for (const auto& [name, pair] : adapter.pairs) {
    AddStored(pair.a, name + " (lora_A)", found);
    AddStored(pair.b, name + " (lora_B)", found);
  }
  for (const auto& [name, tensor] : adapter.saved) {
    AddStored(tensor, name, found);
    facts.replaces.push_back(name);
    if (name == "model.embed_tokens.weight" && !tensor.shape.empty()) {
      facts.rows = tensor.shape.front();
    }
  }
  found.digest = adapter.WeakDigest();
  found.weak_digest = true;
  if (!adapter.tokenizer_model.empty()) {
    YANGTUO_ASSIGN_OR_RETURN(const HfTokenizerFiles files, ReadHfTokenizerFiles(path));
    YANGTUO_ASSIGN_OR_RETURN(found.tokenizer, FactsOf(adapter.tokenizer_model, files,
                                                      (path / "tokenizer.model").string()));
  }
  if (facts.rows.has_value()) {
    CheckTokenizer(*facts.rows, "its embedding", found);
    found.pairs_with.push_back(absl::StrFormat(
        "a base model with an embedding of at most %d rows, which becomes %d rows%s", *facts.rows,
        *facts.rows,
        FamilyOf(*facts.rows) == nullptr ? std::string()
                                         : absl::StrFormat(": %s", FamilyOf(*facts.rows)->name)));
  } else {
    found.pairs_with.emplace_back("the base model that it was trained on: it brings no embedding");
  }
  found.adapter = std::move(facts);
  return found;
}

void AddPairsOfTokenizer(std::int32_t pieces, Inspection& found) {
  found.pairs_with.push_back(absl::StrFormat(
      "models whose embedding has %d rows or a few more%s", pieces,
      FamilyOf(pieces) == nullptr ? std::string()
                                  : absl::StrFormat(": %s", FamilyOf(pieces)->name)));
}

absl::StatusOr<Inspection> InspectTokenizer(const fs::path& path) {
  YANGTUO_ASSIGN_OR_RETURN(const MappedFile file, MappedFile::Open(path));
  const std::string model(reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size());
  YANGTUO_ASSIGN_OR_RETURN(
      const HfTokenizerFiles files,
      ReadHfTokenizerFiles(path.has_parent_path() ? path.parent_path() : fs::path(".")));
  Inspection found{.path = path.string(), .kind = "sentencepiece tokenizer"};
  found.bytes = static_cast<std::int64_t>(model.size());
  YANGTUO_ASSIGN_OR_RETURN(found.tokenizer, FactsOf(model, files, path.string()));
  AddPairsOfTokenizer(found.tokenizer->pieces, found);
  return found;
}

absl::Status AddTokenizerOfGguf(const GgufFile& file, Inspection& found) {
  YANGTUO_ASSIGN_OR_RETURN(const std::string model, TokenizerOfGguf(file));
  if (model.empty()) {
    YANGTUO_ASSIGN_OR_RETURN(const std::string kind,
                             file.metadata().Text("tokenizer.ggml.model", "none"));
    found.problems.push_back(absl::StrFormat(
        "it has no sentencepiece tokenizer (tokenizer.ggml.model llama), found %s", kind));
    return absl::OkStatus();
  }
  HfTokenizerFiles files;
  YANGTUO_ASSIGN_OR_RETURN(files.chat_template,
                           file.metadata().Text("tokenizer.chat_template", ""));
  YANGTUO_ASSIGN_OR_RETURN(found.tokenizer, FactsOf(model, files, file.path().string()));
  AddPairsOfTokenizer(found.tokenizer->pieces, found);
  return absl::OkStatus();
}

// A GGUF file that is no model for Yangtuo, because of `refusal`: what is in it all the same.
absl::StatusOr<Inspection> InspectOtherGguf(const GgufFile& file, const absl::Status& refusal) {
  const bool vocabulary = file.tensors().empty();
  YANGTUO_ASSIGN_OR_RETURN(const std::string architecture,
                           file.metadata().Text("general.architecture", "unknown"));
  Inspection found{.path = file.path().string()};
  found.kind = vocabulary ? std::string("tokenizer: GGUF file of a vocabulary without tensors")
                          : absl::StrFormat("GGUF file of architecture %s", architecture);
  for (const StoredTensor& tensor : file.tensors()) {
    AddStored(tensor, tensor.name, found);
  }
  found.bytes = vocabulary ? static_cast<std::int64_t>(file.file_bytes()) : found.bytes;
  if (!vocabulary) {
    found.problems.push_back(
        absl::StrFormat("it cannot be served: %s", std::string(refusal.message())));
  }
  if (const absl::Status added = AddTokenizerOfGguf(file, found); !added.ok()) {
    found.problems.emplace_back(added.message());
  }
  return found;
}

absl::StatusOr<Inspection> InspectFile(const fs::path& path) {
  std::string begin;
  {
    YANGTUO_ASSIGN_OR_RETURN(const MappedFile file, MappedFile::Open(path));
    begin.assign(reinterpret_cast<const char*>(file.bytes().data()),
                 std::min<std::size_t>(file.bytes().size(), 9));
  }
  if (begin.starts_with("GGUF")) {
    absl::StatusOr<Inspection> model = InspectModel(path);
    if (model.ok()) {
      return model;
    }
    YANGTUO_ASSIGN_OR_RETURN(const GgufFile file, GgufFile::Open(path));
    return InspectOtherGguf(file, model.status());
  }
  // torch's zip archive and older pickles, and the JSON header of safetensors after its length.
  const bool tensors =
      begin.starts_with("PK") || begin.starts_with("\x80") || (begin.size() > 8 && begin[8] == '{');
  return tensors || path.extension() == ".safetensors" ? InspectTensorFile(path)
                                                       : InspectModel(path);
}

std::string ShapeText(const ListedTensor& tensor) {
  return absl::StrFormat("[%s]", absl::StrJoin(tensor.shape, ", "));
}

std::string DescribeTokenizer(const TokenizerFacts& tokenizer) {
  return absl::StrFormat(
      "tokenizer    %d pieces%s, begins with %s, ends with %s\n             sha256 %s\n"
      "chat         %s%s\n",
      tokenizer.pieces,
      tokenizer.family.empty() ? std::string() : absl::StrFormat(" (%s)", tokenizer.family),
      tokenizer.bos, tokenizer.eos, tokenizer.sha256,
      tokenizer.chat_template.empty() ? std::string("no template: it continues texts")
                                      : absl::StrFormat("template %s", tokenizer.chat_template),
      tokenizer.template_known ? "" : " (the template that the model has is none of ours)");
}

std::string DescribeConfig(const LlamaConfig& config) {
  return absl::StrFormat(
      "shape        %d layers, hidden %d, %d heads (%d of keys), head size %d, FFN %d\n"
      "             vocabulary %d%s, context %d, norm eps %g, rope theta %g%s\n",
      config.layers, config.hidden, config.heads, config.kv_heads, config.head_dim, config.ffn,
      config.vocab, config.tied_embeddings ? " (head tied to the embedding)" : "",
      config.context_tokens, config.norm_eps, config.rope_theta,
      config.rope_linear_factor == 1.0F
          ? std::string()
          : absl::StrFormat(", positions divided by %g", config.rope_linear_factor));
}

}  // namespace

void AddStored(const StoredTensor& tensor, const std::string& name, Inspection& found) {
  const bool supported = tensor.unsupported_type.empty();
  AddListed({.name = name,
             .type = supported ? std::string(NameOf(tensor.dtype)) : tensor.unsupported_type,
             .shape = tensor.shape,
             .bytes = supported ? tensor.rows() * tensor.bytes_per_row()
                                : static_cast<std::int64_t>(tensor.data.size())},
            supported ? tensor.rows() * tensor.cols() : 0, found);
}

absl::StatusOr<Inspection> Inspect(const fs::path& path) {
  std::error_code error;
  if (fs::exists(path / "adapter_config.json", error)) {
    return InspectAdapter(path);
  }
  const bool only_tokenizer = fs::exists(path / "tokenizer.model", error) &&
                              !fs::exists(path / "config.json", error) &&
                              !fs::exists(path / "params.json", error);
  if (only_tokenizer) {
    return InspectTokenizer(path / "tokenizer.model");
  }
  if (path.extension() == ".model") {
    return InspectTokenizer(path);
  }
  return fs::is_regular_file(path, error) ? InspectFile(path) : InspectModel(path);
}

std::string Describe(const Inspection& found, bool with_tensors) {
  std::string text = absl::StrFormat("%s\n  %s\n\n", found.path, found.kind);
  if (found.config.has_value()) {
    text += DescribeConfig(*found.config);
  }
  if (found.adapter.has_value()) {
    text += absl::StrFormat(
        "adapter      rank %d, scale %g, changes %d tensors, replaces %s\n", found.adapter->rank,
        found.adapter->scale, found.adapter->factors,
        found.adapter->replaces.empty() ? "none" : absl::StrJoin(found.adapter->replaces, ", "));
  }
  if (!found.tensors.empty()) {
    text += absl::StrFormat(
        "%-12s %d in %d tensors, %s\n",
        found.config.has_value() || found.adapter.has_value() ? "parameters" : "elements",
        found.parameters, found.tensors.size(), FormatBytes(found.bytes));
    for (const auto& [type, share] : found.types) {
      text += absl::StrFormat("             %-5s %d tensors, %s\n", type, share.tensors,
                              FormatBytes(share.bytes));
    }
  }
  if (found.tokenizer.has_value()) {
    text += DescribeTokenizer(*found.tokenizer);
  }
  if (!found.digest.empty()) {
    text += absl::StrFormat(
        "digest       %s%s\n", found.digest,
        found.weak_digest ? " (of headers and sizes; `yangtuo verify --write` makes a full one)"
                          : "");
  }
  for (const std::string& pair : found.pairs_with) {
    text += absl::StrFormat("goes with    %s\n", pair);
  }
  for (const std::string& problem : found.problems) {
    text += absl::StrFormat("problem      %s\n", problem);
  }
  if (with_tensors && !found.tensors.empty()) {
    Table table{.columns = {{"TENSOR"}, {"TYPE"}, {"SHAPE"}, {"SIZE", Align::kRight}}, .rows = {}};
    for (const ListedTensor& tensor : found.tensors) {
      table.rows.push_back(
          {tensor.name, tensor.type, ShapeText(tensor), FormatBytes(tensor.bytes)});
    }
    text += '\n';
    text += FormatTable(table, 0);
  }
  return text;
}

std::string EncodeInspection(const Inspection& found) {
  ordered_json json = {{"path", found.path}, {"kind", found.kind}};
  if (found.config.has_value()) {
    const LlamaConfig& config = *found.config;
    json["config"] = {{"layers", config.layers},
                      {"hidden", config.hidden},
                      {"heads", config.heads},
                      {"kv_heads", config.kv_heads},
                      {"head_dim", config.head_dim},
                      {"ffn", config.ffn},
                      {"vocab", config.vocab},
                      {"context_tokens", config.context_tokens},
                      {"norm_eps", config.norm_eps},
                      {"rope_theta", config.rope_theta},
                      {"rope_linear_factor", config.rope_linear_factor},
                      {"tied_embeddings", config.tied_embeddings}};
  }
  if (found.adapter.has_value()) {
    json["adapter"] = {{"rank", found.adapter->rank},
                       {"scale", found.adapter->scale},
                       {"factors", found.adapter->factors},
                       {"replaces", found.adapter->replaces}};
  }
  json["parameters"] = found.parameters;
  json["bytes"] = found.bytes;
  for (const auto& [type, share] : found.types) {
    json["types"][type] = {{"tensors", share.tensors}, {"bytes", share.bytes}};
  }
  if (found.tokenizer.has_value()) {
    json["tokenizer"] = {{"origin", found.tokenizer->origin},
                         {"pieces", found.tokenizer->pieces},
                         {"sha256", found.tokenizer->sha256},
                         {"family", found.tokenizer->family},
                         {"bos", found.tokenizer->bos},
                         {"eos", found.tokenizer->eos},
                         {"chat_template", found.tokenizer->chat_template},
                         {"chat_template_known", found.tokenizer->template_known}};
  }
  json["digest"] = found.digest;
  json["weak_digest"] = found.weak_digest;
  json["pairs_with"] = found.pairs_with;
  json["problems"] = found.problems;
  ordered_json tensors = ordered_json::array();
  for (const ListedTensor& tensor : found.tensors) {
    tensors.push_back({{"name", tensor.name},
                       {"type", tensor.type},
                       {"shape", tensor.shape},
                       {"bytes", tensor.bytes}});
  }
  json["tensors"] = tensors;
  return JsonText(json);
}

}  // namespace yangtuo
