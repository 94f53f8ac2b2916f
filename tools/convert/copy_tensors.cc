#include "tools/convert/copy_tensors.h"

#include <algorithm>
#include <cstring>
#include <deque>
#include <map>
#include <thread>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/strings/str_format.h"
#include "inference_core/base/clock.h"
#include "inference_core/base/mutex.h"
#include "inference_core/base/sha256.h"
#include "inference_core/base/status_macros.h"
#include "inference_core/checkpoint/row_values.h"

namespace yangtuo {
namespace {

// Rows of a tensor on their way.
struct Piece {
  std::size_t tensor = 0;
  std::int64_t first = 0;
  std::int64_t count = 0;
};

struct Converted {
  absl::Status status;
  std::vector<std::byte> rows;
  std::int64_t rounded = 0;
  double square = 0;
  double squared_error = 0;
};

std::vector<Piece> CutIntoPieces(const ConversionPlan& plan) {
  std::vector<Piece> pieces;
  for (std::size_t i = 0; i < plan.tensors.size(); ++i) {
    const TensorSpec& spec = plan.tensors[i].from;
    const std::int64_t at_once = RowsAtOnce(spec);
    for (std::int64_t row = 0; row < spec.rows(); row += at_once) {
      pieces.push_back({.tensor = i, .first = row, .count = std::min(at_once, spec.rows() - row)});
    }
  }
  return pieces;
}

// Values of a row that its new plain type does not hold: not equal after going there and back. NaN
// stays NaN and counts as held.
std::int64_t CountRounded(DType type, std::span<const float> values, std::span<const std::byte> row,
                          std::vector<float>& back) {
  back.resize(values.size());
  WidenRow(type, row, back);
  std::int64_t rounded = 0;
  for (std::size_t i = 0; i < values.size(); ++i) {
    rounded += values[i] < back[i] || values[i] > back[i] ? 1 : 0;
  }
  return rounded;
}

// Adds a row to the sums of squares and of squared errors, in this order on every machine.
void AddErrors(DType type, std::span<const float> values, std::span<const std::byte> row,
               std::vector<float>& back, Converted& result) {
  back.resize(values.size());
  WidenRow(type, row, back);
  for (std::size_t i = 0; i < values.size(); ++i) {
    const double value = static_cast<double>(values[i]);
    const double off = static_cast<double>(back[i]) - value;
    result.square += value * value;
    result.squared_error += off * off;
  }
}

absl::Status ConvertRows(const PlannedTensor& tensor, std::span<const std::byte> stored,
                         std::span<const float> importance, Converted& result) {
  const auto from_bytes = static_cast<std::size_t>(tensor.from.row_bytes());
  const auto to_bytes = static_cast<std::size_t>(tensor.to.row_bytes());
  const bool narrows = IsPlain(tensor.to.dtype) &&
                       FidelityOf(tensor.from.dtype, tensor.to.dtype) == Fidelity::kRounded;
  std::vector<float> values(static_cast<std::size_t>(tensor.from.cols()));
  std::vector<float> back;
  const std::size_t count = stored.size() / from_bytes;
  result.rows.resize(count * to_bytes);
  for (std::size_t i = 0; i < count; ++i) {
    const auto to = std::span(result.rows).subspan(i * to_bytes, to_bytes);
    WidenRow(tensor.from.dtype, stored.subspan(i * from_bytes, from_bytes), values);
    YANGTUO_RETURN_IF_ERROR(NarrowRow(tensor.to.dtype, values, importance, to));
    if (narrows) {
      result.rounded += CountRounded(tensor.to.dtype, values, to, back);
    } else if (!IsPlain(tensor.to.dtype)) {
      AddErrors(tensor.to.dtype, values, to, back, result);
    }
  }
  return absl::OkStatus();
}

// Hands out pieces in order to the threads, and their results in order to the writer. Pieces in
// memory are bounded: a thread waits before it starts one too far ahead of the writer.
class Line {
 public:
  Line(std::size_t pieces, std::size_t ahead) : pieces_(pieces), ahead_(ahead) {}

  // The next piece to work on; false when there is none left or the line was closed.
  bool Take(std::size_t& piece) ABSL_LOCKS_EXCLUDED(mutex_) {
    const MutexLock lock(mutex_);
    while (!closed_ && taken_ < pieces_ && taken_ >= written_ + ahead_) {
      room_.Wait(mutex_);
    }
    if (closed_ || taken_ == pieces_) {
      return false;
    }
    piece = taken_++;
    return true;
  }

  void Put(std::size_t piece, Converted result) ABSL_LOCKS_EXCLUDED(mutex_) {
    const MutexLock lock(mutex_);
    done_[piece] = std::move(result);
    ready_.NotifyAll();
  }

  // Waits for the result of the next piece in order.
  Converted Next() ABSL_LOCKS_EXCLUDED(mutex_) {
    const MutexLock lock(mutex_);
    while (!done_.contains(written_)) {
      ready_.Wait(mutex_);
    }
    Converted result = std::move(done_[written_]);
    done_.erase(written_);
    ++written_;
    room_.NotifyAll();
    return result;
  }

  void Close() ABSL_LOCKS_EXCLUDED(mutex_) {
    const MutexLock lock(mutex_);
    closed_ = true;
    room_.NotifyAll();
  }

 private:
  const std::size_t pieces_;
  const std::size_t ahead_;
  Mutex mutex_;
  CondVar room_;
  CondVar ready_;
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
  std::size_t taken_ ABSL_GUARDED_BY(mutex_) = 0;
  std::size_t written_ ABSL_GUARDED_BY(mutex_) = 0;
  std::map<std::size_t, Converted> done_ ABSL_GUARDED_BY(mutex_);
};

// Ends the threads whatever way the writer leaves.
class Crew {
 public:
  Crew(std::int32_t threads, Line& line, std::function<Converted(std::size_t piece)> work)
      : line_(line), work_(std::move(work)) {
    for (std::int32_t i = 0; i < std::max(threads, 1); ++i) {
      threads_.emplace_back([this] {
        for (std::size_t piece = 0; line_.Take(piece);) {
          line_.Put(piece, work_(piece));
        }
      });
    }
  }
  Crew(const Crew&) = delete;
  Crew& operator=(const Crew&) = delete;
  ~Crew() {
    line_.Close();
    for (std::thread& thread : threads_) {
      thread.join();
    }
  }

 private:
  Line& line_;
  std::function<Converted(std::size_t piece)> work_;
  std::vector<std::thread> threads_;
};

// Reads and converts one piece.
Converted ConvertPiece(const TensorSource& source, const ConversionPlan& plan, const Piece& piece,
                       const CopyOptions& options) {
  const PlannedTensor& tensor = plan.tensors[piece.tensor];
  Converted result;
  std::vector<std::byte> stored(static_cast<std::size_t>(piece.count * tensor.from.row_bytes()));
  result.status = source.ReadRows(piece.tensor, piece.first, piece.count, stored);
  if (!result.status.ok()) {
    return result;
  }
  if (tensor.from.dtype == tensor.to.dtype) {
    result.rows = std::move(stored);  // as it is: codes of blocks are not to be computed anew
    return result;
  }
  const auto importance =
      options.importance ? options.importance(tensor.from) : std::span<const float>();
  result.status = ConvertRows(tensor, stored, importance, result);
  if (!result.status.ok()) {
    result.status = absl::Status(
        result.status.code(),
        absl::StrFormat("tensor %s, rows %d to %d: %s", tensor.from.name, piece.first,
                        piece.first + piece.count - 1, std::string(result.status.message())));
  }
  return result;
}

}  // namespace

absl::StatusOr<std::vector<CopiedTensor>> CopyTensors(const TensorSource& source,
                                                      const ConversionPlan& plan, TensorSink& sink,
                                                      const CopyOptions& options) {
  const std::vector<Piece> pieces = CutIntoPieces(plan);
  Line line(pieces.size(), static_cast<std::size_t>(std::max(options.threads, 1)) * 2 + 1);
  const Crew crew(options.threads, line, [&](std::size_t number) {
    return ConvertPiece(source, plan, pieces[number], options);
  });
  std::vector<CopiedTensor> copied;
  Sha256 digest;
  Sha256 ends;
  std::int64_t bytes_read = 0;
  for (const Piece& piece : pieces) {
    const PlannedTensor& tensor = plan.tensors[piece.tensor];
    if (options.stop != nullptr && options.stop->load()) {
      return absl::CancelledError("stopped");
    }
    const Converted result = line.Next();
    YANGTUO_RETURN_IF_ERROR(result.status);
    YANGTUO_RETURN_IF_ERROR(sink.Append(piece.tensor, result.rows));
    digest.Update(result.rows);
    const std::span<const std::byte> rows = result.rows;
    const auto row_bytes = static_cast<std::size_t>(tensor.to.row_bytes());
    if (piece.first == 0) {
      copied.push_back({.spec = tensor.to, .sha256 = {}, .ends_sha256 = {}});
      ends.Update(rows.first(row_bytes));
    }
    copied.back().rounded += result.rounded;
    copied.back().square += result.square;
    copied.back().squared_error += result.squared_error;
    if (piece.first + piece.count == tensor.from.rows()) {
      ends.Update(rows.last(row_bytes));
      copied.back().sha256 = digest.FinishHex();
      copied.back().ends_sha256 = ends.FinishHex();
      source.Forget(piece.tensor);
    }
    bytes_read += piece.count * tensor.from.row_bytes();
    if (options.on_progress) {
      options.on_progress(bytes_read);
    }
  }
  return copied;
}

absl::StatusOr<double> EstimateSeconds(const TensorSource& source, const ConversionPlan& plan,
                                       const CopyOptions& options, double disk_bytes_per_second) {
  constexpr std::size_t kSamples = 5;
  const std::vector<Piece> pieces = CutIntoPieces(plan);
  double seconds = 0;
  double elements = 0;
  const SteadyClock clock;
  for (std::size_t i = 0; i < std::min(kSamples, pieces.size()); ++i) {
    const Piece& piece = pieces[pieces.size() * i / std::min(kSamples, pieces.size())];
    const TimePoint begin = clock.Now();
    YANGTUO_RETURN_IF_ERROR(ConvertPiece(source, plan, piece, options).status);
    seconds += ToSeconds(clock.Now() - begin);
    elements += static_cast<double>(piece.count) *
                static_cast<double>(plan.tensors[piece.tensor].from.cols());
  }
  const double computing = seconds / std::max(elements, 1.0) *
                           static_cast<double>(plan.elements()) / std::max(options.threads, 1);
  return std::max(computing, static_cast<double>(plan.bytes_written) / disk_bytes_per_second);
}

}  // namespace yangtuo
