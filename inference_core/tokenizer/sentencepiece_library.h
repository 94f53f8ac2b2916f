#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "inference_core/tokenizer/sentencepiece_shim.h"

namespace yangtuo {

class SentencePieceModel;

// Debian's libsentencepiece in a link namespace of its own (see sentencepiece_shim.h). A process
// can have about 15 namespaces, and giving one back is not reliable; so the library is loaded once
// for the life of the process, whoever asks. Thread-safe.
class SentencePieceLibrary {
 public:
  // `shim`: the shared library's file; empty: searched beside the executable, in ../lib/yangtuo,
  // ../lib and ../bin from there, then where it was built. Only the first successful call reads
  // `shim`. FAILED_PRECONDITION names every place that was tried.
  static absl::StatusOr<const SentencePieceLibrary*> Load(const std::filesystem::path& shim = {});

  // `model`: bytes of a .model file that Vocabulary::Parse accepted. DATA_LOSS with sentencepiece's
  // reason. `origin` names it in the message.
  [[nodiscard]] absl::StatusOr<SentencePieceModel> CreateModel(std::string_view model,
                                                               std::string_view origin) const;

 private:
  friend class SentencePieceModel;

  static absl::StatusOr<SentencePieceLibrary> Open(const std::filesystem::path& shim);

  decltype(&yangtuo_spm_create) create_ = nullptr;
  decltype(&yangtuo_spm_destroy) destroy_ = nullptr;
  decltype(&yangtuo_spm_encode) encode_ = nullptr;
  decltype(&yangtuo_spm_decode) decode_ = nullptr;
};

// One model inside the library. Move-only, immutable, thread-safe.
class SentencePieceModel {
 public:
  // Appends the ids of `text`, any bytes. INTERNAL when the library refuses.
  absl::Status Encode(std::string_view text, std::vector<std::int32_t>& ids) const;
  // The library's own decoder: the oracle of IncrementalDecoder. Ids are inside its vocabulary.
  [[nodiscard]] absl::StatusOr<std::string> Decode(const std::vector<std::int32_t>& ids) const;

 private:
  friend class SentencePieceLibrary;

  struct Destroy {
    const SentencePieceLibrary* library;
    void operator()(YangtuoSpm* model) const { library->destroy_(model); }
  };

  explicit SentencePieceModel(std::unique_ptr<YangtuoSpm, Destroy> model)
      : model_(std::move(model)) {}

  std::unique_ptr<YangtuoSpm, Destroy> model_;
};

}  // namespace yangtuo
