#include "inference_core/base/output_file.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <fcntl.h>
#include <string>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <system_error>
#include <unistd.h>
#include <utility>

#include "absl/strings/str_format.h"
#include "inference_core/base/status_macros.h"

namespace yangtuo {
namespace {

namespace fs = std::filesystem;

// What a write call takes at once on Linux is a little less than 2 GiB.
constexpr std::size_t kMostPerCall = std::size_t{1} << 30;

std::string Reason(int error) { return std::generic_category().message(error); }

// What went wrong with `target`. `wanted`: bytes that were to be written.
absl::Status WriteError(const fs::path& target, int error, std::uint64_t wanted) {
  if (error == ENOSPC || error == EDQUOT) {
    const absl::StatusOr<std::uint64_t> free = FreeDiskBytes(target.parent_path());
    return absl::ResourceExhaustedError(absl::StrFormat(
        "cannot write %s: no room for %d more bytes, %s are free (%s); free some or give another "
        "folder",
        target.string(), wanted, free.ok() ? absl::StrFormat("%d", *free) : "an unknown number",
        Reason(error)));
  }
  const std::string message =
      absl::StrFormat("cannot write %s: %s", target.string(), Reason(error));
  switch (error) {
    case ENOENT:
    case ENOTDIR:
      return absl::NotFoundError(message + "; make its folder first");
    case EACCES:
    case EPERM:
    case EROFS:
      return absl::PermissionDeniedError(message);
    case EFBIG:
      return absl::ResourceExhaustedError(absl::StrFormat(
          "%s (%d more bytes; a limit of this file system or of ulimit -f)", message, wanted));
    case EMFILE:
    case ENFILE:
    case ENOMEM:
      return absl::ResourceExhaustedError(message);
    default:
      return absl::FailedPreconditionError(message);
  }
}

fs::path FolderOf(const fs::path& target) {
  return target.has_parent_path() ? target.parent_path() : fs::path(".");
}

// "models/out/" is "models/out".
fs::path WithoutEndingSlash(const fs::path& path) {
  return path.has_filename() ? path : path.parent_path();
}

fs::path AsideOf(const fs::path& target) {
  return FolderOf(target) / absl::StrFormat(".%s.partial", target.filename().string());
}

// Takes the lock of an open `aside`. `gone` when another run renamed or removed it in between.
enum class Lock { kTaken, kGone, kOthers };

Lock TryLock(int fd, const fs::path& aside) {
  if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
    return Lock::kOthers;
  }
  struct stat opened {};
  struct stat named {};
  const bool same = fstat(fd, &opened) == 0 && stat(aside.c_str(), &named) == 0 &&
                    opened.st_ino == named.st_ino && opened.st_dev == named.st_dev;
  return same ? Lock::kTaken : Lock::kGone;
}

// Opens with `open_aside`, which returns a descriptor or -1, until the lock is held on what `aside`
// names.
template <typename Open>
absl::StatusOr<int> OpenLocked(const fs::path& target, const fs::path& aside, Open open_aside) {
  for (;;) {
    const int fd = open_aside();
    if (fd < 0) {
      return WriteError(target, errno, 0);
    }
    switch (TryLock(fd, aside)) {
      case Lock::kTaken:
        return fd;
      case Lock::kOthers:
        close(fd);
        return absl::AbortedError(
            absl::StrFormat("cannot write %s: another run is writing it now (it holds %s)",
                            target.string(), aside.string()));
      case Lock::kGone:
        close(fd);
    }
  }
}

// A rename is on the disk once its folder is.
absl::Status SyncFolder(const fs::path& folder, const fs::path& target) {
  const int fd = open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  const bool synced = fd >= 0 && fsync(fd) == 0;
  const int error = errno;
  if (fd >= 0) {
    close(fd);
  }
  // Some file systems cannot sync a folder; then the name is as safe as they make it.
  return synced || error == EINVAL ? absl::OkStatus() : WriteError(target, error, 0);
}

absl::Status Rename(const fs::path& aside, const fs::path& target) {
  if (std::rename(aside.c_str(), target.c_str()) != 0) {
    return WriteError(target, errno, 0);
  }
  return SyncFolder(FolderOf(target), target);
}

}  // namespace

OutputFile::OutputFile(fs::path target, fs::path aside, int fd)
    : target_(std::move(target)), aside_(std::move(aside)), fd_(fd) {}

OutputFile::OutputFile(OutputFile&& other) noexcept
    : target_(std::move(other.target_)),
      aside_(std::move(other.aside_)),
      fd_(std::exchange(other.fd_, -1)) {}

OutputFile& OutputFile::operator=(OutputFile&& other) noexcept {
  std::swap(target_, other.target_);
  std::swap(aside_, other.aside_);
  std::swap(fd_, other.fd_);
  return *this;
}

OutputFile::~OutputFile() {
  if (fd_ >= 0) {
    unlink(aside_.c_str());
    close(fd_);
  }
}

absl::StatusOr<OutputFile> OutputFile::Create(const fs::path& target) {
  std::error_code error;
  const fs::file_status there = fs::status(target, error);
  if (fs::exists(there) && !fs::is_regular_file(there)) {
    return absl::FailedPreconditionError(
        absl::StrFormat("cannot write %s: it is there and is not a file", target.string()));
  }
  const fs::path aside = AsideOf(target);
  YANGTUO_ASSIGN_OR_RETURN(const int fd, OpenLocked(target, aside, [&aside] {
                             return open(aside.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW,
                                         0666);
                           }));
  OutputFile file(target, aside, fd);
  if (ftruncate(fd, 0) != 0) {
    return WriteError(target, errno, 0);
  }
  return file;
}

std::uint64_t internal::BytesBeyond(int fd, std::uint64_t bytes) {
  struct stat file {};
  if (fstat(fd, &file) != 0) {
    return bytes;
  }
  // In units of 512 whatever the file system's blocks.
  const std::uint64_t taken = static_cast<std::uint64_t>(file.st_blocks) * 512;
  return bytes - std::min(bytes, taken);
}

absl::Status OutputFile::Reserve(std::uint64_t bytes) {
  if (bytes == 0) {
    return absl::OkStatus();
  }
  if (fallocate(fd_, 0, 0, static_cast<off_t>(bytes)) == 0) {
    return absl::OkStatus();
  }
  if (errno != EOPNOTSUPP && errno != EINTR) {
    return WriteError(target_, errno, bytes);
  }
  YANGTUO_ASSIGN_OR_RETURN(const std::uint64_t free, FreeDiskBytes(target_));
  if (free < internal::BytesBeyond(fd_, bytes)) {
    return WriteError(target_, ENOSPC, bytes);
  }
  return ftruncate(fd_, static_cast<off_t>(bytes)) == 0 ? absl::OkStatus()
                                                        : WriteError(target_, errno, bytes);
}

absl::Status OutputFile::WriteAt(std::uint64_t offset, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t written =
        pwrite(fd_, bytes.data(), std::min(bytes.size(), kMostPerCall), static_cast<off_t>(offset));
    if (written < 0 && errno == EINTR) {
      continue;
    }
    if (written <= 0) {
      return WriteError(target_, written < 0 ? errno : EIO, bytes.size());
    }
    bytes = bytes.subspan(static_cast<std::size_t>(written));
    offset += static_cast<std::uint64_t>(written);
  }
  return absl::OkStatus();
}

absl::Status OutputFile::Commit() {
  if (fd_ < 0) {
    return absl::FailedPreconditionError(
        absl::StrFormat("%s was committed already", target_.string()));
  }
  if (fsync(fd_) != 0) {
    return WriteError(target_, errno, 0);
  }
  YANGTUO_RETURN_IF_ERROR(Rename(aside_, target_));
  const int fd = std::exchange(fd_, -1);
  return close(fd) == 0 ? absl::OkStatus() : WriteError(target_, errno, 0);
}

OutputFolder::OutputFolder(fs::path target, fs::path aside, int fd)
    : target_(std::move(target)), aside_(std::move(aside)), fd_(fd) {}

OutputFolder::OutputFolder(OutputFolder&& other) noexcept
    : target_(std::move(other.target_)),
      aside_(std::move(other.aside_)),
      fd_(std::exchange(other.fd_, -1)) {}

OutputFolder& OutputFolder::operator=(OutputFolder&& other) noexcept {
  std::swap(target_, other.target_);
  std::swap(aside_, other.aside_);
  std::swap(fd_, other.fd_);
  return *this;
}

OutputFolder::~OutputFolder() {
  if (fd_ >= 0) {
    std::error_code ignored;
    fs::remove_all(aside_, ignored);
    close(fd_);
  }
}

absl::StatusOr<OutputFolder> OutputFolder::Create(const fs::path& wanted) {
  const fs::path target = WithoutEndingSlash(wanted);
  std::error_code error;
  const fs::file_status there = fs::status(target, error);
  if (fs::exists(there) && (!fs::is_directory(there) || !fs::is_empty(target, error) || error)) {
    return absl::AlreadyExistsError(
        absl::StrFormat("cannot write %s: it is there already and not an empty folder; remove it "
                        "or give another name",
                        target.string()));
  }
  const fs::path aside = AsideOf(target);
  YANGTUO_ASSIGN_OR_RETURN(const int fd, OpenLocked(target, aside, [&aside] {
                             return mkdir(aside.c_str(), 0777) == 0 || errno == EEXIST
                                        ? open(aside.c_str(),
                                               O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW)
                                        : -1;
                           }));
  OutputFolder folder(target, aside, fd);
  // What an interrupted run left.
  for (fs::directory_iterator it(aside, error), end; !error && it != end; it.increment(error)) {
    fs::remove_all(it->path(), error);
  }
  if (error) {
    return WriteError(target, error.value(), 0);
  }
  return folder;
}

absl::Status OutputFolder::Commit() {
  if (fd_ < 0) {
    return absl::FailedPreconditionError(
        absl::StrFormat("%s was committed already", target_.string()));
  }
  if (fsync(fd_) != 0 && errno != EINVAL) {
    return WriteError(target_, errno, 0);
  }
  YANGTUO_RETURN_IF_ERROR(Rename(aside_, target_));
  close(std::exchange(fd_, -1));
  return absl::OkStatus();
}

absl::Status WriteOutputFile(const fs::path& target, std::string_view content) {
  YANGTUO_ASSIGN_OR_RETURN(OutputFile file, OutputFile::Create(target));
  YANGTUO_RETURN_IF_ERROR(file.WriteAt(0, std::as_bytes(std::span(content))));
  return file.Commit();
}

absl::StatusOr<std::uint64_t> FreeDiskBytes(const fs::path& path) {
  std::error_code error;
  fs::path there = fs::absolute(path, error);
  while (!fs::exists(there, error) && there.has_relative_path()) {
    there = there.parent_path();
  }
  struct statvfs info {};
  if (statvfs(there.c_str(), &info) != 0) {
    return absl::FailedPreconditionError(
        absl::StrFormat("cannot ask for the free space at %s: %s", there.string(), Reason(errno)));
  }
  return std::uint64_t{info.f_bavail} * std::uint64_t{info.f_frsize};
}

}  // namespace yangtuo
