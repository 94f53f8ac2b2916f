#include "inference_core/model/packed_weights.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstring>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "inference_core/base/crc32c.h"
#include "inference_core/base/status_macros.h"
#include "inference_core/kernels/parallel.h"

namespace yangtuo {
namespace {

namespace fs = std::filesystem;
using kernels::Linear;

constexpr std::int64_t kPage = 4096;
constexpr char kFormat[] = "yangtuo packed weights 2";
// Read, written and summed by one thread at a time.
constexpr std::int64_t kPiece = std::int64_t{4} << 20;

struct Record {
  std::int64_t bytes = 0;  // of all parts
  std::uint32_t checksum = 0;
  std::uint32_t reserved = 0;
  kernels::PackingLoss loss;
};
constexpr std::int64_t kRecordBytes = sizeof(Record);
static_assert(kRecordBytes == 32);

std::string HeaderOf(const std::string& key) { return absl::StrCat(kFormat, "\n", key, "\n"); }

std::int64_t NextPage(std::int64_t offset) { return (offset + kPage - 1) / kPage * kPage; }

// Calls body(piece, offset of it, bytes of it) for the pieces of `bytes` bytes, on the team.
template <typename Body>
void ForPieces(std::int64_t bytes, int threads, const Body& body) {
  kernels::ParallelFor(threads, (bytes + kPiece - 1) / kPiece, [&](std::int64_t piece) {
    const std::int64_t first = piece * kPiece;
    body(piece, first, std::min(kPiece, bytes - first));
  });
}

// The CRC of every piece, begun with its number, joined by exclusive or: pieces are summed in any
// order, yet may not change places.
std::uint32_t SumOf(std::span<const std::byte> bytes, int threads) {
  const auto size = static_cast<std::int64_t>(bytes.size());
  std::vector<std::uint32_t> sums(static_cast<std::size_t>((size + kPiece - 1) / kPiece));
  ForPieces(size, threads, [&](std::int64_t piece, std::int64_t first, std::int64_t count) {
    sums[static_cast<std::size_t>(piece)] = ExtendCrc32c(
        static_cast<std::uint32_t>(piece + 1),
        bytes.subspan(static_cast<std::size_t>(first), static_cast<std::size_t>(count)));
  });
  std::uint32_t sum = 0;
  for (const std::uint32_t piece : sums) {
    sum ^= piece;
  }
  return sum;
}

// Of all parts of `linear` and its loss.
std::uint32_t SumOf(const Linear& linear, int threads) {
  const kernels::PackingLoss loss = linear.loss();
  std::uint32_t sum = ExtendCrc32c(0, std::as_bytes(std::span(&loss, 1)));
  std::uint32_t part_number = 0;
  for (const std::span<const std::byte> part : linear.packed()) {
    sum = sum * 31 + SumOf(part, threads) + part_number++;
  }
  return sum;
}

void CopyOnTeam(std::span<const std::byte> from, std::span<std::byte> to, int threads) {
  ForPieces(static_cast<std::int64_t>(from.size()), threads,
            [&](std::int64_t, std::int64_t first, std::int64_t count) {
              std::memcpy(to.data() + first, from.data() + first, static_cast<std::size_t>(count));
            });
}

}  // namespace

absl::StatusOr<PackedWeights> PackedWeights::Open(const fs::path& file, const std::string& key) {
  YANGTUO_ASSIGN_OR_RETURN(MappedFile mapped, MappedFile::Open(file));
  const std::string header = HeaderOf(key);
  if (mapped.bytes().size() < static_cast<std::size_t>(kPage) ||
      std::memcmp(mapped.bytes().data(), header.data(), header.size()) != 0) {
    return absl::FailedPreconditionError(
        absl::StrFormat("%s was packed from another model, or for another type", file.string()));
  }
  PackedWeights packed;
  packed.path_ = file;
  packed.mapped_ = std::move(mapped);
  packed.offset_ = kPage;
  return packed;
}

absl::StatusOr<PackedWeights> PackedWeights::Create(const fs::path& file, const std::string& key) {
  std::error_code failed;
  fs::create_directories(file.parent_path(), failed);
  YANGTUO_ASSIGN_OR_RETURN(OutputFile output, OutputFile::Create(file));
  const std::string header = HeaderOf(key);
  YANGTUO_RETURN_IF_ERROR(output.WriteAt(0, std::as_bytes(std::span(header))));
  PackedWeights packed;
  packed.path_ = file;
  packed.output_ = std::move(output);
  packed.offset_ = kPage;
  return packed;
}

absl::StatusOr<Linear> PackedWeights::Product(std::span<const kernels::StoredMatrix> parts,
                                              kernels::MatmulWorkspace& workspace) {
  ++products_;
  if (reading()) {
    return Read(parts, workspace);
  }
  YANGTUO_ASSIGN_OR_RETURN(Linear linear, Linear::Pack(parts, workspace));
  if (written_.ok()) {
    written_ = Write(linear, workspace.options().threads);
  }
  return linear;
}

absl::StatusOr<Linear> PackedWeights::Read(std::span<const kernels::StoredMatrix> parts,
                                           kernels::MatmulWorkspace& workspace) {
  const int threads = workspace.options().threads;
  const auto damaged = [&](const std::string& what) {
    return absl::DataLossError(
        absl::StrFormat("%s: product %d at byte %d: %s", path_.string(), products_, offset_, what));
  };
  const std::span<const std::byte> file = mapped_->bytes();
  const auto size = static_cast<std::int64_t>(file.size());
  if (size - offset_ < kRecordBytes) {
    return damaged("the file ends here");
  }
  Record record;
  std::memcpy(&record, file.data() + offset_, sizeof(record));
  if (record.bytes < 0 || record.bytes > size - offset_ - kRecordBytes) {
    return damaged(absl::StrFormat("%d bytes are announced, fewer follow", record.bytes));
  }
  const std::span<const std::byte> content = file.subspan(
      static_cast<std::size_t>(offset_ + kRecordBytes), static_cast<std::size_t>(record.bytes));
  std::size_t used = 0;
  const auto fill = [&](std::span<std::byte> part) -> absl::Status {
    if (part.size() > content.size() - used) {
      return damaged("it is of another shape");
    }
    CopyOnTeam(content.subspan(used, part.size()), part, threads);
    used += part.size();
    return absl::OkStatus();
  };
  YANGTUO_ASSIGN_OR_RETURN(const kernels::StackedShape shape, kernels::ShapeOf(parts));
  YANGTUO_ASSIGN_OR_RETURN(Linear linear, Linear::Restore(shape, record.loss, fill, workspace));
  if (used != content.size()) {
    return damaged("it is of another shape");
  }
  // Of what was copied, not of the file, which another process might write to meanwhile.
  if (SumOf(linear, threads) != record.checksum) {
    return damaged("its checksum is wrong");
  }
  // Any tile would do; not always the first, which padding and special tokens may leave alike.
  YANGTUO_ASSIGN_OR_RETURN(const bool equal, linear.AgreesWith(parts, products_ * 7919));
  if (!equal) {
    return damaged("the model's own weights are others");
  }
  ForgetPages(content);
  offset_ = NextPage(offset_ + kRecordBytes + record.bytes);
  return linear;
}

absl::Status PackedWeights::Write(const Linear& linear, int threads) {
  Record record{.checksum = SumOf(linear, threads), .loss = linear.loss()};
  for (const std::span<const std::byte> part : linear.packed()) {
    record.bytes += static_cast<std::int64_t>(part.size());
  }
  std::array<std::byte, sizeof(Record)> bytes;
  std::memcpy(bytes.data(), &record, sizeof(record));
  std::int64_t at = offset_ + kRecordBytes;
  const std::int64_t end = at + record.bytes;
  // A disk too small is found before anything is written.
  YANGTUO_RETURN_IF_ERROR(output_->Reserve(static_cast<std::uint64_t>(end)));
  YANGTUO_RETURN_IF_ERROR(output_->WriteAt(static_cast<std::uint64_t>(offset_), bytes));
  for (const std::span<const std::byte> part : linear.packed()) {
    YANGTUO_RETURN_IF_ERROR(output_->WriteAt(static_cast<std::uint64_t>(at), part));
    at += static_cast<std::int64_t>(part.size());
  }
  offset_ = NextPage(end);
  return absl::OkStatus();
}

absl::Status PackedWeights::Commit() {
  if (reading()) {
    return absl::OkStatus();
  }
  YANGTUO_RETURN_IF_ERROR(written_);
  return output_->Commit();
}

}  // namespace yangtuo
