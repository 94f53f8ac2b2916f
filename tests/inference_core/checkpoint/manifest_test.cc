#include "inference_core/checkpoint/manifest.h"

#include <filesystem>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "inference_core/base/sha256.h"
#include "inference_core/checkpoint/checkpoint.h"
#include "inference_core/checkpoint/known_files.h"
#include "tests/inference_core/checkpoint/rows_of.h"
#include "tests/testing/data.h"
#include "tests/testing/temp_dir.h"
#include "tests/testing/test_model.h"

namespace yangtuo {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

class ManifestTest : public ::testing::Test {
 protected:
  Checkpoint WriteModel(std::uint64_t seed) {
    WriteTestModel({.config = TinyLlamaConfig(), .dtype = DType::kF16, .seed = seed},
                   folder_.path());
    return *OpenCheckpoint(folder_.path());
  }
  static Manifest MakeManifest(const Checkpoint& model) {
    Manifest manifest;
    manifest.config = model.config.Canonical();
    for (std::size_t i = 0; i < model.tensors->tensors().size(); ++i) {
      const TensorSpec& spec = model.tensors->tensors()[i];
      manifest.tensors.push_back(
          {.spec = spec, .sha256 = Sha256Hex(RowsOf(*model.tensors, i, 0, spec.rows()))});
    }
    manifest.fingerprint = *FingerprintOf(*model.tensors);
    return manifest;
  }

  TempDir folder_;
};

TEST_F(ManifestTest, IsReadBackAsItWasWritten) {
  const Manifest manifest = MakeManifest(WriteModel(1));
  const auto back = ParseManifest(manifest.Encode(), "file");
  ASSERT_TRUE(back.ok()) << back.status();
  EXPECT_EQ(back->Digest(), manifest.Digest());
  EXPECT_EQ(back->fingerprint, manifest.fingerprint);
  ASSERT_EQ(back->tensors.size(), manifest.tensors.size());
  EXPECT_EQ(back->tensors[3].spec, manifest.tensors[3].spec);
}

TEST_F(ManifestTest, BesideAModelItGivesAStrongDigest) {
  const Manifest manifest = MakeManifest(WriteModel(1));
  WriteTestFile(ManifestPath(folder_.path()), manifest.Encode());
  const auto model = OpenCheckpoint(folder_.path());
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_FALSE(model->weak_digest);
  EXPECT_EQ(model->digest, manifest.Digest());
}

TEST_F(ManifestTest, OfOtherWeightsItDoesNotCount) {
  const Manifest manifest = MakeManifest(WriteModel(1));
  WriteModel(2);
  WriteTestFile(ManifestPath(folder_.path()), manifest.Encode());
  const auto model = OpenCheckpoint(folder_.path());
  ASSERT_TRUE(model.ok()) << model.status();
  EXPECT_TRUE(model->weak_digest);
}

TEST_F(ManifestTest, OfAnotherConfigurationItDoesNotCount) {
  Manifest manifest = MakeManifest(WriteModel(1));
  manifest.config += "more=1\n";
  WriteTestFile(ManifestPath(folder_.path()), manifest.Encode());
  EXPECT_TRUE(OpenCheckpoint(folder_.path())->weak_digest);
}

TEST_F(ManifestTest, DigestsFollowEveryPart) {
  const Manifest manifest = MakeManifest(WriteModel(1));
  Manifest other = manifest;
  other.tensors[0].sha256[0] = other.tensors[0].sha256[0] == '0' ? '1' : '0';
  EXPECT_NE(other.Digest(), manifest.Digest());
  other = manifest;
  other.tensors[0].spec.dtype = DType::kBF16;
  EXPECT_NE(other.Digest(), manifest.Digest());
  other = manifest;
  std::swap(other.tensors[0], other.tensors[1]);
  EXPECT_NE(other.Digest(), manifest.Digest());
}

TEST_F(ManifestTest, ThatWasChangedIsRefused) {
  std::string text = MakeManifest(WriteModel(1)).Encode();
  text.replace(text.find("layers=2"), 8, "layers=3");
  const absl::Status status = ParseManifest(text, "the file").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(status.message()), AllOf(HasSubstr("the file"), HasSubstr("changed")));
}

TEST_F(ManifestTest, ThatIsNoneIsRefused) {
  for (const char* const text : {"", "[]", "{}", R"({"version": 2})",
                                 R"({"version": 1, "tensors": [], "fingerprint": "short"})"}) {
    EXPECT_EQ(ParseManifest(text, "file").status().code(), absl::StatusCode::kDataLoss) << text;
  }
}

TEST(KnownFilesTest, RecognisesThePublishedTokenizers) {
  for (const char* const name :
       {"llama", "chinese-llama", "chinese-alpaca", "chinese-llama-2", "chinese_sp"}) {
    const auto path = SharedData("tokenizers/" + std::string(name) + ".model");
    if (!path.has_value()) {
      GTEST_SKIP() << "no shared data beside this checkout";
    }
    EXPECT_NE(FindKnownFile(Sha256Hex(ReadTestFile(*path))), nullptr) << name;
  }
  EXPECT_EQ(FindKnownFile(Sha256Hex("another file")), nullptr);
}

}  // namespace
}  // namespace yangtuo
