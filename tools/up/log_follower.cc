#include "tools/up/log_follower.h"

#include <fstream>

namespace yangtuo {

void LogFollower::Add(std::string name, std::filesystem::path file) {
  files_.push_back({.name = std::move(name), .path = std::move(file)});
}

void LogFollower::Poll() {
  for (File& file : files_) {
    std::ifstream in(file.path, std::ios::binary);
    in.seekg(file.offset);
    std::string line;
    // A line without its newline sets eof: it is still being written.
    while (std::getline(in, line) && !in.eof()) {
      file.offset += static_cast<std::streamoff>(line.size()) + 1;
      on_line_(file.name, line);
    }
  }
}

}  // namespace yangtuo
