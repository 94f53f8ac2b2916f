#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "inference_core/formats/hf_config.h"
#include "inference_core/formats/stored_tensor.h"

namespace yangtuo {

struct TokenizerFacts {
  std::string origin;  // its file, or the model file that it is in
  std::int32_t pieces = 0;
  std::string sha256;
  std::string family;  // which published tokenizer has as many pieces; may be empty
  std::string bos;
  std::string eos;
  std::string chat_template;   // the name that a service would choose; empty: completion only
  bool template_known = true;  // false: the model has a template that is not one of ours
};

struct AdapterFacts {
  std::int32_t rank = 0;
  double scale = 0;
  std::size_t factors = 0;                 // tensors that it changes
  std::vector<std::string> replaces = {};  // tensors that it brings whole
  std::optional<std::int64_t> rows = {};   // of its embedding
};

struct TypeShare {
  std::int64_t tensors = 0;
  std::int64_t bytes = 0;
};

struct ListedTensor {
  std::string name;
  std::string type;  // as flags spell it; of types that are not supported: as the file does
  std::vector<std::int64_t> shape;  // outermost first
  std::int64_t bytes = 0;
};

// What is in a file or folder.
struct Inspection {
  std::string path = {};
  std::string kind = {};
  std::optional<LlamaConfig> config = {};
  std::vector<ListedTensor> tensors = {};
  std::int64_t parameters = 0;  // elements of supported types
  std::int64_t bytes = 0;
  std::map<std::string, TypeShare> types = {};
  std::optional<TokenizerFacts> tokenizer = {};
  std::optional<AdapterFacts> adapter = {};
  std::string digest = {};
  bool weak_digest = false;
  std::vector<std::string> pairs_with = {};  // sentences
  std::vector<std::string> problems = {};    // sentences
};

// Adds a tensor of a file, of any type, under a name.
void AddStored(const StoredTensor& tensor, const std::string& name, Inspection& found);

// A model in any format, an adapter's folder, a tokenizer, a GGUF file whatever it holds, or one
// safetensors or torch file. Errors are those of the readers.
absl::StatusOr<Inspection> Inspect(const std::filesystem::path& path);

// `with_tensors`: a line for each.
[[nodiscard]] std::string Describe(const Inspection& found, bool with_tensors);
[[nodiscard]] std::string EncodeInspection(const Inspection& found);

}  // namespace yangtuo
