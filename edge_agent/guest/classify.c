// A classifier in a sandbox: 8-bit image -> resize and normalise -> wasi-nn -> softmax -> top-k.
//
// Freestanding: it imports `wasi_ephemeral_nn` and nothing else. The model is known to it by the name
// "default" alone, so the same module serves every release and also runs on other wasi-nn hosts.
typedef unsigned char u8;
typedef unsigned int u32;
typedef int i32;

#define IMPORT(name) __attribute__((import_module("wasi_ephemeral_nn"), import_name(name)))
#define EXPORT(name) __attribute__((export_name(name)))

typedef struct {
  u32 dimensions, dimension_count;
  u8 type, padding[3];  // some hosts read the type as 32 bits: the padding must be zero
  u32 data, size;
} Tensor;
enum { TYPE_F32 = 1 };

IMPORT("load_by_name") i32 nn_load_by_name(const char *name, u32 length, u32 *graph);
IMPORT("init_execution_context") i32 nn_init_context(u32 graph, u32 *context);
IMPORT("set_input") i32 nn_set_input(u32 context, u32 index, const Tensor *tensor);
IMPORT("compute") i32 nn_compute(u32 context);
IMPORT("get_output") i32 nn_get_output(u32 context, u32 index, void *to, u32 capacity, u32 *size);

extern u8 __heap_base;
static u32 heap_end, context;
static u32 channels, side, classes;
static float *input, *output;
static float mean = 0.0f, deviation = 1.0f;

// Memory is only ever taken, never given back: an instance lives for one model.
EXPORT("edge_alloc") void *edge_alloc(u32 size) {
  if (!heap_end) heap_end = ((u32)&__heap_base + 15) & ~15u;
  u32 start = heap_end, have = (u32)__builtin_wasm_memory_size(0) << 16;
  if (size > 0x7fffffffu - start) return 0;
  u32 end = start + ((size + 15) & ~15u);
  if (end > have && __builtin_wasm_memory_grow(0, (end - have + 65535) >> 16) == (unsigned long)-1)
    return 0;
  heap_end = end;
  return (void *)start;
}

// Returns 0, or a negative number that names the step that failed.
EXPORT("edge_init") i32 edge_init(u32 with_channels, u32 with_side, u32 with_classes) {
  static const char name[] = "default";
  u32 graph;
  if (!with_channels || with_channels > 4 || !with_side || with_side > 4096 || !with_classes ||
      with_classes > 65536)
    return -1;
  if (nn_load_by_name(name, sizeof name - 1, &graph)) return -2;
  if (nn_init_context(graph, &context)) return -3;
  channels = with_channels, side = with_side, classes = with_classes;
  input = edge_alloc(channels * side * side * 4);
  output = edge_alloc(classes * 4);
  return input && output ? 0 : -4;
}

// Pixels become (value / 255 - mean) / deviation.
EXPORT("edge_normalise") void edge_normalise(float with_mean, float with_deviation) {
  mean = with_mean, deviation = with_deviation;
}

// e^x for x <= 0, relative error below 2e-7 (Cephes expf: Cody-Waite reduction, degree 5).
static float exponential(float x) {
  if (x < -87.0f) return 0.0f;
  float k = __builtin_floorf(x * 1.44269504f + 0.5f);
  float r = x - k * 0.693359375f + k * 2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  union { u32 bits; float value; } power = {(u32)((i32)k + 127) << 23};
  return (p * r * r + r + 1.0f) * power.value;
}

static float sample_axis(u32 index, u32 size, u32 *low, u32 *high) {
  float at = ((float)index + 0.5f) * (float)size / (float)side - 0.5f;
  if (at < 0) at = 0;
  *low = (u32)at;
  *high = *low + 1 < size ? *low + 1 : *low;
  return at - (float)*low;
}

static void preprocess(const u8 *image, u32 width, u32 height) {
  float scale = 1.0f / (255.0f * deviation), shift = -mean / deviation;
  for (u32 y = 0; y < side; y++) {
    u32 top, bottom;
    float down = sample_axis(y, height, &top, &bottom);
    for (u32 x = 0; x < side; x++) {
      u32 left, right;
      float across = sample_axis(x, width, &left, &right);
      for (u32 c = 0; c < channels; c++) {
#define PIXEL(row, column) ((float)image[((row) * width + (column)) * channels + c])
        float upper = PIXEL(top, left) + (PIXEL(top, right) - PIXEL(top, left)) * across;
        float lower = PIXEL(bottom, left) + (PIXEL(bottom, right) - PIXEL(bottom, left)) * across;
        input[(c * side + y) * side + x] = (upper + (lower - upper) * down) * scale + shift;
#undef PIXEL
      }
    }
  }
}

typedef struct { u32 class_id; float confidence; } Hit;

// Fills `hits` with the best `count` classes; returns how many, or a negative number.
EXPORT("edge_classify") i32 edge_classify(const u8 *image, u32 width, u32 height, Hit *hits, u32 count) {
  if (!output || !width || !height || width > 8192 || height > 8192) return -1;
  preprocess(image, width, height);
  u32 dimensions[4] = {1, channels, side, side}, size = 0;
  Tensor tensor = {(u32)dimensions, 4, TYPE_F32, {0}, (u32)input, channels * side * side * 4};
  if (nn_set_input(context, 0, &tensor)) return -2;
  if (nn_compute(context)) return -3;
  if (nn_get_output(context, 0, output, classes * 4, &size)) return -4;
  u32 got = size / 4;
  if (!got) return -5;
  float highest = output[0], total = 0;
  for (u32 i = 1; i < got; i++)
    if (output[i] > highest) highest = output[i];
  for (u32 i = 0; i < got; i++) total += output[i] = exponential(output[i] - highest);
  if (count > got) count = got;
  for (u32 n = 0; n < count; n++) {
    u32 best = 0;
    for (u32 i = 1; i < got; i++)
      if (output[i] > output[best]) best = i;
    hits[n].class_id = best;
    hits[n].confidence = output[best] / total;
    output[best] = -1.0f;
  }
  return (i32)count;
}
