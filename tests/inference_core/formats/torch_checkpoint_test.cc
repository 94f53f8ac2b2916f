#include "inference_core/formats/torch_checkpoint.h"

#include <filesystem>
#include <optional>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "inference_core/formats/tensor_files.h"
#include "tests/inference_core/formats/listing.h"
#include "tests/testing/data.h"

namespace yangtuo {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
namespace fs = std::filesystem;

// Files that PyTorch wrote when the tests were built.
class TorchFilesTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!fs::exists(File("types.bin"))) {
      GTEST_SKIP() << "there was no python3 with torch";
    }
  }
  [[nodiscard]] static fs::path File(const std::string& name) {
    return fs::path(YANGTUO_TORCH_FILES) / name;
  }
  [[nodiscard]] static absl::StatusOr<TensorFiles> Open(const std::string& name) {
    return TensorFiles::OpenFile(File(name));
  }
  static void ExpectSame(const std::string& name) {
    const auto files = Open(name);
    ASSERT_TRUE(files.ok()) << files.status();
    EXPECT_EQ(Listing(*files), ReadTestFile(File(name + ".expected")));
  }
  static void ExpectRefused(const std::string& name, absl::StatusCode code,
                            const std::string& what) {
    const absl::Status status = Open(name).status();
    EXPECT_EQ(status.code(), code) << status;
    EXPECT_THAT(std::string(status.message()), AllOf(HasSubstr(name), HasSubstr(what)));
  }
};

TEST_F(TorchFilesTest, ReadsEveryFloatTypeAndShape) { ExpectSame("types.bin"); }

TEST_F(TorchFilesTest, GathersTensorsThatAreNotRowMajor) { ExpectSame("views.bin"); }

TEST_F(TorchFilesTest, ReadsTensorsThatShareAStorage) { ExpectSame("shared.bin"); }

TEST_F(TorchFilesTest, ReadsParametersAndStateDicts) {
  ExpectSame("parameter.bin");
  ExpectSame("state.bin");
}

TEST_F(TorchFilesTest, ReadsNewerPickleProtocols) {
  ExpectSame("protocol3.bin");
  ExpectSame("protocol4.bin");
  ExpectSame("protocol5.bin");
}

TEST_F(TorchFilesTest, ListsATrainersCheckpointWithoutWhatIsNoTensor) {
  const auto files = Open("trainer.bin");
  ASSERT_TRUE(files.ok()) << files.status();
  EXPECT_THAT(files->Names(), ElementsAre("mask", "model.0.bias", "model.0.weight", "model.1.bias",
                                          "model.1.weight", "steps"));
  EXPECT_EQ(files->FindStored("steps")->unsupported_type, "I64");
  EXPECT_EQ(files->FindStored("mask")->unsupported_type, "BOOL");
  EXPECT_TRUE(files->Find("model.0.weight").ok());
  EXPECT_EQ(files->Find("steps").status().code(), absl::StatusCode::kUnimplemented);
}

TEST_F(TorchFilesTest, PointsAtRowMajorTensorsWhereTheyLie) {
  const auto files = Open("views.bin");
  ASSERT_TRUE(files.ok()) << files.status();
  EXPECT_TRUE(files->Find("rows")->strides.empty());
  EXPECT_EQ(files->Find("rows")->data.size(), 3U * 8U * 4U);
  EXPECT_THAT(files->Find("transposed")->strides, ElementsAre(1, 8));
}

TEST_F(TorchFilesTest, RefusesFilesFromBeforeTheZipFormatAndSaysHowToRewriteThem) {
  ExpectRefused("old.bin", absl::StatusCode::kUnimplemented, "torch.save(torch.load(");
}

TEST_F(TorchFilesTest, RefusesForeignGlobalsByName) {
  ExpectRefused("path.bin", absl::StatusCode::kUnimplemented, "pathlib.PurePosixPath");
}

TEST_F(TorchFilesTest, RefusesWhatIsNoDict) {
  ExpectRefused("list.bin", absl::StatusCode::kUnimplemented, "expected a dict");
}

TEST_F(TorchFilesTest, ListsAnExpandedTensorAsUnsupported) {
  const auto files = Open("expanded.bin");
  ASSERT_TRUE(files.ok()) << files.status();
  EXPECT_EQ(files->FindStored("wide")->unsupported_type, "expanded F32");
}

TEST(TorchCheckpointTest, ReadsTheSharedAdapter) {
  const std::optional<fs::path> file = SharedData("weights/poem-alpaca-lora/adapter_model.bin");
  if (!file.has_value()) {
    GTEST_SKIP() << "the shared data is not beside this checkout";
  }
  const auto files = TensorFiles::OpenFile(*file);
  ASSERT_TRUE(files.ok()) << files.status();
  EXPECT_TRUE(files->Has("base_model.model.lm_head.weight"));
}

}  // namespace
}  // namespace yangtuo
