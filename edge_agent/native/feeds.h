// What each call of a model gets, out of npy files: one row at a time.
//
// An input whose first dimension is open or 1 has rows: its file's first dimension counts them, and a
// file of one row serves every call. Any other (a rate, a state [2, batch, 64]) belongs to the call and
// is given whole. Free dimensions take the file's size.
#pragma once
#include <algorithm>
#include <map>

#include "runtime.h"

class Feeds {
 public:
  // `files` by input; an input without one is zeros, where no other has rows or it has none.
  Feeds(const std::vector<Input> &inputs, const std::map<std::string, std::string> &files) {
    for (const Input &input : inputs) {
      auto file = files.find(input.name);
      bool has_file = file != files.end();
      if (!has_file && !files.empty() && HasRows(input) && input.shape[0] != 1)
        throw Failure(Status::kUsage, "no file for the input '" + input.name + "'");
      parts_.push_back(has_file ? Read(input, file->second) : Zeros(input));
    }
    for (const Part &part : parts_) count_ = std::max(count_, part.rows);
    for (size_t i = 0; i < parts_.size(); i++)
      if (parts_[i].rows != 1 && parts_[i].rows != count_)
        throw Failure(Status::kInput, "the input '" + inputs[i].name + "' has " +
                                          std::to_string(parts_[i].rows) + " rows, another has " +
                                          std::to_string(count_));
  }

  size_t count() const { return count_; }

  // The feeds of row `index`, in the order of the model's inputs.
  std::vector<Feed> Row(size_t index) {
    std::vector<Feed> feeds;
    for (Part &part : parts_) {
      size_t size = part.array.bytes.size() / part.rows;
      uint8_t *bytes = part.array.bytes.data() + (part.rows == 1 ? 0 : index * size);
      feeds.push_back({part.array.element, &part.shape, bytes, size});
    }
    return feeds;
  }

 private:
  struct Part {
    Array array;
    std::vector<int64_t> shape;  // of one call
    size_t rows;
  };

  static bool HasRows(const Input &input) { return !input.shape.empty() && input.shape[0] <= 1; }

  static std::string Describe(const std::vector<int64_t> &shape, bool is_model) {
    std::string text = "[";
    for (size_t i = 0; i < shape.size(); i++)
      text += (i ? ", " : "") + (is_model && shape[i] < 1 ? "any" : std::to_string(shape[i]));
    return text + "]";
  }

  static Part Zeros(const Input &input) {
    Part part{{}, input.shape, 1};
    uint64_t count = 1;
    for (int64_t &size : part.shape) {
      size = std::max<int64_t>(size, 1);
      count *= static_cast<uint64_t>(std::min<int64_t>(size, npy::kMaxBytes));
      if (count * input.element->size > npy::kMaxBytes)
        throw Failure(Status::kModel, "one row of the input '" + input.name + "' passes 1 GiB");
    }
    part.array.element = input.element;
    part.array.bytes.assign(static_cast<size_t>(count) * input.element->size, 0);
    return part;
  }

  static Part Read(const Input &input, const std::string &path) {
    Part part{npy::Read(path), {}, 1};
    bool has_rows = HasRows(input);
    std::vector<int64_t> wanted = input.shape;
    if (has_rows) wanted[0] = 1;
    part.shape = part.array.shape;
    bool fits = part.shape.size() == wanted.size();
    if (fits && has_rows) {
      part.rows = static_cast<size_t>(part.shape[0]);
      part.shape[0] = 1;
      fits = part.rows > 0;
    }
    for (size_t i = 0; fits && i < wanted.size(); i++)
      fits = part.shape[i] > 0 && (wanted[i] < 1 || part.shape[i] == wanted[i]);
    if (!fits)
      throw Failure(Status::kInput, path + ": one row of the model is " + Describe(wanted, true) +
                                        ", the file has " + Describe(part.array.shape, false));
    if (part.array.element != input.element)
      throw Failure(Status::kInput, path + ": the input '" + input.name + "' is " +
                                        input.element->name + ", the file has " +
                                        part.array.element->name);
    return part;
  }

  std::vector<Part> parts_;
  size_t count_ = 1;
};
