#include "inference_core/tokenizer/sentencepiece_shim.h"

#include <exception>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "sentencepiece_processor.h"

struct YangtuoSpm {
  sentencepiece::SentencePieceProcessor processor;
};

YangtuoSpm* yangtuo_spm_create(const char* model, size_t num_bytes, YangtuoSpmText error,
                               void* receiver) {
  try {
    auto created = std::make_unique<YangtuoSpm>();
    const auto status =
        created->processor.LoadFromSerializedProto(std::string_view(model, num_bytes));
    if (status.ok()) {
      return created.release();
    }
    const std::string message = status.ToString();
    error(receiver, message.data(), message.size());
  } catch (const std::exception& e) {
    const std::string_view message = e.what();
    error(receiver, message.data(), message.size());
  }
  return nullptr;
}

void yangtuo_spm_destroy(YangtuoSpm* model) { delete model; }

int yangtuo_spm_encode(const YangtuoSpm* model, const char* text, size_t num_bytes,
                       YangtuoSpmIds ids, void* receiver) {
  try {
    std::vector<int> encoded;
    if (!model->processor.Encode(std::string_view(text, num_bytes), &encoded).ok()) {
      return 1;
    }
    ids(receiver, encoded.data(), encoded.size());
    return 0;
  } catch (const std::exception&) {
    return 1;
  }
}

int yangtuo_spm_decode(const YangtuoSpm* model, const int* ids, size_t num_ids, YangtuoSpmText text,
                       void* receiver) {
  try {
    std::string decoded;
    if (!model->processor.Decode(std::vector<int>(ids, ids + num_ids), &decoded).ok()) {
      return 1;
    }
    text(receiver, decoded.data(), decoded.size());
    return 0;
  } catch (const std::exception&) {
    return 1;
  }
}
