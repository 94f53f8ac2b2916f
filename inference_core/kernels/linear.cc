#include "inference_core/kernels/linear.h"

#include <optional>
#include <utility>
#include <variant>

#include "absl/strings/str_format.h"
#include "inference_core/base/status_macros.h"
#include "inference_core/kernels/dnnl_linear.h"
#include "inference_core/kernels/grouped_linear.h"
#include "inference_core/kernels/integer_linear.h"

namespace yangtuo::kernels {

std::string RowPolicy::Name() const {
  if (tile_rows > 0) {
    return absl::StrFormat("%d-row-tiles", tile_rows);
  }
  return min_rows > 1 ? absl::StrFormat("%d-rows-up", min_rows) : std::string("any-rows");
}

std::string MatmulInstructionSet(MatmulType type, IntegerPath path) {
  if (!IsInteger(type)) {
    return DnnlInstructionSet();
  }
  const IntegerKernels* const kernels = KernelsOf(path);
  return std::string(kernels == nullptr ? "none" : kernels->name);
}

struct MatmulWorkspace::State {
  MatmulOptions options;
  std::variant<DnnlWorkspace, IntegerWorkspace, GroupedWorkspace> of_type;
};

MatmulWorkspace::MatmulWorkspace(std::unique_ptr<State> state) : state_(std::move(state)) {}
MatmulWorkspace::MatmulWorkspace(MatmulWorkspace&&) noexcept = default;
MatmulWorkspace& MatmulWorkspace::operator=(MatmulWorkspace&&) noexcept = default;
MatmulWorkspace::~MatmulWorkspace() = default;

absl::StatusOr<MatmulWorkspace> MatmulWorkspace::Create(const MatmulOptions& options) {
  if (options.threads < 1 || options.row_policy.min_rows < 1 || options.row_policy.tile_rows < 0) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "matrix products need at least one thread and one row, given %d threads, "
        "%d rows, tiles of %d",
        options.threads, options.row_policy.min_rows, options.row_policy.tile_rows));
  }
  if (options.type == MatmulType::kGguf) {
    YANGTUO_ASSIGN_OR_RETURN(GroupedWorkspace of_type, GroupedWorkspace::Create(options));
    return MatmulWorkspace(std::make_unique<State>(State{options, std::move(of_type)}));
  }
  if (IsInteger(options.type)) {
    YANGTUO_ASSIGN_OR_RETURN(IntegerWorkspace of_type, IntegerWorkspace::Create(options));
    return MatmulWorkspace(std::make_unique<State>(State{options, std::move(of_type)}));
  }
  YANGTUO_ASSIGN_OR_RETURN(DnnlWorkspace of_type, DnnlWorkspace::Create(options));
  return MatmulWorkspace(std::make_unique<State>(State{options, std::move(of_type)}));
}

const MatmulOptions& MatmulWorkspace::options() const { return state_->options; }
std::int64_t MatmulWorkspace::cached_primitives() const {
  const auto* const dnnl = std::get_if<DnnlWorkspace>(&state_->of_type);
  return dnnl == nullptr ? 0 : dnnl->cached_primitives();
}

struct Linear::State {
  StackedShape shape;
  MatmulType type;
  RowPolicy row_policy;
  std::variant<DnnlLinear, IntegerLinear, GroupedLinear> of_type;
};

Linear::Linear(std::unique_ptr<State> state) : state_(std::move(state)) {}
Linear::Linear(Linear&&) noexcept = default;
Linear& Linear::operator=(Linear&&) noexcept = default;
Linear::~Linear() = default;
std::int64_t Linear::in() const { return state_->shape.in; }
std::int64_t Linear::out() const { return state_->shape.out; }
std::int64_t Linear::bytes() const {
  return std::visit([](const auto& linear) { return linear.bytes(); }, state_->of_type);
}

PackingLoss Linear::loss() const {
  if (const auto* const grouped = std::get_if<GroupedLinear>(&state_->of_type)) {
    return grouped->loss();
  }
  const auto* const integer = std::get_if<IntegerLinear>(&state_->of_type);
  return integer == nullptr ? PackingLoss{} : integer->loss();
}

absl::StatusOr<Linear> Linear::Pack(std::span<const StoredMatrix> parts,
                                    MatmulWorkspace& workspace) {
  YANGTUO_ASSIGN_OR_RETURN(const StackedShape shape, ShapeOf(parts));
  const MatmulOptions& options = workspace.options();
  if (auto* const integer = std::get_if<IntegerWorkspace>(&workspace.state_->of_type)) {
    YANGTUO_ASSIGN_OR_RETURN(IntegerLinear linear, IntegerLinear::Pack(parts, *integer));
    return Linear(
        std::make_unique<State>(State{shape, options.type, options.row_policy, std::move(linear)}));
  }
  if (auto* const grouped = std::get_if<GroupedWorkspace>(&workspace.state_->of_type)) {
    YANGTUO_ASSIGN_OR_RETURN(GroupedLinear linear, GroupedLinear::Pack(parts, *grouped));
    return Linear(
        std::make_unique<State>(State{shape, options.type, options.row_policy, std::move(linear)}));
  }
  auto& dnnl = std::get<DnnlWorkspace>(workspace.state_->of_type);
  YANGTUO_ASSIGN_OR_RETURN(DnnlLinear linear, DnnlLinear::Pack(parts, dnnl));
  return Linear(
      std::make_unique<State>(State{shape, options.type, options.row_policy, std::move(linear)}));
}

std::vector<std::span<const std::byte>> Linear::packed() const {
  const auto* const integer = std::get_if<IntegerLinear>(&state_->of_type);
  return integer == nullptr ? std::vector<std::span<const std::byte>>() : integer->packed();
}

absl::StatusOr<Linear> Linear::Restore(
    const StackedShape& shape, const PackingLoss& loss,
    const std::function<absl::Status(std::span<std::byte>)>& fill, MatmulWorkspace& workspace) {
  const MatmulOptions& options = workspace.options();
  auto* const integer = std::get_if<IntegerWorkspace>(&workspace.state_->of_type);
  if (integer == nullptr) {
    return absl::UnimplementedError("only int8 and int4 weights are restored from packed parts");
  }
  YANGTUO_ASSIGN_OR_RETURN(IntegerLinear linear,
                           IntegerLinear::Restore(shape, loss, fill, *integer));
  return Linear(
      std::make_unique<State>(State{shape, options.type, options.row_policy, std::move(linear)}));
}

absl::StatusOr<bool> Linear::AgreesWith(std::span<const StoredMatrix> parts,
                                        std::int64_t sample) const {
  const auto* const integer = std::get_if<IntegerLinear>(&state_->of_type);
  if (integer == nullptr) {
    return absl::UnimplementedError("only int8 and int4 weights are compared with stored ones");
  }
  return integer->AgreesWith(parts, sample);
}

absl::Status Linear::Run(ConstMatrix x, Matrix y, MatmulWorkspace& workspace) const {
  const MatmulOptions& options = workspace.options();
  if (x.dim(1) != in() || y.dim(1) != out() || x.dim(0) != y.dim(0)) {
    return absl::InvalidArgumentError(
        absl::StrFormat("Linear[%d -> %d] given x [%d, %d], y [%d, %d]", in(), out(), x.dim(0),
                        x.dim(1), y.dim(0), y.dim(1)));
  }
  if (options.type != state_->type || options.row_policy != state_->row_policy) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "Linear[%d -> %d] was packed for %s, the workspace is for %s or another type", in(), out(),
        state_->row_policy.Name(), options.row_policy.Name()));
  }
  if (x.dim(0) == 0) {
    return absl::OkStatus();
  }
  if (const auto* const integer = std::get_if<IntegerLinear>(&state_->of_type)) {
    return integer->Run(x, y, std::get<IntegerWorkspace>(workspace.state_->of_type));
  }
  if (const auto* const grouped = std::get_if<GroupedLinear>(&state_->of_type)) {
    return grouped->Run(x, y, std::get<GroupedWorkspace>(workspace.state_->of_type));
  }
  return std::get<DnnlLinear>(state_->of_type)
      .Run(x, y, std::get<DnnlWorkspace>(workspace.state_->of_type));
}

}  // namespace yangtuo::kernels
