// Arrays of numbers as numpy saves them (numpy.lib.format, versions 1 and 2).
#pragma once
#include <cstdint>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "files.h"

// A type of numbers: numpy's name and code, ONNX Runtime's number, and bytes of one.
struct Element {
  const char *name, *code;
  int number;
  size_t size;
};

constexpr Element kElements[] = {
    {"float32", "<f4", 1, 4}, {"uint8", "|u1", 2, 1},    {"int8", "|i1", 3, 1},
    {"uint16", "<u2", 4, 2},  {"int16", "<i2", 5, 2},    {"int32", "<i4", 6, 4},
    {"int64", "<i8", 7, 8},   {"bool", "|b1", 9, 1},     {"float16", "<f2", 10, 2},
    {"float64", "<f8", 11, 8}, {"uint32", "<u4", 12, 4}, {"uint64", "<u8", 13, 8},
};

inline const Element *FindElement(int number) {
  for (const Element &element : kElements)
    if (element.number == number) return &element;
  return nullptr;
}

struct Array {
  std::vector<int64_t> shape;
  const Element *element = nullptr;
  std::vector<uint8_t> bytes;
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

inline const Element *FindCode(const std::string &text) {
  for (const Element &element : kElements)
    if (text.rfind("'" + std::string(element.code) + "'", 0) == 0) return &element;
  return nullptr;
}

// Throws Failure(kInput) unless the file is a whole C-ordered array of little-endian numbers.
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
  Array array;
  array.element = FindCode(FindValue(header, "descr"));
  if (!array.element)
    throw Bad(path, "expected little-endian numbers or bool, got " +
                        FindValue(header, "descr").substr(0, 8));
  if (FindValue(header, "fortran_order").rfind("False", 0) != 0)
    throw Bad(path, "expected C order");
  array.shape = ParseShape(path, FindValue(header, "shape"));
  uint64_t count = 1;
  for (int64_t size : array.shape) {
    count *= static_cast<uint64_t>(size);
    if (count > kMaxBytes) throw Bad(path, "the shape is too large");
  }
  uint64_t have = data.size() - start - length;
  if (count * array.element->size != have)
    throw Bad(path, "the shape promises " + std::to_string(count * array.element->size) + " bytes, " +
                        std::to_string(have) + " are there");
  array.bytes.resize(static_cast<size_t>(have));  // moved to where any number is aligned
  if (have) std::memcpy(array.bytes.data(), data.data() + start + length, static_cast<size_t>(have));
  return array;
}

}  // namespace npy
