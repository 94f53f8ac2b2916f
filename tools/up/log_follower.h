#pragma once

#include <filesystem>
#include <functional>
#include <ios>
#include <string>
#include <utility>
#include <vector>

namespace yangtuo {

// Hands on the lines that are appended to log files, as `tail -f` does.
class LogFollower {
 public:
  using Line = std::function<void(const std::string& name, const std::string& line)>;
  explicit LogFollower(Line on_line) : on_line_(std::move(on_line)) {}

  // From the file's beginning; it may not exist yet.
  void Add(std::string name, std::filesystem::path file);
  // Hands on what came since the last call, whole lines only.
  void Poll();

 private:
  struct File {
    std::string name;
    std::filesystem::path path;
    std::streamoff offset = 0;
  };
  Line on_line_;
  std::vector<File> files_;
};

}  // namespace yangtuo
