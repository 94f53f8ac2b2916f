#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "inference_core/base/aligned_buffer.h"
#include "inference_core/formats/hf_config.h"
#include "inference_core/kernels/elementwise.h"
#include "inference_core/kernels/linear.h"
#include "inference_core/kernels/paged_attention.h"
#include "inference_core/model/kv_storage.h"
#include "inference_core/model/llama_weights.h"
#include "inference_core/model/product_observer.h"
#include "inference_core/model/stage.h"
#include "inference_core/tensor/tensor_view.h"

namespace yangtuo {

// A range of decoder blocks with their KV memory and activations (allocated once, for the largest
// step). Computes; knows nothing of sampling, of other shards or of who owns which block.
//
// Not thread-safe: one owner, whose thread leads the compute threads.
class LlamaShard {
 public:
  struct Options {
    LlamaConfig config;
    std::int32_t context_tokens = 0;
    std::int32_t max_step_tokens = 0;
    int threads = 1;
    ProductObserver* observer = nullptr;
  };
  LlamaShard(const Options& options, LlamaWeights weights, KvStorage kv,
             kernels::MatmulWorkspace workspace);

  // Runs the rows of a checked step (see CheckStep) through the blocks and returns the residual
  // stream [tokens, hidden], which stays as it is until the next call.
  absl::StatusOr<ConstMatrix> Forward(const Step& step);

  // Logits [rows, vocab] of residual rows [rows, hidden]; `normed` [rows, hidden] receives their
  // final norm. Only on a shard with the head.
  absl::Status Logits(ConstMatrix x, Matrix normed, Matrix logits);
  void FinalNorm(ConstMatrix x, Matrix normed) const;

  [[nodiscard]] bool has_head() const { return weights_.head.has_value(); }
  [[nodiscard]] const Options& options() const { return options_; }
  [[nodiscard]] const KvStorage& kv() const { return kv_; }
  [[nodiscard]] const LlamaWeights& weights() const { return weights_; }

 private:
  void ReadRows(const Step& step);
  absl::Status RunLayer(const LayerWeights& layer, std::byte* kv, Matrix x);
  void Observe(Product product, ConstMatrix x) const {
    if (options_.observer != nullptr) {
      options_.observer->Observe(product, layer_, x);
    }
  }
  // The first `tokens` rows of a buffer.
  [[nodiscard]] Matrix Use(AlignedBuffer<float>& buffer, std::int64_t cols);

  Options options_;
  LlamaWeights weights_;
  KvStorage kv_;
  kernels::MatmulWorkspace workspace_;
  kernels::RopeTable rope_;
  kernels::PagedAttention attention_;

  // The step at hand.
  std::int64_t tokens_ = 0;
  std::int32_t layer_ = 0;               // that runs
  std::vector<std::int32_t> positions_;  // [tokens]
  std::vector<TokenId> ids_;             // [tokens]
  std::vector<kernels::SequenceRows> sequences_;

  AlignedBuffer<float> residual_;  // [max_step_tokens, hidden]
  AlignedBuffer<float> normed_;    // [max_step_tokens, hidden], also what a block adds
  AlignedBuffer<float> qkv_;       // [max_step_tokens, (heads + 2 kv_heads) * head_dim]
  AlignedBuffer<float> attended_;  // [max_step_tokens, heads * head_dim]
  AlignedBuffer<float> gate_up_;   // [max_step_tokens, 2 ffn]
  AlignedBuffer<float> gated_;     // [max_step_tokens, ffn]
};

}  // namespace yangtuo
