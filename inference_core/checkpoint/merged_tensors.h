#pragma once

#include <memory>
#include <vector>

#include "inference_core/checkpoint/checkpoint.h"
#include "inference_core/checkpoint/peft_adapter.h"

namespace yangtuo {

// The tensors of `config`'s model: those of `base`, changed by `adapters` in order, each row
// computed when it is read, by the rule in lora_sums.h; all of type `rounding`. Everything was
// checked to fit together (CheckAdapter). ReadRows costs a rank's worth of columns on top of its
// rows, so that a few dozen rows at a time are quick and single ones are not.
[[nodiscard]] std::shared_ptr<const TensorSource> MakeMergedSource(
    const Checkpoint& base, const LlamaConfig& config, std::vector<PeftAdapter> adapters,
    DType rounding);

}  // namespace yangtuo
