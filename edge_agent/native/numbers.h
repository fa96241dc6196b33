// Numbers of a model's output, whatever their type, as doubles.
#pragma once
#include <cmath>
#include <cstring>

#include "npy.h"

template <class Number>
double ReadAs(const uint8_t *bytes) {
  Number number;
  std::memcpy(&number, bytes, sizeof number);
  return static_cast<double>(number);
}

// IEEE 754 binary16.
inline double ReadHalf(const uint8_t *bytes) {
  unsigned bits = bytes[0] | static_cast<unsigned>(bytes[1]) << 8;
  int exponent = static_cast<int>(bits >> 10 & 31);
  double fraction = static_cast<double>(bits & 1023) / 1024.0, value = 0;
  if (exponent == 31) value = fraction > 0 ? std::nan("") : HUGE_VAL;
  else if (exponent == 0) value = std::ldexp(fraction, -14);
  else value = std::ldexp(1 + fraction, exponent - 15);
  return bits >> 15 ? -value : value;
}

inline double ToDouble(const Element &element, const uint8_t *bytes) {
  switch (element.number) {
    case 1: return ReadAs<float>(bytes);
    case 2: return ReadAs<uint8_t>(bytes);
    case 3: return ReadAs<int8_t>(bytes);
    case 4: return ReadAs<uint16_t>(bytes);
    case 5: return ReadAs<int16_t>(bytes);
    case 6: return ReadAs<int32_t>(bytes);
    case 7: return ReadAs<int64_t>(bytes);
    case 9: return bytes[0] ? 1.0 : 0.0;
    case 10: return ReadHalf(bytes);
    case 11: return ReadAs<double>(bytes);
    case 12: return ReadAs<uint32_t>(bytes);
    default: return ReadAs<uint64_t>(bytes);
  }
}
