// Classifies the rows of an npy file on a board without room for Python.
//
//   edge_infer MODEL --sha256 DIGEST [--input ROWS.npy] [--form scores|binary|values]
//              [--activation softmax|sigmoid|exp|none] [--top K] [--threads N] [--repeat N]
//              [--library FILE]
//
// Form and activation are those of the release's output contract: one score a class, one score of
// class 1, or numbers that are the answer themselves.
//
// The model's bytes are hashed before the runtime sees them, and those same bytes are loaded. It takes
// one float32 input, one row at a time; without --input it is fed one row of zeros. Each row gives one
// line of JSON, and a last line says what it cost. The exit statuses are in failure.h.
#include <chrono>
#include <cmath>
#include <cstdio>
#include <numeric>

#include "runtime.h"
#include "sha256.h"

namespace {

using Clock = std::chrono::steady_clock;
constexpr uint64_t kMaxModelBytes = 2ull << 30;

double MillisecondsSince(Clock::time_point start) {
  return std::chrono::duration<double, std::milli>(Clock::now() - start).count();
}

struct Options {
  std::string model, digest, input, library, activation = "softmax", form = "scores";
  size_t top = 3;
  int threads = 1, repeat = 1;
};

int ParseNumber(const std::string &word, const std::string &text, int highest) {
  int value = 0;
  bool is_number = !text.empty() && text.size() < 9;
  for (char letter : text) {
    is_number = is_number && letter >= '0' && letter <= '9';
    if (is_number) value = value * 10 + (letter - '0');
  }
  if (!is_number || value < 1 || value > highest)
    throw Failure(Status::kUsage,
                  word + ": expected 1 to " + std::to_string(highest) + ", got '" + text + "'");
  return value;
}

Options ParseArguments(int argc, char **argv) {
  Options options;
  for (int i = 1; i < argc; i++) {
    std::string word = argv[i];
    if (word[0] != '-') {
      if (!options.model.empty()) throw Failure(Status::kUsage, "more than one model: " + word);
      options.model = word;
      continue;
    }
    if (i + 1 == argc) throw Failure(Status::kUsage, word + " needs a value");
    std::string value = argv[++i];
    if (word == "--sha256") options.digest = value;
    else if (word == "--input") options.input = value;
    else if (word == "--library") options.library = value;
    else if (word == "--activation") options.activation = value;
    else if (word == "--form") options.form = value;
    else if (word == "--top") options.top = static_cast<size_t>(ParseNumber(word, value, 65536));
    else if (word == "--threads") options.threads = ParseNumber(word, value, 64);
    else if (word == "--repeat") options.repeat = ParseNumber(word, value, 1000000);
    else throw Failure(Status::kUsage, "unknown option " + word);
  }
  if (options.model.empty()) throw Failure(Status::kUsage, "no model given");
  if (options.digest.size() != 64) throw Failure(Status::kUsage, "--sha256 needs 64 hexadecimal digits");
  if (options.activation != "softmax" && options.activation != "sigmoid" &&
      options.activation != "exp" && options.activation != "none")
    throw Failure(Status::kUsage, "--activation: expected softmax, sigmoid, exp or none");
  if (options.form != "scores" && options.form != "binary" && options.form != "values")
    throw Failure(Status::kUsage, "--form: expected scores, binary or values");
  if (options.form == "binary" && options.activation == "softmax")
    throw Failure(Status::kUsage, "--form binary: expected --activation sigmoid, exp or none");
  return options;
}

std::string DescribeShape(const std::vector<int64_t> &shape) {
  std::string text = "[";
  for (size_t i = 0; i < shape.size(); i++) text += (i ? ", " : "") + std::to_string(shape[i]);
  return text + "]";
}

// The rows to classify, as one array whose first dimension counts them.
Array ReadRows(const std::string &path, const std::vector<int64_t> &one) {
  Array rows;
  if (path.empty()) {
    rows.shape = one;
    size_t size = 1;
    for (int64_t length : one) size *= static_cast<size_t>(length);
    rows.values.assign(size, 0.0f);
    return rows;
  }
  rows = npy::Read(path);
  bool fits = rows.shape.size() == one.size() && one[0] == 1 && rows.shape[0] > 0;
  for (size_t i = 1; fits && i < one.size(); i++) fits = rows.shape[i] == one[i];
  if (!fits)
    throw Failure(Status::kInput, path + ": one row of the model is " + DescribeShape(one) +
                                      ", the file has " + DescribeShape(rows.shape));
  return rows;
}

void Activate(std::vector<float> &scores, const std::string &activation) {
  for (float score : scores)
    if (!std::isfinite(score)) throw Failure(Status::kOutput, "the scores are not finite");
  if (activation == "softmax") {
    float highest = *std::max_element(scores.begin(), scores.end()), total = 0;
    for (float &score : scores) total += score = std::exp(score - highest);
    for (float &score : scores) score /= total;
  } else if (activation == "sigmoid") {
    for (float &score : scores) score = 1.0f / (1.0f + std::exp(-score));
  } else if (activation == "exp") {
    for (float &score : scores) score = std::exp(std::min(score, 0.0f));
  }
}

void PrintValues(size_t index, const std::vector<float> &values, double latency_us) {
  for (float value : values)
    if (!std::isfinite(value)) throw Failure(Status::kOutput, "the values are not finite");
  std::printf("{\"index\": %zu, \"values\": [", index);
  for (size_t i = 0; i < values.size(); i++)
    std::printf("%s%.9g", i ? ", " : "", static_cast<double>(values[i]));
  std::printf("], \"latency_us\": %.1f}\n", latency_us);
}

// The probabilities of both classes out of the score of class 1.
std::vector<float> ReadBinary(std::vector<float> scores, const std::string &activation) {
  if (scores.size() != 1)
    throw Failure(Status::kModel, "--form binary: expected one score a row, the model has " +
                                      std::to_string(scores.size()));
  Activate(scores, activation);
  return {1.0f - scores[0], scores[0]};
}

void PrintRow(size_t index, std::vector<float> scores, const Options &options, double latency_us) {
  if (options.form == "values") return PrintValues(index, scores, latency_us);
  bool is_binary = options.form == "binary";
  if (is_binary) scores = ReadBinary(std::move(scores), options.activation);
  if (scores.size() == 1)
    throw Failure(Status::kModel,
                  "one score a row is no score per class: say --form binary or --form values");
  // Ordered before the activation, which may round two scores to one confidence.
  std::vector<size_t> order(scores.size());
  std::iota(order.begin(), order.end(), size_t{0});
  size_t shown = std::min(options.top, order.size());
  for (float score : scores)
    if (!std::isfinite(score)) throw Failure(Status::kOutput, "the scores are not finite");
  std::partial_sort(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(shown), order.end(),
                    [&](size_t a, size_t b) {
                      if (scores[a] != scores[b]) return scores[a] > scores[b];
                      return is_binary ? a > b : a < b;  // a half is class 1
                    });
  if (!is_binary) Activate(scores, options.activation);
  std::printf("{\"index\": %zu, \"top_k\": [", index);
  for (size_t i = 0; i < shown; i++)
    std::printf("%s{\"class_id\": %zu, \"confidence\": %.6f}", i ? ", " : "", order[i],
                static_cast<double>(scores[order[i]]));
  std::printf("], \"latency_us\": %.1f}\n", latency_us);
}

long ReadPeakKb() {
  long peak = 0;
  char line[128];
  if (FILE *status = std::fopen("/proc/self/status", "re")) {
    while (std::fgets(line, sizeof line, status))
      if (std::sscanf(line, "VmHWM: %ld", &peak) == 1) break;
    std::fclose(status);
  }
  return peak;
}

void Classify(const Options &options, Clock::time_point started) {
  std::vector<uint8_t> bytes = ReadFile(options.model, kMaxModelBytes, Status::kModel);
  std::string digest = Sha256::Hex(bytes.data(), bytes.size());
  if (digest != options.digest)
    throw Failure(Status::kModel, options.model + ": expected SHA-256 " + options.digest + ", got " + digest);
  Runtime runtime(options.library);
  Model model(runtime, bytes, options.threads);
  std::vector<uint8_t>().swap(bytes);
  double load_ms = MillisecondsSince(started), first_ms = 0;
  Array rows = ReadRows(options.input, model.shape());
  size_t count = static_cast<size_t>(rows.shape[0]), size = rows.values.size() / count;
  std::vector<double> times;
  for (int round = 0; round < options.repeat; round++) {
    for (size_t i = 0; i < count; i++) {
      Clock::time_point before = Clock::now();
      std::vector<float> scores = model.Run(rows.values.data() + i * size, size);
      times.push_back(MillisecondsSince(before) * 1e3);
      if (round) continue;
      PrintRow(i, scores, options, times.back());
      if (i) continue;
      first_ms = MillisecondsSince(started);
      std::fflush(stdout);  // whoever waits for the first answer has it now
    }
  }
  std::sort(times.begin(), times.end());
  auto at = [&](double share) {
    return times[static_cast<size_t>(share * static_cast<double>(times.size() - 1))];
  };
  std::printf("{\"rows\": %zu, \"runtime\": \"%s\", \"load_ms\": %.2f, \"first_inference_ms\": %.2f, "
              "\"p50_us\": %.1f, \"p95_us\": %.1f, \"p99_us\": %.1f, \"peak_rss_kb\": %ld}\n",
              count, runtime.version().c_str(), load_ms, first_ms, at(0.50), at(0.95), at(0.99),
              ReadPeakKb());
}

}  // namespace

int main(int argc, char **argv) {
  Clock::time_point started = Clock::now();
  try {
    Classify(ParseArguments(argc, argv), started);
    return static_cast<int>(Status::kDone);
  } catch (const Failure &failure) {
    std::fprintf(stderr, "edge_infer: %s\n", failure.what());
    return static_cast<int>(failure.status);
  } catch (const std::bad_alloc &) {
    std::fprintf(stderr, "edge_infer: out of memory\n");
    return static_cast<int>(Status::kInput);
  }
}
