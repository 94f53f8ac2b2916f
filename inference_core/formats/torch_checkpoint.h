#pragma once

#include <cstddef>
#include <filesystem>
#include <map>
#include <span>
#include <string>

#include "absl/status/statusor.h"
#include "inference_core/formats/stored_tensor.h"

namespace yangtuo {

// What one torch.save file holds.
struct TorchContents {
  std::map<std::string, StoredTensor> tensors;
  // The pickle that says where the tensors lie: with the file's size, a weak digest.
  std::span<const std::byte> header;
};

// Lists the tensors of a file that torch.save wrote since PyTorch 1.6 (.bin, .pth, .pt): a zip
// archive of a pickle and raw storages. `bytes` and `file` must outlive the result, which points
// into them.
//
// The file holds a dict. Tensors in dicts inside it are listed with their keys joined by dots
// ("model.norm.weight"); what is no tensor is passed over. Several tensors may share one storage.
// Element types other than float, half and bfloat16, and views that repeat elements, are listed as
// unsupported. Nothing of the pickle is ever run.
//
// DATA_LOSS, naming file and offset, for a malformed file; UNIMPLEMENTED for one older than
// PyTorch 1.6, TorchScript, and a pickle that uses anything but what rebuilds tensors.
absl::StatusOr<TorchContents> ParseTorchCheckpoint(std::span<const std::byte> bytes,
                                                   const std::filesystem::path& file);

}  // namespace yangtuo
