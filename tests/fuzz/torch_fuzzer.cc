// Arbitrary bytes as a file of torch.save: never a crash, and whatever is accepted can be read.
//
// The first byte says what the rest is: a whole archive, or a pickle for an archive of two storages
// whose checksums hold, which mutations of an archive would hardly ever keep.

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>

#include "inference_core/formats/torch_checkpoint.h"
#include "tests/fuzz/checks.h"
#include "tests/testing/zip_builder.h"

namespace {

using yangtuo::fuzz::Require;

void CheckFile(const std::string& bytes) {
  static const std::filesystem::path name_of_file = "fuzz.bin";
  const auto file = std::as_bytes(std::span(bytes));
  const auto contents = yangtuo::ParseTorchCheckpoint(file, name_of_file);
  if (!contents.ok()) {
    yangtuo::fuzz::CheckRefusal(contents.status());
    return;
  }
  Require(!contents->header.empty());
  for (const auto& [name, tensor] : contents->tensors) {
    Require(name == tensor.name && tensor.file == &name_of_file);
    yangtuo::fuzz::CheckTensor(tensor, file);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) {
    return 0;
  }
  const std::string rest(reinterpret_cast<const char*>(data + 1), size - 1);
  if (data[0] % 2 == 0) {
    CheckFile(rest);
  } else {
    CheckFile(yangtuo::BuildZip({{"t/data.pkl", rest},
                                 {"t/data/0", std::string(24, '\x01')},
                                 {"t/data/1", std::string(48, '\x02')}}));
  }
  return 0;
}
