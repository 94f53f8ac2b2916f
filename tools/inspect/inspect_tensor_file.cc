#include "tools/inspect/inspect_tensor_file.h"

#include <algorithm>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_format.h"
#include "inference_core/base/mapped_file.h"
#include "inference_core/base/status_macros.h"
#include "inference_core/formats/tensor_files.h"
#include "tools/inspect/family.h"

namespace yangtuo {
namespace {

namespace fs = std::filesystem;

// Whose names a file's tensors have.
enum class Names { kHuggingFace, kMeta, kPeft, kOther };

// What the names say of the part of a model that is there.
struct Part {
  Names names = Names::kOther;
  std::int32_t first_layer = std::numeric_limits<std::int32_t>::max();
  std::int32_t last_layer = -1;
  std::optional<std::int64_t> rows = {};  // of the embedding
  bool head = false;
  std::int32_t factors = 0;  // pairs of an adapter
  std::optional<std::int64_t> rank = {};
};

Names NamesOf(const std::vector<std::string>& names) {
  const auto any = [&names](auto matches) {
    return std::any_of(names.begin(), names.end(), matches);
  };
  if (any([](const std::string& name) { return absl::StrContains(name, ".lora_A"); })) {
    return Names::kPeft;
  }
  if (any([](const std::string& name) {
        return absl::StartsWith(name, "model.layers.") || absl::StartsWith(name, "model.norm.") ||
               absl::StartsWith(name, "model.embed_tokens.") || absl::StartsWith(name, "lm_head.");
      })) {
    return Names::kHuggingFace;
  }
  return any([](const std::string& name) {
    return absl::StartsWith(name, "tok_embeddings.") || absl::StrContains(name, ".attention.wq.") ||
           absl::StrContains(name, ".feed_forward.w1.");
  })
             ? Names::kMeta
             : Names::kOther;
}

void AddLayer(std::string_view name, Part& part) {
  constexpr std::string_view kLayers = "layers.";
  const std::size_t at = name.find(kLayers);
  if (at == std::string_view::npos) {
    return;
  }
  name.remove_prefix(at + kLayers.size());
  std::int32_t layer = 0;
  if (absl::SimpleAtoi(std::string(name.substr(0, name.find('.'))), &layer) && layer >= 0) {
    part.first_layer = std::min(part.first_layer, layer);
    part.last_layer = std::max(part.last_layer, layer);
  }
}

Part PartIn(const TensorFiles& file) {
  Part part{.names = NamesOf(file.Names())};
  for (const std::string& name : file.Names()) {
    const StoredTensor& tensor = *file.FindStored(name);
    AddLayer(name, part);
    const bool matrix = tensor.shape.size() == 2;
    if (matrix &&
        (absl::StrContains(name, "embed_tokens") || absl::StartsWith(name, "tok_embeddings."))) {
      part.rows = tensor.shape[0];
    }
    part.head = part.head || absl::StrContains(name, "lm_head") || name == "output.weight";
    if (matrix && absl::StrContains(name, ".lora_A")) {
      ++part.factors;
      part.rank = tensor.shape[0];
    }
  }
  return part;
}

std::string DescribePart(const Part& part) {
  std::string text;
  const auto add = [&text](const std::string& what) { text += (text.empty() ? "" : ", ") + what; };
  if (part.rows.has_value()) {
    add(absl::StrFormat("an embedding of %d rows", *part.rows));
  }
  if (part.last_layer >= 0) {
    add(absl::StrFormat("layers %d to %d", part.first_layer, part.last_layer));
  }
  if (part.head) {
    add("the head");
  }
  return text.empty() ? "other tensors" : text;
}

// `needed` lies beside a file that is a part of `whole`, or is missed there.
void AddFolder(const fs::path& file, std::string_view needed, std::string_view whole,
               Inspection& found) {
  const fs::path folder = file.has_parent_path() ? file.parent_path() : fs::path(".");
  std::error_code error;
  if (fs::exists(folder / needed, error)) {
    found.pairs_with.push_back(
        absl::StrFormat("what lies beside it: it is of %s in %s (`yangtuo inspect %s`)", whole,
                        folder.string(), folder.string()));
  } else {
    found.problems.push_back(absl::StrFormat("there is no %s beside it, without which it is no %s",
                                             needed, whole.substr(whole.find(' ') + 1)));
  }
}

void AddPairs(const fs::path& path, const Part& part, Inspection& found) {
  const Family* const family = part.rows.has_value() ? FamilyOf(*part.rows) : nullptr;
  switch (part.names) {
    case Names::kHuggingFace:
      AddFolder(path, "config.json", "a model", found);
      break;
    case Names::kMeta:
      AddFolder(path, "params.json", "a model", found);
      break;
    case Names::kPeft:
      AddFolder(path, "adapter_config.json", "an adapter", found);
      found.pairs_with.push_back(
          part.rows.has_value()
              ? absl::StrFormat(
                    "a base model with an embedding of at most %d rows, which becomes %d rows%s",
                    *part.rows, *part.rows,
                    family == nullptr ? std::string() : absl::StrFormat(": %s", family->name))
              : std::string("the base model that it was trained on: it brings no embedding"));
      return;
    case Names::kOther:
      found.problems.emplace_back("no tensor has a name of a LLaMA model or of an adapter for one");
      return;
  }
  if (family != nullptr) {
    found.pairs_with.emplace_back(family->pairs);
  } else if (part.rows.has_value()) {
    found.pairs_with.push_back(absl::StrFormat(
        "a tokenizer of at most %d pieces, the one that it was trained with", *part.rows));
  }
}

std::string KindOf(std::string_view container, const Part& part) {
  switch (part.names) {
    case Names::kHuggingFace:
      return absl::StrFormat("%s, Hugging Face's names: %s", container, DescribePart(part));
    case Names::kMeta:
      return absl::StrFormat("%s, a shard of Meta's layout: %s", container, DescribePart(part));
    case Names::kPeft:
      return absl::StrFormat("%s of a LoRA adapter (PEFT): rank %d, changes %d tensors%s",
                             container, part.rank.value_or(0), part.factors,
                             part.rows.has_value() ? ", brings an embedding" : "");
    case Names::kOther:
      break;
  }
  return std::string(container);
}

}  // namespace

absl::StatusOr<Inspection> InspectTensorFile(const fs::path& path) {
  YANGTUO_ASSIGN_OR_RETURN(const TensorFiles file, TensorFiles::OpenFile(path));
  YANGTUO_ASSIGN_OR_RETURN(const MappedFile mapped, MappedFile::Open(path));
  const bool torch = mapped.bytes().size() > 1 && mapped.bytes()[0] == std::byte{'P'} &&
                     mapped.bytes()[1] == std::byte{'K'};
  const Part part = PartIn(file);
  Inspection found{.path = path.string()};
  found.kind = KindOf(torch ? "torch file" : "safetensors file", part);
  for (const std::string& name : file.Names()) {
    AddStored(*file.FindStored(name), name, found);
  }
  AddPairs(path, part, found);
  return found;
}

}  // namespace yangtuo
