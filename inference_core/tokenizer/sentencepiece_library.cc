#include "inference_core/tokenizer/sentencepiece_library.h"

#include <dlfcn.h>
#include <system_error>
#include <type_traits>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "inference_core/base/mutex.h"
#include "inference_core/base/status_macros.h"

namespace yangtuo {
namespace {

constexpr const char* kShimName = "libyangtuo_sentencepiece.so";

std::vector<std::filesystem::path> ShimCandidates() {
  std::vector<std::filesystem::path> candidates;
  std::error_code error;
  const std::filesystem::path program = std::filesystem::read_symlink("/proc/self/exe", error);
  if (!error) {
    const std::filesystem::path folder = program.parent_path();
    for (const char* place : {".", "../lib/yangtuo", "../lib", "../bin"}) {
      candidates.push_back((folder / place / kShimName).lexically_normal());
    }
  }
  candidates.emplace_back(YANGTUO_SENTENCEPIECE_SHIM);
  return candidates;
}

absl::StatusOr<std::filesystem::path> FindShim(const std::filesystem::path& shim) {
  const std::vector<std::filesystem::path> candidates =
      shim.empty() ? ShimCandidates() : std::vector<std::filesystem::path>{shim};
  std::error_code error;
  for (const std::filesystem::path& candidate : candidates) {
    if (std::filesystem::is_regular_file(candidate, error)) {
      return candidate;
    }
  }
  return absl::FailedPreconditionError(absl::StrFormat(
      "the sentencepiece shim is missing: expected %s; install or build it beside the program",
      absl::StrJoin(candidates, " or ", [](std::string* out, const std::filesystem::path& path) {
        out->append(path.string());
      })));
}

// The namespace's libraries are private to it; the reason why one is missing is in dlerror().
std::string LastLinkError() {
  const char* error = dlerror();  // NOLINT(concurrency-mt-unsafe): thread-local in glibc
  return error == nullptr ? "unknown reason" : error;
}

}  // namespace

absl::StatusOr<SentencePieceLibrary> SentencePieceLibrary::Open(const std::filesystem::path& shim) {
  YANGTUO_ASSIGN_OR_RETURN(const std::filesystem::path file, FindShim(shim));
  void* handle = dlmopen(LM_ID_NEWLM, file.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (handle == nullptr) {
    return absl::FailedPreconditionError(
        absl::StrFormat("%s cannot be loaded: %s", file.string(), LastLinkError()));
  }
  SentencePieceLibrary library;
  const auto resolve = [handle](auto& function, const char* name) {
    function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(dlsym(handle, name));
    return function != nullptr;
  };
  if (!resolve(library.create_, "yangtuo_spm_create") ||
      !resolve(library.destroy_, "yangtuo_spm_destroy") ||
      !resolve(library.encode_, "yangtuo_spm_encode") ||
      !resolve(library.decode_, "yangtuo_spm_decode")) {
    const std::string reason = LastLinkError();
    dlclose(handle);
    return absl::FailedPreconditionError(
        absl::StrFormat("%s is not this version's sentencepiece shim: %s", file.string(), reason));
  }
  return library;
}

absl::StatusOr<const SentencePieceLibrary*> SentencePieceLibrary::Load(
    const std::filesystem::path& shim) {
  // Link namespaces belong to the process, so the handle to ours does too.
  struct Loaded {
    Mutex mutex;
    std::unique_ptr<const SentencePieceLibrary> library ABSL_GUARDED_BY(mutex);
  };
  static auto& loaded = *new Loaded;  // never destroyed: models may outlive static destructors
  const MutexLock lock(loaded.mutex);
  if (loaded.library == nullptr) {
    YANGTUO_ASSIGN_OR_RETURN(SentencePieceLibrary opened, Open(shim));
    loaded.library = std::make_unique<const SentencePieceLibrary>(opened);
  }
  return loaded.library.get();
}

absl::StatusOr<SentencePieceModel> SentencePieceLibrary::CreateModel(
    std::string_view model, std::string_view origin) const {
  std::string reason;
  const auto receive = [](void* receiver, const char* text, std::size_t num_bytes) {
    static_cast<std::string*>(receiver)->assign(text, num_bytes);
  };
  std::unique_ptr<YangtuoSpm, SentencePieceModel::Destroy> created(
      create_(model.data(), model.size(), receive, &reason), {this});
  if (created == nullptr) {
    return absl::DataLossError(
        absl::StrFormat("%s: sentencepiece refuses this model: %s", origin, reason));
  }
  return SentencePieceModel(std::move(created));
}

absl::Status SentencePieceModel::Encode(std::string_view text,
                                        std::vector<std::int32_t>& ids) const {
  const auto receive = [](void* receiver, const int* encoded, std::size_t num_ids) {
    auto& out = *static_cast<std::vector<std::int32_t>*>(receiver);
    out.insert(out.end(), encoded, encoded + num_ids);
  };
  if (model_.get_deleter().library->encode_(model_.get(), text.data(), text.size(), receive,
                                            &ids) != 0) {
    return absl::InternalError(
        absl::StrFormat("sentencepiece refused to encode a text of %d bytes", text.size()));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> SentencePieceModel::Decode(const std::vector<std::int32_t>& ids) const {
  std::string decoded;
  const auto receive = [](void* receiver, const char* text, std::size_t num_bytes) {
    static_cast<std::string*>(receiver)->assign(text, num_bytes);
  };
  if (model_.get_deleter().library->decode_(model_.get(), ids.data(), ids.size(), receive,
                                            &decoded) != 0) {
    return absl::InternalError(
        absl::StrFormat("sentencepiece refused to decode %d ids", ids.size()));
  }
  return decoded;
}

}  // namespace yangtuo
