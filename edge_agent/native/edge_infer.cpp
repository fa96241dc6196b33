// Runs one ONNX model on a board without room for Python, and prints what came out as one JSON line.
//
//   edge_infer MODEL [--input RAW_FLOAT32] [--runs N] [--threads N] [--top K]
//
// The model takes one float32 input; dimensions that are not fixed count as 1. Without --input it is
// fed zeros. Exit status: 0 done, 2 wrong usage or input, 3 the runtime refused.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <numeric>
#include <stdexcept>
#include <string>
#include <vector>

#include "ort_slots.h"

namespace {

const void *const *g_api = nullptr;

template <class Result, class... Args>
Result CallSlot(OrtSlot slot, Args... args) {
  return reinterpret_cast<Result (*)(Args...)>(const_cast<void *>(g_api[slot]))(args...);
}

template <class... Args>
void Check(OrtSlot slot, Args... args) {
  if (OrtStatus *status = CallSlot<OrtStatus *>(slot, args...)) {
    throw std::runtime_error(CallSlot<const char *>(kGetErrorMessage, (const OrtStatus *)status));
  }
}

struct Options {
  std::string model, input;
  int runs = 100, threads = 1, top = 3;
};

Options ParseArguments(int argc, char **argv) {
  Options options;
  for (int i = 1; i < argc; i++) {
    std::string word = argv[i];
    auto number = [&] {
      int value = i + 1 < argc ? std::atoi(argv[++i]) : 0;
      if (value < 1) throw std::invalid_argument(word + " needs a number of 1 or more");
      return value;
    };
    if (word == "--input" && i + 1 < argc) options.input = argv[++i];
    else if (word == "--runs") options.runs = number();
    else if (word == "--threads") options.threads = number();
    else if (word == "--top") options.top = number();
    else if (options.model.empty() && word[0] != '-') options.model = word;
    else throw std::invalid_argument("unexpected argument " + word);
  }
  if (options.model.empty()) throw std::invalid_argument("no model given");
  return options;
}

class Model {
 public:
  Model(const Options &options) {
    const OrtApiBase *base = OrtGetApiBase();
    g_api = base->GetApi(kOrtApiVersion);
    if (!g_api) throw std::runtime_error(std::string("runtime too old: ") + base->GetVersionString());
    Check(kCreateEnv, kLogWarning, "edge", &env_);
    Check(kCreateSessionOptions, &options_);
    Check(kSetGraphOptimization, options_, kOptimiseAll);
    Check(kSetIntraOpThreads, options_, options.threads);
    Check(kSetInterOpThreads, options_, 1);
    // A spinning thread on a small board takes the time of whoever feeds it.
    Check(kAddSessionConfigEntry, options_, "session.intra_op.allow_spinning", "0");
    Check(kCreateSession, (const OrtEnv *)env_, options.model.c_str(),
          (const OrtSessionOptions *)options_, &session_);
    OrtAllocator *allocator;
    Check(kGetDefaultAllocator, &allocator);
    Check(kGetInputName, (const OrtSession *)session_, (size_t)0, allocator, &input_name_);
    Check(kGetOutputName, (const OrtSession *)session_, (size_t)0, allocator, &output_name_);
    Check(kCreateCpuMemoryInfo, kArena, kDefaultMemory, &memory_);
    ReadShape();
  }

  ~Model() {
    CallSlot<void>(kReleaseMemoryInfo, memory_);
    CallSlot<void>(kReleaseSession, session_);
    CallSlot<void>(kReleaseSessionOptions, options_);
    CallSlot<void>(kReleaseEnv, env_);
  }
  Model(const Model &) = delete;
  Model &operator=(const Model &) = delete;

  size_t InputSize() const {
    return std::accumulate(shape_.begin(), shape_.end(), (size_t)1,
                           [](size_t a, int64_t b) { return a * (size_t)b; });
  }

  std::vector<float> Run(std::vector<float> &input, double *elapsed_us) {
    OrtValue *fed = nullptr, *got = nullptr;
    Check(kCreateTensorWithData, (const OrtMemoryInfo *)memory_, (void *)input.data(),
          input.size() * sizeof(float), (const int64_t *)shape_.data(), shape_.size(), kFloat, &fed);
    auto started = std::chrono::steady_clock::now();
    Check(kRun, session_, (const OrtRunOptions *)nullptr, (const char *const *)&input_name_,
          (const OrtValue *const *)&fed, (size_t)1, (const char *const *)&output_name_, (size_t)1,
          &got);
    auto ended = std::chrono::steady_clock::now();
    *elapsed_us = std::chrono::duration<double, std::micro>(ended - started).count();
    OrtTensorInfo *info;
    size_t count;
    int type;
    float *data;
    Check(kGetTensorTypeAndShape, (const OrtValue *)got, &info);
    Check(kGetElementCount, (const OrtTensorInfo *)info, &count);
    Check(kGetElementType, (const OrtTensorInfo *)info, &type);
    CallSlot<void>(kReleaseTensorInfo, info);
    if (type != kFloat) throw std::runtime_error("the output is not float32");
    Check(kGetTensorData, got, (void **)&data);
    std::vector<float> scores(data, data + count);
    CallSlot<void>(kReleaseValue, got);
    CallSlot<void>(kReleaseValue, fed);
    return scores;
  }

 private:
  void ReadShape() {
    OrtTypeInfo *type;
    const OrtTensorInfo *tensor;
    size_t rank;
    int element;
    Check(kGetInputTypeInfo, (const OrtSession *)session_, (size_t)0, &type);
    Check(kCastToTensorInfo, (const OrtTypeInfo *)type, &tensor);
    Check(kGetElementType, tensor, &element);
    if (element != kFloat) throw std::runtime_error("the input is not float32");
    Check(kGetDimensionsCount, tensor, &rank);
    shape_.resize(rank);
    Check(kGetDimensions, tensor, shape_.data(), rank);
    for (int64_t &size : shape_) size = std::max<int64_t>(size, 1);
    CallSlot<void>(kReleaseTypeInfo, type);
  }

  OrtEnv *env_ = nullptr;
  OrtSessionOptions *options_ = nullptr;
  OrtSession *session_ = nullptr;
  OrtMemoryInfo *memory_ = nullptr;
  char *input_name_ = nullptr, *output_name_ = nullptr;
  std::vector<int64_t> shape_;
};

std::vector<float> ReadInput(const std::string &path, size_t count) {
  std::vector<float> values(count, 0.0f);
  if (path.empty()) return values;
  std::ifstream stream(path, std::ios::binary | std::ios::ate);
  if (!stream || (size_t)stream.tellg() != count * sizeof(float)) {
    throw std::invalid_argument(path + " does not hold " + std::to_string(count) + " float32");
  }
  stream.seekg(0);
  stream.read(reinterpret_cast<char *>(values.data()), count * sizeof(float));
  return values;
}

void Softmax(std::vector<float> &scores) {
  float highest = *std::max_element(scores.begin(), scores.end()), total = 0;
  for (float &score : scores) total += score = std::exp(score - highest);
  for (float &score : scores) score /= total;
}

void Print(std::vector<float> scores, std::vector<double> times, double load_ms, int top) {
  Softmax(scores);
  std::vector<size_t> order(scores.size());
  std::iota(order.begin(), order.end(), 0);
  size_t shown = std::min<size_t>(top, order.size());
  std::partial_sort(order.begin(), order.begin() + shown, order.end(),
                    [&](size_t a, size_t b) { return scores[a] > scores[b]; });
  std::sort(times.begin(), times.end());
  auto at = [&](double share) { return times[std::min(times.size() - 1, (size_t)(share * times.size()))]; };
  std::printf("{\"load_ms\": %.2f, \"p50_us\": %.1f, \"p95_us\": %.1f, \"p99_us\": %.1f, \"top_k\": [",
              load_ms, at(0.50), at(0.95), at(0.99));
  for (size_t i = 0; i < shown; i++) {
    std::printf("%s{\"class_id\": %zu, \"confidence\": %.6f}", i ? ", " : "", order[i], scores[order[i]]);
  }
  std::puts("]}");
}

}  // namespace

int main(int argc, char **argv) {
  try {
    Options options = ParseArguments(argc, argv);
    auto started = std::chrono::steady_clock::now();
    Model model(options);
    auto loaded = std::chrono::steady_clock::now();
    std::vector<float> input = ReadInput(options.input, model.InputSize()), scores;
    std::vector<double> times(options.runs);
    double warm_up;
    for (int i = 0; i < 5; i++) model.Run(input, &warm_up);
    for (double &time : times) scores = model.Run(input, &time);
    if (scores.empty()) throw std::runtime_error("the output is empty");
    for (float score : scores) {
      if (!std::isfinite(score)) throw std::runtime_error("the output is not finite");
    }
    Print(scores, times, std::chrono::duration<double, std::milli>(loaded - started).count(),
          options.top);
    return 0;
  } catch (const std::invalid_argument &error) {
    std::fprintf(stderr, "edge_infer: %s\n", error.what());
    return 2;
  } catch (const std::exception &error) {
    std::fprintf(stderr, "edge_infer: %s\n", error.what());
    return 3;
  }
}
