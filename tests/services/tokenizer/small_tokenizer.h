#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>

#include "gtest/gtest.h"
#include "inference_core/tokenizer/tokenizer.h"
#include "tests/inference_core/tokenizer/model_builder.h"
#include "tests/testing/data.h"
#include "tests/testing/temp_dir.h"

namespace yangtuo {

// Writes the small model of ModelBuilder as `folder`/tokenizer.model.
inline void WriteSmallModel(const std::filesystem::path& folder) {
  ModelBuilder builder;
  WriteTestFile(folder / "tokenizer.model", builder.Build());
}

inline std::unique_ptr<const Tokenizer> LoadSmallTokenizer(const std::string& chat_template = "") {
  const TempDir folder;
  WriteSmallModel(folder.path());
  auto loaded = Tokenizer::Load(folder.path(), {.chat_template = chat_template});
  EXPECT_TRUE(loaded.ok()) << loaded.status();
  return *std::move(loaded);
}

inline std::uint32_t SmallId(const Tokenizer& tokenizer, std::string_view literal) {
  return static_cast<std::uint32_t>(tokenizer.vocabulary().Find(literal).value());
}

}  // namespace yangtuo
