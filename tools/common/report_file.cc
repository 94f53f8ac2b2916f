#include "tools/common/report_file.h"

#include <cerrno>
#include <cstring>
#include <fstream>

#include "absl/strings/str_format.h"
#include "tools/common/terminal.h"

namespace yangtuo {

absl::Status WriteReport(const std::string& path, const std::string& text) {
  if (path == "-") {
    return WriteAll(1, text) ? absl::OkStatus()
                             : absl::UnavailableError("standard output is closed");
  }
  errno = 0;
  std::ofstream out(path, std::ios::binary);
  out << text;
  out.close();
  return out ? absl::OkStatus()
             : absl::UnavailableError(
                   absl::StrFormat("cannot write \"%s\": %s", path, std::strerror(errno)));
}

}  // namespace yangtuo
