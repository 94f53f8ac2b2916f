#include "tests/testing/zip_builder.h"

#include <cstring>
#include <zlib.h>

namespace yangtuo {
namespace {

template <typename T>
void Put(std::string& bytes, T value) {
  const std::size_t end = bytes.size();
  bytes.resize(end + sizeof(value));
  std::memcpy(bytes.data() + end, &value, sizeof(value));
}

// From the version needed to the length of the extra field.
void PutCommon(std::string& bytes, const std::string& name, const std::string& content) {
  Put(bytes, std::uint16_t{20});
  Put(bytes, std::uint64_t{0});  // flags, method, time, date
  Put(bytes, static_cast<std::uint32_t>(
                 crc32_z(0, reinterpret_cast<const Bytef*>(content.data()), content.size())));
  Put(bytes, static_cast<std::uint32_t>(content.size()));
  Put(bytes, static_cast<std::uint32_t>(content.size()));
  Put(bytes, static_cast<std::uint16_t>(name.size()));
  Put(bytes, std::uint16_t{0});
}

}  // namespace

std::string BuildZip(const std::vector<std::pair<std::string, std::string>>& files,
                     std::string_view comment) {
  std::string archive;
  std::string directory;
  for (const auto& [name, content] : files) {
    const auto offset = static_cast<std::uint32_t>(archive.size());
    Put(archive, std::uint32_t{0x04034b50});
    PutCommon(archive, name, content);
    archive += name;
    archive += content;
    Put(directory, std::uint32_t{0x02014b50});
    Put(directory, std::uint16_t{20});
    PutCommon(directory, name, content);
    Put(directory, std::uint64_t{0});  // comment, disk, attributes and two more bytes of them
    Put(directory, std::uint16_t{0});
    Put(directory, offset);
    directory += name;
  }
  const auto offset = static_cast<std::uint32_t>(archive.size());
  archive += directory;
  Put(archive, std::uint32_t{0x06054b50});
  Put(archive, std::uint32_t{0});
  Put(archive, static_cast<std::uint16_t>(files.size()));
  Put(archive, static_cast<std::uint16_t>(files.size()));
  Put(archive, static_cast<std::uint32_t>(directory.size()));
  Put(archive, offset);
  Put(archive, static_cast<std::uint16_t>(comment.size()));
  archive += comment;
  return archive;
}

}  // namespace yangtuo
