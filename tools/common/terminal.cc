#include "tools/common/terminal.h"

#include <cerrno>
#include <cstdlib>
#include <sys/ioctl.h>
#include <unistd.h>

namespace yangtuo {
namespace {

std::string Coloured(bool colour, std::string_view code, std::string_view text) {
  std::string out;
  if (colour) {
    out.append("\033[").append(code).append("m");
  }
  out.append(text);
  if (colour) {
    out.append("\033[0m");
  }
  return out;
}

}  // namespace

Terminal Terminal::LookAt(int fd) {
  Terminal terminal;
  terminal.interactive = isatty(fd) == 1;
  if (!terminal.interactive) {
    return terminal;
  }
  winsize size{};
  terminal.columns = ioctl(fd, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
  const char* type = std::getenv("TERM");         // NOLINT(concurrency-mt-unsafe)
  const char* refused = std::getenv("NO_COLOR");  // NOLINT(concurrency-mt-unsafe)
  const bool dumb = type == nullptr || std::string_view(type) == "dumb";
  terminal.colour = !dumb && (refused == nullptr || *refused == '\0');
  return terminal;
}

std::string Terminal::Bold(std::string_view text) const { return Coloured(colour, "1", text); }
std::string Terminal::Dim(std::string_view text) const { return Coloured(colour, "2", text); }
std::string Terminal::Good(std::string_view text) const { return Coloured(colour, "32", text); }
std::string Terminal::Bad(std::string_view text) const { return Coloured(colour, "31", text); }

bool WriteAll(int fd, std::string_view text) {
  while (!text.empty()) {
    const ssize_t written = write(fd, text.data(), text.size());
    if (written < 0 && errno != EINTR) {
      return false;
    }
    text.remove_prefix(written < 0 ? 0 : static_cast<std::size_t>(written));
  }
  return true;
}

}  // namespace yangtuo
