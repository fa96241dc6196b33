// Whole files, with a bound on how much is taken in.
#pragma once
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "failure.h"

// The bytes of a regular file of 1 to `max_bytes`; `status` is what a failure ends the program with.
inline std::vector<uint8_t> ReadFile(const std::string &path, uint64_t max_bytes, Status status) {
  int file = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0) throw Failure(status, path + ": " + std::strerror(errno));
  struct stat info;
  std::vector<uint8_t> data;
  std::string problem;
  if (fstat(file, &info) != 0 || !S_ISREG(info.st_mode)) {
    problem = "not a regular file";
  } else if (info.st_size < 1 || static_cast<uint64_t>(info.st_size) > max_bytes) {
    problem = "expected 1 to " + std::to_string(max_bytes) + " bytes, got " +
              std::to_string(info.st_size);
  } else {
    data.resize(static_cast<size_t>(info.st_size));
    size_t have = 0;
    while (have < data.size()) {
      ssize_t got = read(file, data.data() + have, data.size() - have);
      if (got < 0 && errno == EINTR) continue;
      if (got <= 0) {
        problem = got < 0 ? std::strerror(errno) : "it became shorter while it was read";
        break;
      }
      have += static_cast<size_t>(got);
    }
  }
  close(file);
  if (!problem.empty()) throw Failure(status, path + ": " + problem);
  return data;
}
