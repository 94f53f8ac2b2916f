#include "tests/testing/safetensors_writer.h"

#include <cstring>
#include <fstream>
#include <stdexcept>

#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "inference_core/base/float16.h"

namespace yangtuo {
namespace {

const char* FileNameOf(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return "F32";
    case DType::kF16:
      return "F16";
    case DType::kBF16:
      return "BF16";
    default:
      return "?";
  }
}

// Length and header; padded so that the data begins at a multiple of 8, as the format asks.
std::string EncodeHeader(std::span<const PlainTensor> tensors) {
  std::string json = R"({"__metadata__":{"format":"pt"})";
  std::int64_t offset = 0;
  for (const PlainTensor& tensor : tensors) {
    const std::int64_t end = offset + tensor.elements() * SizeOf(tensor.dtype);
    json +=
        absl::StrFormat(R"(,"%s":{"dtype":"%s","shape":[%s],"data_offsets":[%d,%d]})", tensor.name,
                        FileNameOf(tensor.dtype), absl::StrJoin(tensor.shape, ","), offset, end);
    offset = end;
  }
  json += "}";
  json.resize((json.size() + 7) / 8 * 8, ' ');
  const std::uint64_t length = json.size();
  std::string header(sizeof(length), '\0');
  std::memcpy(header.data(), &length, sizeof(length));
  return header + json;
}

}  // namespace

std::int64_t PlainTensor::elements() const {
  std::int64_t count = 1;
  for (const std::int64_t size : shape) {
    count *= size;
  }
  return count;
}

std::string EncodeValues(DType dtype, std::span<const float> values) {
  std::string bytes(values.size() * static_cast<std::size_t>(SizeOf(dtype)), '\0');
  if (dtype == DType::kF32) {
    std::memcpy(bytes.data(), values.data(), bytes.size());
    return bytes;
  }
  std::vector<std::uint16_t> halves(values.size());
  if (dtype == DType::kF16) {
    FloatToF16(values, halves);
  } else {
    FloatToBf16(values, halves);
  }
  std::memcpy(bytes.data(), halves.data(), bytes.size());
  return bytes;
}

void WriteSafetensors(const std::filesystem::path& path, std::span<const PlainTensor> tensors,
                      const std::function<std::vector<float>(std::size_t i)>& values) {
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file << EncodeHeader(tensors);
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    const std::string bytes = EncodeValues(tensors[i].dtype, values(i));
    file.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  }
  if (!file.flush()) {
    throw std::runtime_error("cannot write " + path.string());
  }
}

}  // namespace yangtuo
