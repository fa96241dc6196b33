// Why the program ended, as its exit status and one line for a person.
#pragma once
#include <stdexcept>
#include <string>

enum class Status : int {
  kDone = 0,
  kUsage = 2,
  kRuntime = 3,  // no ONNX Runtime, or one that is too old
  kModel = 4,    // unreadable, not the promised bytes, or not a model that this program runs
  kInput = 5,    // unreadable, no npy of numbers, or of another type or shape
  kOutput = 6,   // the model failed, or its scores are not finite
};

struct Failure : std::runtime_error {
  Failure(Status with_status, const std::string &message)
      : std::runtime_error(message), status(with_status) {}
  Status status;
};
