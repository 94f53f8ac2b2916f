#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "gtest/gtest.h"
#include "inference_core/checkpoint/tensor_source.h"

namespace yangtuo {

// Rows [first, first + count) of a tensor; a failure of the test when they cannot be read.
inline std::vector<std::byte> RowsOf(const TensorSource& source, std::size_t index,
                                     std::int64_t first, std::int64_t count) {
  std::vector<std::byte> rows(
      static_cast<std::size_t>(count * source.tensors()[index].row_bytes()));
  const absl::Status status = source.ReadRows(index, first, count, rows);
  EXPECT_TRUE(status.ok()) << status;
  return rows;
}

// Same tensors with the same bytes.
inline void ExpectSameTensors(const TensorSource& found, const TensorSource& expected) {
  ASSERT_EQ(found.tensors().size(), expected.tensors().size());
  for (std::size_t i = 0; i < expected.tensors().size(); ++i) {
    const TensorSpec& spec = expected.tensors()[i];
    ASSERT_EQ(found.tensors()[i], spec) << spec.name;
    EXPECT_TRUE(RowsOf(found, i, 0, spec.rows()) == RowsOf(expected, i, 0, spec.rows()))
        << spec.name;
  }
}

}  // namespace yangtuo
