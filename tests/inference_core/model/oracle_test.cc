#include <array>
#include <cmath>
#include <cstdio>
#include <gtest/gtest.h>
#include <memory>
#include <ostream>
#include <random>
#include <sstream>
#include <string>
#include <vector>

#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "tests/inference_core/model/raw_logits.h"
#include "tests/testing/data.h"
#include "tests/testing/temp_dir.h"
#include "tests/testing/test_model.h"

namespace yangtuo {
namespace {

struct Family {
  const char* name;
  LlamaConfig config;
  DType dtype;
};
void PrintTo(const Family& family, std::ostream* out) { *out << family.name; }

LlamaConfig Shaped(std::int32_t heads, std::int32_t kv_heads, std::int32_t head_dim) {
  LlamaConfig config = TinyLlamaConfig();
  config.layers = 3;
  config.hidden = heads * head_dim;
  config.heads = heads;
  config.kv_heads = kv_heads;
  config.head_dim = head_dim;
  config.ffn = 172;
  config.vocab = 517;
  return config;
}

Family MultiHead() { return {"MultiHead", Shaped(4, 4, 16), DType::kF32}; }
Family GroupedQueries() {
  LlamaConfig config = Shaped(8, 2, 32);
  config.tied_embeddings = true;
  return {"GroupedQueries", config, DType::kF16};
}
Family OddSizes() {
  LlamaConfig config = Shaped(3, 1, 20);
  config.hidden = 76;  // neither heads * head_dim nor a multiple of a vector
  config.rope_theta = 500000.0F;
  config.rope_linear_factor = 4.0F;
  config.norm_eps = 1e-5F;
  return {"OddSizes", config, DType::kBF16};
}

// The lines that the oracle prints; empty when it cannot run (no numpy).
std::vector<std::vector<double>> OracleLogits(const std::filesystem::path& folder,
                                              const std::vector<TokenId>& ids) {
  const std::string command =
      absl::StrFormat("%s %s %s %s", YANGTUO_PYTHON,
                      SourceFile("tests/inference_core/model/numpy_llama.py").string(),
                      folder.string(), absl::StrJoin(ids, " "));
  const std::unique_ptr<FILE, int (*)(FILE*)> pipe(popen(command.c_str(), "r"), pclose);
  std::string text;
  std::array<char, 4096> buffer;
  while (const std::size_t count = fread(buffer.data(), 1, buffer.size(), pipe.get())) {
    text.append(buffer.data(), count);
  }
  std::vector<std::vector<double>> rows;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    std::istringstream values(line);
    rows.emplace_back();
    for (double value = 0; values >> value;) {
      rows.back().push_back(value);
    }
  }
  return rows;
}

class RandomModels : public ::testing::TestWithParam<Family> {};
INSTANTIATE_TEST_SUITE_P(Of, RandomModels,
                         ::testing::Values(MultiHead(), GroupedQueries(), OddSizes()),
                         [](const auto& test) { return std::string(test.param.name); });

TEST_P(RandomModels, LogitsOfEveryPositionAgreeWithNumpyInFloat64) {
  const TempDir folder;
  WriteTestModel(
      {.config = GetParam().config, .dtype = GetParam().dtype, .seed = 7, .tokenizer = {}},
      folder.path());
  std::mt19937 random(11);
  std::vector<TokenId> ids;
  for (int i = 0; i < 70; ++i) {
    ids.push_back(std::uniform_int_distribution<TokenId>(0, GetParam().config.vocab - 1)(random));
  }
  const std::vector<std::vector<double>> expected = OracleLogits(folder.path(), ids);
  if (expected.empty()) {
    GTEST_SKIP() << "the oracle needs python3 with numpy";
  }
  ASSERT_EQ(expected.size(), ids.size());

  const std::vector<std::vector<float>> logits =
      RawModel(folder.path(), WeightType::kF32).Logits(ids);

  for (std::size_t r = 0; r < ids.size(); ++r) {
    ASSERT_EQ(logits[r].size(), expected[r].size());
    for (std::size_t id = 0; id < expected[r].size(); ++id) {
      ASSERT_NEAR(logits[r][id], expected[r][id], 2e-4) << "position " << r << ", id " << id;
    }
  }
}

}  // namespace
}  // namespace yangtuo
