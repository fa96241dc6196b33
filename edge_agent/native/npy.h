// Arrays of float32 as numpy saves them (numpy.lib.format, versions 1 and 2).
#pragma once
#include <cstdint>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "files.h"

struct Array {
  std::vector<int64_t> shape;
  std::vector<float> values;
};

namespace npy {

constexpr uint64_t kMaxBytes = 1ull << 30;
constexpr size_t kMaxRank = 8;

inline Failure Bad(const std::string &path, const std::string &reason) {
  return Failure(Status::kInput, path + ": " + reason);
}

// What follows `'key': ` in the header, which is one line of a Python dictionary.
inline std::string FindValue(const std::string &header, const std::string &key) {
  size_t at = header.find("'" + key + "':");
  if (at == std::string::npos) return "";
  at = header.find_first_not_of(' ', at + key.size() + 3);
  return at == std::string::npos ? "" : header.substr(at);
}

inline std::vector<int64_t> ParseShape(const std::string &path, const std::string &text) {
  size_t end = text.find(')');
  if (text.empty() || text[0] != '(' || end == std::string::npos) throw Bad(path, "no shape");
  std::vector<int64_t> shape;
  uint64_t value = 0;
  bool has_digit = false;
  for (size_t i = 1; i <= end; i++) {
    char letter = text[i];
    if (letter >= '0' && letter <= '9') {
      value = value * 10 + static_cast<uint64_t>(letter - '0');
      has_digit = true;
      if (value > kMaxBytes) throw Bad(path, "a dimension is too large");
    } else if (letter == ',' || letter == ')') {
      if (has_digit) shape.push_back(static_cast<int64_t>(value));
      value = 0, has_digit = false;
    } else if (letter != ' ') {
      throw Bad(path, "no shape");
    }
    if (shape.size() > kMaxRank) throw Bad(path, "more than 8 dimensions");
  }
  return shape;
}

// Throws Failure(kInput) unless the file is a whole C-ordered array of little-endian float32.
inline Array Read(const std::string &path) {
  std::vector<uint8_t> data = ReadFile(path, kMaxBytes, Status::kInput);
  if (data.size() < 12 || std::memcmp(data.data(), "\x93NUMPY", 6) != 0)
    throw Bad(path, "not an npy file");
  size_t version = data[6], start = version == 1 ? 10 : 12;
  if (version != 1 && version != 2)
    throw Bad(path, "expected npy version 1 or 2, got " + std::to_string(version));
  uint64_t length = data[8] | static_cast<uint64_t>(data[9]) << 8;
  if (version == 2)
    length |= static_cast<uint64_t>(data[10]) << 16 | static_cast<uint64_t>(data[11]) << 24;
  if (length > data.size() - start) throw Bad(path, "the header is cut off");
  std::string header(data.begin() + static_cast<std::ptrdiff_t>(start),
                     data.begin() + static_cast<std::ptrdiff_t>(start + length));
  if (FindValue(header, "descr").rfind("'<f4'", 0) != 0)
    throw Bad(path, "expected little-endian float32, got " + FindValue(header, "descr").substr(0, 8));
  if (FindValue(header, "fortran_order").rfind("False", 0) != 0)
    throw Bad(path, "expected C order");
  Array array;
  array.shape = ParseShape(path, FindValue(header, "shape"));
  uint64_t count = 1;
  for (int64_t size : array.shape) {
    count *= static_cast<uint64_t>(size);
    if (count > kMaxBytes) throw Bad(path, "the shape is too large");
  }
  uint64_t have = data.size() - start - length;
  if (count * sizeof(float) != have)
    throw Bad(path, "the shape promises " + std::to_string(count * sizeof(float)) + " bytes, " +
                        std::to_string(have) + " are there");
  array.values.resize(static_cast<size_t>(count));
  if (count) std::memcpy(array.values.data(), data.data() + start + length, static_cast<size_t>(have));
  return array;
}

}  // namespace npy
