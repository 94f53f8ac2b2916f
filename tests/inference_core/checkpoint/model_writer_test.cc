#include "inference_core/checkpoint/model_writer.h"

#include <cstddef>
#include <filesystem>
#include <limits>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "inference_core/base/mapped_file.h"
#include "inference_core/checkpoint/hf_files.h"
#include "inference_core/checkpoint/manifest.h"
#include "inference_core/checkpoint/row_values.h"
#include "inference_core/formats/gguf.h"
#include "inference_core/formats/gguf_writer.h"
#include "tests/inference_core/checkpoint/rows_of.h"
#include "tests/testing/data.h"
#include "tests/testing/temp_dir.h"
#include "tests/testing/test_model.h"

namespace yangtuo {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
namespace fs = std::filesystem;

struct Layout {
  const char* name;
  CheckpointFormat format;
  std::int32_t shards;
  std::uint64_t max_shard_bytes;
  bool tied;
};

class ModelWriterTest : public ::testing::Test {
 protected:
  [[nodiscard]] Checkpoint MakeModel(bool tied = false) const {
    LlamaConfig config = TinyLlamaConfig();
    config.vocab = 61;  // does not divide
    config.kv_heads = 4;
    config.ffn = 52;
    config.tied_embeddings = tied;
    const fs::path folder = folder_.path() / (tied ? "tied" : "model");
    fs::create_directory(folder);
    WriteTestModel({.config = config, .dtype = DType::kF16}, folder);
    return Open(folder);
  }
  static Checkpoint Open(const fs::path& path) {
    absl::StatusOr<Checkpoint> checkpoint = OpenCheckpoint(path);
    EXPECT_TRUE(checkpoint.ok()) << checkpoint.status();
    return checkpoint.ok() ? *std::move(checkpoint) : Checkpoint();
  }
  [[nodiscard]] OutputModel OutputFor(const Checkpoint& model, const std::string& name,
                                      CheckpointFormat format) const {
    OutputModel output;
    output.path = folder_.path() / name;
    output.format = format;
    output.config = model.config;
    output.tensors = model.tensors->tensors();
    for (TensorSpec& tensor : output.tensors) {
      if (format == CheckpointFormat::kGguf && tensor.shape.size() == 1) {
        tensor.dtype = DType::kF32;
      }
    }
    return output;
  }
  // Rows seven at a time: pieces do not fit heads, shards or tensors.
  static absl::Status CopyAll(const Checkpoint& model, const OutputModel& output,
                              ModelWriter& writer) {
    for (std::size_t i = 0; i < output.tensors.size(); ++i) {
      const TensorSpec& to = output.tensors[i];
      for (std::int64_t row = 0; row < to.rows(); row += 7) {
        const std::int64_t count = std::min<std::int64_t>(7, to.rows() - row);
        std::vector<std::byte> rows = RowsOf(*model.tensors, i, row, count);
        if (to.dtype == DType::kF32) {  // a norm
          std::vector<float> values(static_cast<std::size_t>(to.cols()));
          WidenRow(DType::kF16, rows, values);
          rows.resize(values.size() * sizeof(float));
          EXPECT_TRUE(NarrowRow(DType::kF32, values, {}, rows).ok());
        }
        if (absl::Status status = writer.Append(i, rows); !status.ok()) {
          return status;
        }
      }
    }
    return absl::OkStatus();
  }
  static absl::Status AddConfig(const OutputModel& output, ModelWriter& writer) {
    const auto text = HfConfigText(output.config, DType::kF16, "");
    EXPECT_TRUE(text.ok()) << text.status();
    absl::Status status = writer.AddFile("config.json", *text);
    return status.ok() ? writer.AddFile("params.json", MetaParamsText(output.config)) : status;
  }

  TempDir folder_;
};

class LayoutTest : public ModelWriterTest, public ::testing::WithParamInterface<Layout> {};

constexpr std::uint64_t kOneFile = std::numeric_limits<std::uint64_t>::max();

INSTANTIATE_TEST_SUITE_P(
    Layouts, LayoutTest,
    ::testing::Values(Layout{"Safetensors", CheckpointFormat::kSafetensors, 1, kOneFile, false},
                      Layout{"SafetensorsInParts", CheckpointFormat::kSafetensors, 1, 9000, false},
                      Layout{"Bin", CheckpointFormat::kTorchBin, 1, kOneFile, true},
                      Layout{"BinInParts", CheckpointFormat::kTorchBin, 1, 9000, false},
                      Layout{"Pth1", CheckpointFormat::kMeta, 1, kOneFile, false},
                      Layout{"Pth2", CheckpointFormat::kMeta, 2, kOneFile, false},
                      Layout{"Pth4", CheckpointFormat::kMeta, 4, kOneFile, false},
                      Layout{"Pth2Tied", CheckpointFormat::kMeta, 2, kOneFile, true}),
    [](const auto& param) { return param.param.name; });

TEST_P(LayoutTest, WhatIsWrittenReadsBackBitForBit) {
  const Checkpoint model = MakeModel(GetParam().tied);
  OutputModel output = OutputFor(model, "out", GetParam().format);
  output.meta_shards = GetParam().shards;
  output.max_shard_bytes = GetParam().max_shard_bytes;
  const auto writer = ModelWriter::Create(output);
  ASSERT_TRUE(writer.ok()) << writer.status();
  ASSERT_TRUE(AddConfig(output, **writer).ok());
  ASSERT_TRUE(CopyAll(model, output, **writer).ok());
  EXPECT_FALSE(fs::exists(output.path)) << "before Finish";
  ASSERT_TRUE((*writer)->Finish().ok());
  const Checkpoint back = Open(output.path);
  EXPECT_EQ(back.format, GetParam().format);
  EXPECT_EQ(back.config.Canonical(), model.config.Canonical());
  ExpectSameTensors(*back.tensors, *model.tensors);
}

TEST_F(ModelWriterTest, AGgufFileReadsBackWithItsNormsWidened) {
  const Checkpoint model = MakeModel();
  const OutputModel output = OutputFor(model, "out.gguf", CheckpointFormat::kGguf);
  {
    const auto writer = ModelWriter::Create(output);
    ASSERT_TRUE(writer.ok()) << writer.status();
    ASSERT_TRUE(CopyAll(model, output, **writer).ok());
    ASSERT_TRUE((*writer)->AddFile("side.json", "{}").ok());
    ASSERT_TRUE((*writer)->Finish().ok());
  }
  EXPECT_TRUE(fs::exists(folder_.path() / "out.gguf.side.json"));
  const Checkpoint back = Open(output.path);
  EXPECT_EQ(back.config.Canonical(), model.config.Canonical());
  for (std::size_t i = 0; i < output.tensors.size(); ++i) {
    EXPECT_EQ(back.tensors->tensors()[i], output.tensors[i]);
    if (output.tensors[i].shape.size() == 2) {
      EXPECT_TRUE(RowsOf(*back.tensors, i, 0, output.tensors[i].rows()) ==
                  RowsOf(*model.tensors, i, 0, output.tensors[i].rows()))
          << output.tensors[i].name;
    }
  }
}

// The factor of rotary interpolation that a GGUF file with these keys is read with.
struct RopeKeys {
  std::optional<std::string> type = {};
  std::optional<float> factor = {};
  std::optional<float> old_factor = {};
};

class GgufRopeTest : public ModelWriterTest {
 protected:
  // Writes a model as GGUF, and its tensors and other keys again with these.
  float FactorWith(const RopeKeys& rope) {
    const Checkpoint model = MakeModel();
    const fs::path changed = folder_.path() / "changed.gguf";
    const OutputModel output = OutputFor(model, "plain.gguf", CheckpointFormat::kGguf);
    const auto writer = ModelWriter::Create(output);
    EXPECT_TRUE(CopyAll(model, output, **writer).ok() && (*writer)->Finish().ok());
    const auto mapped = MappedFile::Open(output.path);
    const auto contents = ParseGguf(mapped->bytes(), output.path);
    GgufKeyValues keys;
    for (const auto& [key, value] : contents->metadata.entries()) {
      keys.SetValue(key, value);
    }
    if (rope.type.has_value()) {
      keys.SetText("llama.rope.scaling.type", *rope.type);
    }
    if (rope.factor.has_value()) {
      keys.SetFloat32("llama.rope.scaling.factor", *rope.factor);
    }
    if (rope.old_factor.has_value()) {
      keys.SetFloat32("llama.rope.scale_linear", *rope.old_factor);
    }
    std::vector<TensorSpec> tensors;
    for (const StoredTensor& tensor : contents->tensors) {
      tensors.push_back({.name = tensor.name, .dtype = tensor.dtype, .shape = tensor.shape});
    }
    const auto again = NewGgufWriter(changed, keys, tensors);
    EXPECT_TRUE(again.ok()) << again.status();
    for (std::size_t i = 0; i < tensors.size(); ++i) {
      EXPECT_TRUE((*again)->Append(i, contents->tensors[i].data).ok());
    }
    EXPECT_TRUE((*again)->Finish().ok());
    fs::remove(output.path);
    const float factor = Open(changed).config.rope_linear_factor;
    fs::remove(changed);
    fs::remove_all(folder_.path() / "model");
    return factor;
  }
};

TEST_F(GgufRopeTest, FactorsAreReadAsLlamaCppReadsThem) {
  EXPECT_EQ(FactorWith({}), 1.0F);
  EXPECT_EQ(FactorWith({.type = "linear", .factor = 4.0F}), 4.0F);
  EXPECT_EQ(FactorWith({.factor = 4.0F}), 4.0F) << "interpolation is meant where no type is named";
  EXPECT_EQ(FactorWith({.old_factor = 2.0F}), 2.0F);
  EXPECT_EQ(FactorWith({.factor = 4.0F, .old_factor = 2.0F}), 4.0F);
  EXPECT_EQ(FactorWith({.factor = 0.0F}), 1.0F);
  EXPECT_EQ(FactorWith({.type = "none", .factor = 4.0F}), 1.0F);
  EXPECT_EQ(FactorWith({.type = "none", .old_factor = 2.0F}), 1.0F);
}

TEST_F(ModelWriterTest, AnUnfinishedModelLeavesNothingAndCanBeStartedAgain) {
  const Checkpoint model = MakeModel();
  for (const auto format : {CheckpointFormat::kSafetensors, CheckpointFormat::kMeta}) {
    const OutputModel output = OutputFor(model, "again", format);
    for (int time = 0; time < 2; ++time) {
      const auto writer = ModelWriter::Create(output);
      ASSERT_TRUE(writer.ok()) << writer.status();
      ASSERT_TRUE((*writer)->Append(0, RowsOf(*model.tensors, 0, 0, 5)).ok());
      EXPECT_EQ((*writer)->Finish().code(), absl::StatusCode::kFailedPrecondition);
    }
    EXPECT_FALSE(fs::exists(output.path));
  }
  std::vector<std::string> left;
  for (const auto& entry : fs::directory_iterator(folder_.path())) {
    left.push_back(entry.path().filename().string());
  }
  EXPECT_THAT(left, ::testing::ElementsAre("model"));
}

TEST_F(ModelWriterTest, RefusesAFolderThatIsNotEmpty) {
  const Checkpoint model = MakeModel();
  const OutputModel output = OutputFor(model, "model", CheckpointFormat::kSafetensors);
  EXPECT_EQ(ModelWriter::Create(output).status().code(), absl::StatusCode::kAlreadyExists);
}

TEST_F(ModelWriterTest, RefusesTypesThatTheFormatDoesNotHold) {
  const Checkpoint model = MakeModel();
  const auto refused = [&](CheckpointFormat format, DType type) {
    OutputModel output = OutputFor(model, "out", format);
    output.tensors[0].dtype = type;
    const absl::Status status = CheckOutput(output);
    EXPECT_THAT(std::string(status.message()), AllOf(HasSubstr("model.embed_tokens.weight"),
                                                     HasSubstr(std::string(NameOf(type)))));
    return status.code();
  };
  EXPECT_EQ(refused(CheckpointFormat::kSafetensors, DType::kQ4_0),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(refused(CheckpointFormat::kTorchBin, DType::kInt8), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(refused(CheckpointFormat::kGguf, DType::kInt4), absl::StatusCode::kInvalidArgument);
}

TEST_F(ModelWriterTest, RefusesShardsThatDoNotDivideTheModel) {
  const Checkpoint model = MakeModel();
  OutputModel output = OutputFor(model, "out", CheckpointFormat::kMeta);
  output.meta_shards = 8;
  EXPECT_THAT(std::string(CheckOutput(output).message()),
              AllOf(HasSubstr("8 shards"), HasSubstr("4 heads")));
}

TEST(MetaParamsTest, SaysWhatThePublishedModelsSay) {
  LlamaConfig config;
  config.hidden = 4096;
  config.layers = 32;
  config.heads = 32;
  config.kv_heads = 32;
  config.head_dim = 128;
  config.ffn = 11008;
  config.vocab = 49954;
  EXPECT_EQ(MetaParamsText(config),
            "{\"dim\":4096,\"multiple_of\":256,\"n_heads\":32,\"n_layers\":32,\"norm_eps\":1e-06,"
            "\"vocab_size\":-1}\n");
  config.hidden = 8192;
  config.layers = 80;
  config.heads = 64;
  config.kv_heads = 8;
  config.ffn = 28672;
  config.norm_eps = 1e-5F;
  EXPECT_EQ(MetaParamsText(config),
            "{\"dim\":8192,\"multiple_of\":4096,\"n_heads\":64,\"n_layers\":80,\"norm_eps\":1e-05,"
            "\"vocab_size\":-1,\"ffn_dim_multiplier\":1.3,\"n_kv_heads\":8}\n");
}

}  // namespace
}  // namespace yangtuo
