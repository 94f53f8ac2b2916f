#include "inference_core/kernels/dnnl_linear.h"

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstring>
#include <list>
#include <map>
#include <omp.h>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/strings/str_format.h"
#include "inference_core/base/aligned_buffer.h"
#include "inference_core/base/float16.h"
#include "inference_core/base/status_macros.h"
#include "inference_core/kernels/parallel.h"
#include "inference_core/kernels/stored_rows.h"
#include "oneapi/dnnl/dnnl.hpp"

namespace yangtuo::kernels {
namespace {

using dt = dnnl::memory::data_type;
using tag = dnnl::memory::format_tag;

// Enough for every row count of a few shapes; a primitive is a few kilobytes.
constexpr std::size_t kMaxCachedPrimitives = 1024;
// Rows widened at a time while packing. A multiple of every block size that oneDNN packs with.
constexpr std::int64_t kPackRows = 512;
// Output columns of one single-threaded product under a tile policy: fixed, so that the result is
// the same whatever the number of threads.
constexpr std::int64_t kSliceColumns = 256;
// Multiplications below which waking a team costs more than it saves (1 x 1024 x 1024: 43 us on one
// thread; on two 190 us, and milliseconds when the cores are shared).
constexpr std::int64_t kTeamWork = std::int64_t{1} << 20;
// Rows that a thread widens at a time while packing.
constexpr std::int64_t kRowsPerTask = 16;
// Row count whose preferred packing all row counts use.
constexpr std::int64_t kPackingRows = 16;

// oneDNN reports failure by throwing. Nothing above this folder sees an exception.
template <typename Body>
absl::Status CatchOneDnnErrors(Body&& body) {
  try {
    std::forward<Body>(body)();
    return absl::OkStatus();
  } catch (const dnnl::error& e) {
    if (e.status == dnnl_unimplemented) {
      return absl::UnimplementedError(
          absl::StrFormat("oneDNN has no such product for this CPU: %s", e.what()));
    }
    if (e.status == dnnl_out_of_memory) {
      return absl::ResourceExhaustedError(absl::StrFormat("oneDNN: %s", e.what()));
    }
    return absl::InternalError(absl::StrFormat("oneDNN: %s (status %d)", e.what(), e.status));
  } catch (const std::bad_alloc&) {
    return absl::ResourceExhaustedError("no memory for a matrix product");
  }
}

// oneDNN takes its team size from the calling thread's setting.
class ScopedTeamSize {
 public:
  explicit ScopedTeamSize(int threads) : saved_(omp_get_max_threads()) {
    omp_set_num_threads(threads);
  }
  ScopedTeamSize(const ScopedTeamSize&) = delete;
  ScopedTeamSize& operator=(const ScopedTeamSize&) = delete;
  ~ScopedTeamSize() { omp_set_num_threads(saved_); }

 private:
  int saved_;
};

// One product shape, ready to run.
struct Plan {
  dnnl::matmul primitive;
  dnnl::memory::desc x;
  dnnl::memory::desc y;
  dnnl::memory::desc scratch;
};

// in, columns, distance between rows of y, rows
using PlanKey = std::tuple<std::int64_t, std::int64_t, std::int64_t, std::int64_t>;

dnnl::matmul::primitive_desc Describe(const PlanKey& key, dt type, const dnnl::memory::desc& weight,
                                      const dnnl::engine& engine) {
  const auto [in, columns, stride, rows] = key;
  const dnnl::memory::desc x({rows, in}, type, dnnl::memory::dims{in, 1});
  const dnnl::memory::desc y({rows, columns}, dt::f32, dnnl::memory::dims{stride, 1});
  dnnl::primitive_attr attr;
  attr.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  return {dnnl::matmul::desc(x, weight, y), attr, engine};
}

}  // namespace

bool HasFastBf16() {
  // Instruction sets are sets of bits; a larger one contains the smaller.
  const auto needed = static_cast<unsigned>(dnnl_cpu_isa_avx512_core_bf16);
  return (static_cast<unsigned>(dnnl_get_effective_cpu_isa()) & needed) == needed;
}

std::string DnnlInstructionSet() {
  switch (dnnl_get_effective_cpu_isa()) {
    case dnnl_cpu_isa_sse41:
      return "sse41";
    case dnnl_cpu_isa_avx:
      return "avx";
    case dnnl_cpu_isa_avx2:
      return "avx2";
    case dnnl_cpu_isa_avx2_vnni:
      return "avx2_vnni";
    case dnnl_cpu_isa_avx512_core:
      return "avx512_core";
    case dnnl_cpu_isa_avx512_core_vnni:
      return "avx512_core_vnni";
    case dnnl_cpu_isa_avx512_core_bf16:
      return "avx512_core_bf16";
    case dnnl_cpu_isa_avx512_core_amx:
      return "avx512_core_amx";
    default:
      return absl::StrFormat("isa-%d", static_cast<int>(dnnl_get_effective_cpu_isa()));
  }
}

struct DnnlWorkspace::State {
  explicit State(const MatmulOptions& wanted) : options(wanted) {}

  [[nodiscard]] dt type() const { return options.type == MatmulType::kBF16 ? dt::bf16 : dt::f32; }
  [[nodiscard]] bool tiled() const { return options.row_policy.tile_rows > 0; }
  // How many threads share a call of `work` multiplications. The row policy promises that it shows
  // in no bit.
  [[nodiscard]] int ThreadsFor(std::int64_t work) const {
    return work < kTeamWork ? 1 : options.threads;
  }

  // Throws dnnl::error.
  const Plan& PlanFor(const PlanKey& key, const dnnl::memory::desc& weight);

  MatmulOptions options;
  dnnl::engine engine{dnnl::engine::kind::cpu, 0};
  dnnl::stream stream{engine};
  std::list<std::pair<PlanKey, Plan>> plans;  // most recently used first
  std::map<PlanKey, std::list<std::pair<PlanKey, Plan>>::iterator> plan_at;

  // Grown to what was needed most.
  AlignedBuffer<std::byte> scratch;  // [threads, bytes a thread]
  AlignedBuffer<std::byte> x;        // activations in `type`
  AlignedBuffer<std::byte> padded_x;
  AlignedBuffer<float> padded_y;
};

namespace {

// Throws std::bad_alloc. A quarter more than needed, so that growing row counts settle soon.
template <typename T>
T* Reserve(AlignedBuffer<T>& buffer, std::int64_t size) {
  if (buffer.size() < static_cast<std::size_t>(size)) {
    buffer = AlignedBuffer<T>(static_cast<std::size_t>(size + size / 4));
  }
  return buffer.data();
}

}  // namespace

const Plan& DnnlWorkspace::State::PlanFor(const PlanKey& key, const dnnl::memory::desc& weight) {
  if (const auto found = plan_at.find(key); found != plan_at.end()) {
    plans.splice(plans.begin(), plans, found->second);
    return plans.front().second;
  }
  const dnnl::matmul::primitive_desc pd = Describe(key, type(), weight, engine);
  plans.emplace_front(key,
                      Plan{dnnl::matmul(pd), pd.src_desc(), pd.dst_desc(), pd.scratchpad_desc()});
  plan_at[key] = plans.begin();
  if (plans.size() > kMaxCachedPrimitives) {
    plan_at.erase(plans.back().first);
    plans.pop_back();
  }
  return plans.front().second;
}

DnnlWorkspace::DnnlWorkspace(std::unique_ptr<State> state) : state_(std::move(state)) {}
DnnlWorkspace::DnnlWorkspace(DnnlWorkspace&&) noexcept = default;
DnnlWorkspace& DnnlWorkspace::operator=(DnnlWorkspace&&) noexcept = default;
DnnlWorkspace::~DnnlWorkspace() = default;

absl::StatusOr<DnnlWorkspace> DnnlWorkspace::Create(const MatmulOptions& options) {
  std::unique_ptr<State> state;
  YANGTUO_RETURN_IF_ERROR(CatchOneDnnErrors([&] {
    state = std::make_unique<State>(options);
    const dnnl::memory::desc any({64, 64}, state->type(), tag::any);
    Describe({64, 64, 64, kPackingRows}, state->type(), any, state->engine);
  }));
  return DnnlWorkspace(std::move(state));
}

std::int64_t DnnlWorkspace::cached_primitives() const {
  return static_cast<std::int64_t>(state_->plans.size());
}

struct DnnlLinear::State {
  // Output columns [first, first + columns), packed.
  struct Slice {
    std::int64_t first;
    std::int64_t columns;
    dnnl::memory weight;
  };
  // Rows [first, first + rows) of x and y, perhaps moved to padded buffers.
  struct Call {
    const std::byte* x;
    float* y;
    std::int64_t rows;
  };

  // All of these throw dnnl::error or std::bad_alloc.
  absl::Status PackSlice(std::span<const StoredMatrix> parts, const Slice& slice,
                         DnnlWorkspace::State& workspace) const;
  void Run(ConstMatrix x, Matrix y, DnnlWorkspace::State& workspace) const;
  void RunCalls(std::span<const Call> calls, DnnlWorkspace::State& workspace) const;

  std::int64_t in = 0;
  std::int64_t out = 0;
  MatmulType type = MatmulType::kF32;
  RowPolicy row_policy;
  std::vector<Slice> slices;
};

DnnlLinear::DnnlLinear(std::unique_ptr<State> state) : state_(std::move(state)) {}
DnnlLinear::DnnlLinear(DnnlLinear&&) noexcept = default;
DnnlLinear& DnnlLinear::operator=(DnnlLinear&&) noexcept = default;
DnnlLinear::~DnnlLinear() = default;
std::int64_t DnnlLinear::bytes() const {
  std::int64_t bytes = 0;
  for (const State::Slice& slice : state_->slices) {
    bytes += static_cast<std::int64_t>(slice.weight.get_desc().get_size());
  }
  return bytes;
}

absl::Status DnnlLinear::State::PackSlice(std::span<const StoredMatrix> parts, const Slice& slice,
                                          DnnlWorkspace::State& workspace) const {
  const bool bf16 = type == MatmulType::kBF16;
  const std::int64_t rows_at_once = std::min(kPackRows, slice.columns);
  AlignedBuffer<float> wide(static_cast<std::size_t>(rows_at_once * in));
  AlignedBuffer<std::uint16_t> narrow(bf16 ? wide.size() : 0);
  for (std::int64_t first = 0; first < slice.columns; first += rows_at_once) {
    const std::int64_t rows = std::min(rows_at_once, slice.columns - first);
    const std::int64_t tasks = (rows + kRowsPerTask - 1) / kRowsPerTask;
    std::vector<absl::Status> read(static_cast<std::size_t>(tasks));
    ParallelFor(workspace.options.threads, tasks, [&](std::int64_t task) {
      RowReader reader(parts);
      const std::int64_t last = std::min(rows, (task + 1) * kRowsPerTask);
      for (std::int64_t r = task * kRowsPerTask; r < last; ++r) {
        const std::span<float> row(wide.data() + r * in, static_cast<std::size_t>(in));
        read[static_cast<std::size_t>(task)].Update(reader.Widen(slice.first + first + r, row));
        if (bf16) {
          FloatToBf16(row, {narrow.data() + r * in, row.size()});
        }
      }
    });
    for (const absl::Status& status : read) {
      YANGTUO_RETURN_IF_ERROR(status);
    }
    // [rows, in] row-major is [in, rows] column-major: the transpose costs nothing to describe.
    void* const staged = bf16 ? static_cast<void*>(narrow.data()) : wide.data();
    dnnl::memory src({{in, rows}, workspace.type(), tag::ba}, workspace.engine, staged);
    dnnl::memory dst(slice.weight.get_desc().submemory_desc({in, rows}, {0, first}),
                     workspace.engine, slice.weight.get_data_handle());
    dnnl::reorder(src, dst).execute(workspace.stream, src, dst);
    workspace.stream.wait();
  }
  return absl::OkStatus();
}

absl::StatusOr<DnnlLinear> DnnlLinear::Pack(std::span<const StoredMatrix> parts,
                                            DnnlWorkspace& workspace) {
  auto state = std::make_unique<State>();
  YANGTUO_ASSIGN_OR_RETURN(const StackedShape shape, ShapeOf(parts));
  state->in = shape.in;
  state->out = shape.out;
  DnnlWorkspace::State& shared = *workspace.state_;
  state->type = shared.options.type;
  state->row_policy = shared.options.row_policy;
  const std::int64_t width = shared.tiled() ? kSliceColumns : state->out;
  absl::Status read;
  YANGTUO_RETURN_IF_ERROR(CatchOneDnnErrors([&] {
    const ScopedTeamSize team(shared.options.threads);
    for (std::int64_t first = 0; first < state->out; first += width) {
      const std::int64_t columns = std::min(width, state->out - first);
      const dnnl::memory::desc any({state->in, columns}, shared.type(), tag::any);
      const auto pd = Describe({state->in, columns, state->out, kPackingRows}, shared.type(), any,
                               shared.engine);
      state->slices.push_back({first, columns, dnnl::memory(pd.weights_desc(), shared.engine)});
      read.Update(state->PackSlice(parts, state->slices.back(), shared));
    }
  }));
  YANGTUO_RETURN_IF_ERROR(read);
  return DnnlLinear(std::move(state));
}

void DnnlLinear::State::RunCalls(std::span<const Call> calls,
                                 DnnlWorkspace::State& workspace) const {
  std::int64_t rows = 0;
  for (const Call& call : calls) {
    rows += call.rows;
  }
  // Either one primitive at a time on the whole team, or tiles side by side on one thread each.
  const int team_size = workspace.ThreadsFor(rows * in * out);
  const int threads = workspace.tiled() ? team_size : 1;
  const ScopedTeamSize team(workspace.tiled() ? 1 : team_size);
  std::vector<const Plan*> plans;  // [calls, slices]; the cache holds more than one call needs
  std::int64_t scratch_bytes = 0;
  for (const Call& call : calls) {
    for (const Slice& slice : slices) {
      const Plan& plan =
          workspace.PlanFor({in, slice.columns, out, call.rows}, slice.weight.get_desc());
      plans.push_back(&plan);
      scratch_bytes = std::max(scratch_bytes, static_cast<std::int64_t>(plan.scratch.get_size()));
    }
  }
  const std::int64_t line = kBufferAlignment;
  scratch_bytes = (scratch_bytes + line - 1) / line * line;
  std::byte* const scratch = Reserve(workspace.scratch, threads * scratch_bytes);
  const auto num_slices = static_cast<std::int64_t>(slices.size());
  std::atomic<bool> failed = false;
  ParallelFor(threads, static_cast<std::int64_t>(plans.size()), [&](std::int64_t i) {
    const Call& call = calls[static_cast<std::size_t>(i / num_slices)];
    const Slice& slice = slices[static_cast<std::size_t>(i % num_slices)];
    const Plan& plan = *plans[static_cast<std::size_t>(i)];
    const absl::Status status = CatchOneDnnErrors([&] {
      std::byte* const mine = scratch + omp_get_thread_num() * scratch_bytes;
      // oneDNN's C++ interface has no const memory; it only reads x.
      const dnnl::memory x(plan.x, workspace.engine, const_cast<std::byte*>(call.x));
      const dnnl::memory y(plan.y, workspace.engine, call.y + slice.first);
      const dnnl::memory pad(plan.scratch, workspace.engine, mine);
      plan.primitive.execute(workspace.stream, {{DNNL_ARG_SRC, x},
                                                {DNNL_ARG_WEIGHTS, slice.weight},
                                                {DNNL_ARG_DST, y},
                                                {DNNL_ARG_SCRATCHPAD, pad}});
    });
    if (!status.ok()) {
      failed = true;
    }
  });
  workspace.stream.wait();
  if (failed) {
    throw dnnl::error(dnnl_runtime_error, "a matrix product failed while running");
  }
}

void DnnlLinear::State::Run(ConstMatrix x, Matrix y, DnnlWorkspace::State& workspace) const {
  const std::int64_t rows = x.dim(0);
  const std::int64_t element = type == MatmulType::kBF16 ? 2 : 4;
  const auto* src = reinterpret_cast<const std::byte*>(x.data());
  if (type == MatmulType::kBF16) {
    std::byte* const narrow = Reserve(workspace.x, rows * in * element);
    ParallelFor(workspace.ThreadsFor(rows * in * out), rows, [&](std::int64_t r) {
      FloatToBf16(x.Row(r), {reinterpret_cast<std::uint16_t*>(narrow) + r * in,
                             static_cast<std::size_t>(in)});
    });
    src = narrow;
  }
  const std::int64_t tile = row_policy.tile_rows;
  const std::int64_t full = tile > 0 ? rows / tile * tile : rows >= row_policy.min_rows ? rows : 0;
  std::vector<Call> calls;
  const std::int64_t step = tile > 0 ? tile : full;
  for (std::int64_t first = 0; first < full; first += step) {
    calls.push_back({src + first * in * element, y.data() + first * out, step});
  }
  const std::int64_t rest = rows - full;
  const std::int64_t padded = tile > 0 ? tile : row_policy.min_rows;
  if (rest > 0) {
    const std::int64_t used = rest * in * element;
    std::byte* const padded_x = Reserve(workspace.padded_x, padded * in * element);
    std::memcpy(padded_x, src + full * in * element, static_cast<std::size_t>(used));
    std::memset(padded_x + used, 0, static_cast<std::size_t>(padded * in * element - used));
    calls.push_back({padded_x, Reserve(workspace.padded_y, padded * out), padded});
  }
  RunCalls(calls, workspace);
  if (rest > 0) {
    std::memcpy(y.data() + full * out, workspace.padded_y.data(),
                static_cast<std::size_t>(rest * out) * sizeof(float));
  }
}

absl::Status DnnlLinear::Run(ConstMatrix x, Matrix y, DnnlWorkspace& workspace) const {
  return CatchOneDnnErrors([&] { state_->Run(x, y, *workspace.state_); });
}

}  // namespace yangtuo::kernels
