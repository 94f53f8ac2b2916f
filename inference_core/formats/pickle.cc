#include "inference_core/formats/pickle.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>
#include <unordered_map>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_format.h"
#include "inference_core/base/status_macros.h"
#include "inference_core/formats/byte_reader.h"
#include "inference_core/formats/strict_json.h"

namespace yangtuo {
namespace {

using Kind = PickleValue::Kind;

constexpr std::size_t kLongestPickle = std::size_t{16} << 20;
constexpr int kNewestProtocol = 5;

// Named as in Python's pickletools.
enum Opcode : std::uint8_t {
  kMark = '(',
  kStop = '.',
  kPop = '0',
  kPopMark = '1',
  kDup = '2',
  kBinFloat = 'G',
  kBinInt = 'J',
  kBinInt1 = 'K',
  kBinInt2 = 'M',
  kNone = 'N',
  kBinPersId = 'Q',
  kReduce = 'R',
  kBinString = 'T',
  kShortBinString = 'U',
  kBinUnicode = 'X',
  kAppend = 'a',
  kBuild = 'b',
  kGlobal = 'c',
  kAppends = 'e',
  kBinGet = 'h',
  kLongBinGet = 'j',
  kBinPut = 'q',
  kLongBinPut = 'r',
  kSetItem = 's',
  kTuple = 't',
  kSetItems = 'u',
  kBinBytes = 'B',
  kShortBinBytes = 'C',
  kEmptyList = ']',
  kEmptyTuple = ')',
  kEmptyDict = '}',
  kProto = 0x80,
  kTuple1 = 0x85,
  kTuple2 = 0x86,
  kTuple3 = 0x87,
  kNewTrue = 0x88,
  kNewFalse = 0x89,
  kLong1 = 0x8a,
  kLong4 = 0x8b,
  kShortBinUnicode = 0x8c,
  kBinUnicode8 = 0x8d,
  kBinBytes8 = 0x8e,
  kStackGlobal = 0x93,
  kMemoize = 0x94,
  kFrame = 0x95,
};

// The stack machine that a pickle is a program for. Lives for one pickle.
class Machine {
 public:
  Machine(std::span<const std::byte> bytes, std::span<const std::string_view> allowed)
      : reader_(bytes), allowed_(allowed) {}

  absl::StatusOr<Pickle> Run() {
    while (!stopped_) {
      start_ = reader_.offset();
      const auto opcode = reader_.Take<std::uint8_t>();
      if (!opcode.has_value()) {
        return Fault("the pickle ends before its STOP");
      }
      YANGTUO_RETURN_IF_ERROR(Step(*opcode));
    }
    return std::move(pickle_);
  }

 private:
  [[nodiscard]] absl::Status Fault(const std::string& what) const {
    return absl::InvalidArgumentError(absl::StrFormat("offset %d: %s", start_, what));
  }
  [[nodiscard]] absl::Status CutShort() const { return Fault("the pickle is cut short"); }

  absl::Status Push(PickleValue value) {
    pickle_.values.push_back(std::move(value));
    stack_.push_back(static_cast<std::uint32_t>(pickle_.values.size() - 1));
    return absl::OkStatus();
  }
  absl::Status PushWhole(std::optional<std::int64_t> whole) {
    return whole.has_value() ? Push({.kind = Kind::kWhole, .whole = *whole}) : CutShort();
  }
  absl::Status PushText(std::optional<std::uint64_t> length) {
    const auto text = length.has_value() ? reader_.TakeText(*length) : std::nullopt;
    return text.has_value() ? Push({.kind = Kind::kText, .text = std::string(*text)}) : CutShort();
  }

  // What lies above the last mark, which a pop must not go below.
  [[nodiscard]] std::size_t above_mark() const {
    return stack_.size() - (marks_.empty() ? 0 : marks_.back());
  }
  [[nodiscard]] std::optional<std::uint32_t> Pop() {
    if (above_mark() == 0) {
      return std::nullopt;
    }
    const std::uint32_t place = stack_.back();
    stack_.pop_back();
    return place;
  }
  [[nodiscard]] std::optional<std::vector<std::uint32_t>> PopToMark() {
    if (marks_.empty()) {
      return std::nullopt;
    }
    const auto first = stack_.begin() + static_cast<std::ptrdiff_t>(marks_.back());
    std::vector<std::uint32_t> items(first, stack_.end());
    stack_.erase(first, stack_.end());
    marks_.pop_back();
    return items;
  }

  absl::Status Step(std::uint8_t opcode);
  absl::Status StepNumber(std::uint8_t opcode);
  absl::Status StepText(std::uint8_t opcode);
  absl::Status StepContainer(std::uint8_t opcode);
  absl::Status StepStack(std::uint8_t opcode);

  absl::Status Proto();
  absl::Status Long(std::optional<std::uint64_t> length);
  absl::Status TupleOf(std::size_t count);
  absl::Status TupleToMark();
  absl::Status AddItems(Kind kind, std::optional<std::vector<std::uint32_t>> items);
  absl::Status Global();
  absl::Status StackGlobal();
  absl::Status PushGlobal(const std::string& module, const std::string& name);
  absl::Status Reduce();
  absl::Status Persistent();
  absl::Status Put(std::optional<std::uint64_t> key);
  absl::Status Get(std::optional<std::uint64_t> key);
  absl::Status Stop();

  ByteReader reader_;
  std::span<const std::string_view> allowed_;
  Pickle pickle_;
  std::vector<std::uint32_t> stack_;
  std::vector<std::size_t> marks_;  // stack sizes
  std::unordered_map<std::uint64_t, std::uint32_t> memo_;
  std::size_t start_ = 0;  // of the opcode
  bool stopped_ = false;
};

absl::Status Machine::Step(std::uint8_t opcode) {
  switch (opcode) {
    case kProto:
      return Proto();
    case kFrame:  // only says how many bytes to read ahead
      return reader_.Take<std::uint64_t>().has_value() ? absl::OkStatus() : CutShort();
    case kStop:
      return Stop();
    case kNone:
      return Push({});
    case kNewTrue:
    case kNewFalse:
      return Push({.kind = Kind::kBool, .whole = opcode == kNewTrue ? 1 : 0});
    case kGlobal:
      return Global();
    case kStackGlobal:
      return StackGlobal();
    case kReduce:
      return Reduce();
    case kBinPersId:
      return Persistent();
    case kBuild:
      return Pop().has_value() && above_mark() > 0 ? absl::OkStatus()
                                                   : Fault("BUILD without an object and its state");
    default:
      return StepNumber(opcode);
  }
}

absl::Status Machine::StepNumber(std::uint8_t opcode) {
  switch (opcode) {
    case kBinInt:
      return PushWhole(reader_.Take<std::int32_t>());
    case kBinInt1:
      return PushWhole(reader_.Take<std::uint8_t>());
    case kBinInt2:
      return PushWhole(reader_.Take<std::uint16_t>());
    case kLong1:
      return Long(reader_.Take<std::uint8_t>());
    case kLong4:
      return Long(reader_.Take<std::uint32_t>());
    case kBinFloat: {  // the one big-endian number
      const auto bits = reader_.Take<std::uint64_t>();
      return bits.has_value() ? Push({.kind = Kind::kReal,
                                      .real = std::bit_cast<double>(__builtin_bswap64(*bits))})
                              : CutShort();
    }
    default:
      return StepText(opcode);
  }
}

absl::Status Machine::StepText(std::uint8_t opcode) {
  switch (opcode) {
    case kBinUnicode:
    case kBinString:
    case kBinBytes:
      return PushText(reader_.Take<std::uint32_t>());
    case kShortBinUnicode:
    case kShortBinString:
    case kShortBinBytes:
      return PushText(reader_.Take<std::uint8_t>());
    case kBinUnicode8:
    case kBinBytes8:
      return PushText(reader_.Take<std::uint64_t>());
    default:
      return StepContainer(opcode);
  }
}

absl::Status Machine::StepContainer(std::uint8_t opcode) {
  switch (opcode) {
    case kEmptyTuple:
      return TupleOf(0);
    case kTuple1:
      return TupleOf(1);
    case kTuple2:
      return TupleOf(2);
    case kTuple3:
      return TupleOf(3);
    case kTuple:
      return TupleToMark();
    case kEmptyList:
      return Push({.kind = Kind::kList});
    case kEmptyDict:
      return Push({.kind = Kind::kDict});
    case kAppend: {
      const auto item = Pop();
      return AddItems(Kind::kList, item.has_value()
                                       ? std::optional(std::vector<std::uint32_t>{*item})
                                       : std::nullopt);
    }
    case kAppends:
      return AddItems(Kind::kList, PopToMark());
    case kSetItem: {
      const auto value = Pop();
      const auto key = Pop();
      return AddItems(Kind::kDict, key.has_value()
                                       ? std::optional(std::vector<std::uint32_t>{*key, *value})
                                       : std::nullopt);
    }
    case kSetItems:
      return AddItems(Kind::kDict, PopToMark());
    default:
      return StepStack(opcode);
  }
}

absl::Status Machine::StepStack(std::uint8_t opcode) {
  switch (opcode) {
    case kMark:
      marks_.push_back(stack_.size());
      return absl::OkStatus();
    case kPop:
      return Pop().has_value() ? absl::OkStatus() : Fault("POP of an empty stack");
    case kPopMark:
      return PopToMark().has_value() ? absl::OkStatus() : Fault("POP_MARK without a mark");
    case kDup:
      if (above_mark() == 0) {
        return Fault("DUP of an empty stack");
      }
      stack_.push_back(stack_.back());
      return absl::OkStatus();
    case kBinPut:
      return Put(reader_.Take<std::uint8_t>());
    case kLongBinPut:
      return Put(reader_.Take<std::uint32_t>());
    case kMemoize:
      return Put(memo_.size());
    case kBinGet:
      return Get(reader_.Take<std::uint8_t>());
    case kLongBinGet:
      return Get(reader_.Take<std::uint32_t>());
    default:
      return Fault(absl::StrFormat(
          "opcode 0x%02x, which torch.save does not write for tensors of protocol 2 to 5", opcode));
  }
}

absl::Status Machine::Proto() {
  const auto version = reader_.Take<std::uint8_t>();
  if (!version.has_value()) {
    return CutShort();
  }
  return *version <= kNewestProtocol
             ? absl::OkStatus()
             : Fault(absl::StrFormat("protocol %d, but %d is the newest there is", *version,
                                     kNewestProtocol));
}

// Two's complement, little endian, as few bytes as it takes.
absl::Status Machine::Long(std::optional<std::uint64_t> length) {
  const auto bytes = length.has_value() ? reader_.TakeBytes(*length) : std::nullopt;
  if (!bytes.has_value()) {
    return CutShort();
  }
  if (bytes->size() > sizeof(std::int64_t)) {
    return Fault(absl::StrFormat("a number of %d bytes, but 8 is the most", bytes->size()));
  }
  const bool negative = !bytes->empty() && (bytes->back() & std::byte{0x80}) != std::byte{0};
  std::uint64_t whole = negative ? ~std::uint64_t{0} : 0;
  std::memcpy(&whole, bytes->data(), bytes->size());
  return PushWhole(static_cast<std::int64_t>(whole));
}

absl::Status Machine::TupleOf(std::size_t count) {
  if (above_mark() < count) {
    return Fault(absl::StrFormat("a tuple of %d from a stack of %d", count, above_mark()));
  }
  const auto first = stack_.end() - static_cast<std::ptrdiff_t>(count);
  std::vector<std::uint32_t> items(first, stack_.end());
  stack_.erase(first, stack_.end());
  return Push({.kind = Kind::kTuple, .items = std::move(items)});
}

absl::Status Machine::TupleToMark() {
  auto items = PopToMark();
  return items.has_value() ? Push({.kind = Kind::kTuple, .items = *std::move(items)})
                           : Fault("TUPLE without a mark");
}

absl::Status Machine::AddItems(Kind kind, std::optional<std::vector<std::uint32_t>> items) {
  const bool dict = kind == Kind::kDict;
  if (!items.has_value() || above_mark() == 0 || pickle_.values[stack_.back()].kind != kind ||
      (dict && items->size() % 2 != 0)) {
    return Fault(dict ? "expected a dict and keys with values" : "expected a list and items");
  }
  std::vector<std::uint32_t>& all = pickle_.values[stack_.back()].items;
  all.insert(all.end(), items->begin(), items->end());
  return absl::OkStatus();
}

absl::Status Machine::Global() {
  std::string lines[2];  // module, name
  for (std::string& line : lines) {
    for (;;) {
      const auto letter = reader_.Take<char>();
      if (!letter.has_value()) {
        return CutShort();
      }
      if (*letter == '\n') {
        break;
      }
      line.push_back(*letter);
    }
  }
  return PushGlobal(lines[0], lines[1]);
}

absl::Status Machine::StackGlobal() {
  const auto name = Pop();
  const auto module = Pop();
  if (!module.has_value() || pickle_.at(*module).kind != Kind::kText ||
      pickle_.at(*name).kind != Kind::kText) {
    return Fault("expected a module and a name");
  }
  return PushGlobal(pickle_.at(*module).text, pickle_.at(*name).text);
}

absl::Status Machine::PushGlobal(const std::string& module, const std::string& name) {
  std::string global = module + "." + name;
  if (std::find(allowed_.begin(), allowed_.end(), global) == allowed_.end()) {
    return absl::UnimplementedError(absl::StrFormat(
        "offset %d: it uses %s, which no file of plain tensors needs and which is never run here; "
        "if you trust the file, load it with PyTorch and save the tensors alone",
        start_, Shown(global)));
  }
  return Push({.kind = Kind::kGlobal, .text = std::move(global)});
}

absl::Status Machine::Reduce() {
  const auto arguments = Pop();
  const auto callee = Pop();
  if (!callee.has_value() || pickle_.at(*callee).kind != Kind::kGlobal ||
      pickle_.at(*arguments).kind != Kind::kTuple) {
    return Fault("expected a global and a tuple of arguments");
  }
  if (pickle_.at(*callee).text == "collections.OrderedDict" &&
      pickle_.at(*arguments).items.empty()) {
    return Push({.kind = Kind::kDict});
  }
  return Push({.kind = Kind::kCall, .items = {*callee, *arguments}});
}

absl::Status Machine::Persistent() {
  const auto id = Pop();
  return id.has_value() ? Push({.kind = Kind::kPersistent, .items = {*id}})
                        : Fault("BINPERSID of an empty stack");
}

absl::Status Machine::Put(std::optional<std::uint64_t> key) {
  if (!key.has_value()) {
    return CutShort();
  }
  if (above_mark() == 0) {
    return Fault("nothing to put aside");
  }
  memo_[*key] = stack_.back();
  return absl::OkStatus();
}

absl::Status Machine::Get(std::optional<std::uint64_t> key) {
  if (!key.has_value()) {
    return CutShort();
  }
  const auto found = memo_.find(*key);
  if (found == memo_.end()) {
    return Fault(absl::StrFormat("object %d was not put aside", *key));
  }
  stack_.push_back(found->second);
  return absl::OkStatus();
}

absl::Status Machine::Stop() {
  const auto root = Pop();
  if (!root.has_value()) {
    return Fault("STOP without a result");
  }
  pickle_.root = *root;
  stopped_ = true;
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<Pickle> ParsePickle(std::span<const std::byte> bytes,
                                   std::span<const std::string_view> allowed) {
  if (bytes.size() > kLongestPickle) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "offset 0: a pickle of %d bytes, but %d is the most", bytes.size(), kLongestPickle));
  }
  return Machine(bytes, allowed).Run();
}

}  // namespace yangtuo
