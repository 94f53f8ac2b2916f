#include <utility>

#include "inference_core/base/sha256.h"
#include "inference_core/base/status_macros.h"
#include "inference_core/checkpoint/adapter_fit.h"
#include "inference_core/checkpoint/checkpoint.h"
#include "inference_core/checkpoint/merged_tensors.h"
#include "inference_core/checkpoint/peft_adapter.h"
#include "inference_core/tokenizer/hf_tokenizer_files.h"

namespace yangtuo {
namespace {

// Over the base's digest and the adapters' headers, settings and factors' places.
std::string DigestOf(const Checkpoint& base, const std::vector<PeftAdapter>& adapters,
                     DType rounding) {
  Sha256 digest;
  digest.Update(base.digest);
  digest.Update(NameOf(rounding));
  for (const PeftAdapter& adapter : adapters) {
    digest.Update(adapter.WeakDigest());
  }
  return digest.FinishHex();
}

}  // namespace

absl::StatusOr<Checkpoint> WithAdapters(Checkpoint base,
                                        std::span<const std::filesystem::path> adapters,
                                        DType rounding) {
  AdaptedModel model{
      .config = base.config, .tokenizer_model = base.tokenizer_model, .name = base.path.string()};
  std::vector<PeftAdapter> opened;
  for (const std::filesystem::path& folder : adapters) {
    YANGTUO_ASSIGN_OR_RETURN(PeftAdapter adapter, OpenPeftAdapter(folder));
    YANGTUO_ASSIGN_OR_RETURN(model, Adapt(model, adapter));
    if (!adapter.tokenizer_model.empty()) {
      base.tokenizer_file = folder / "tokenizer.model";
      YANGTUO_ASSIGN_OR_RETURN(HfTokenizerFiles files, ReadHfTokenizerFiles(folder));
      base.chat_template = std::move(files.chat_template);
    }
    if (adapter.model_config.has_value()) {
      base.config_file = folder / "config.json";
    }
    // Each file by itself: the last adapter that has one, else the base's.
    std::error_code error;
    if (std::filesystem::exists(folder / "generation_config.json", error)) {
      base.generation_config_file = folder / "generation_config.json";
    }
    YANGTUO_RETURN_IF_ERROR(ReadGenerationConfig(base.generation_config_file, model.config));
    opened.push_back(std::move(adapter));
  }
  base.config = model.config;
  base.tokenizer_model = std::move(model.tokenizer_model);
  base.digest = DigestOf(base, opened, rounding);
  base.weak_digest = true;
  base.tensors = MakeMergedSource(base, model.config, std::move(opened), rounding);
  return base;
}

}  // namespace yangtuo
