// Vectors of the widest registers at hand, and the functions of gates on them.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

namespace rnnlab {

#if defined(__AVX512F__)
constexpr int kVectorBytes = 64;
constexpr int kTileSums = 24;  // of 32 registers
#else
constexpr int kVectorBytes = 32;
constexpr int kTileSums = 12;  // of 16 registers
#endif

template <class T>
struct VectorOf;
template <>
struct VectorOf<float> {
  typedef float type __attribute__((vector_size(kVectorBytes)));
  typedef int32_t ints __attribute__((vector_size(kVectorBytes)));
  typedef int8_t bytes __attribute__((vector_size(kVectorBytes / 4)));
};
template <>
struct VectorOf<double> {
  typedef double type __attribute__((vector_size(kVectorBytes)));
  typedef int64_t ints __attribute__((vector_size(kVectorBytes)));
  typedef int8_t bytes __attribute__((vector_size(kVectorBytes / 8)));
};
template <class T>
using Vector = typename VectorOf<T>::type;
template <class T>
constexpr int kLanes = kVectorBytes / sizeof(T);

// How many vectors hold so many numbers.
template <class T>
constexpr int64_t vectors_for(int64_t count) {
  return (count + kLanes<T> - 1) / kLanes<T>;
}

template <class T>
inline Vector<T> fill(T value) {
  return value - Vector<T>{};
}

template <class T>
inline Vector<T> load(const T* from) {
  Vector<T> v;
  std::memcpy(&v, from, sizeof(v));
  return v;
}

template <class T>
inline void store(T* to, Vector<T> v) {
  std::memcpy(to, &v, sizeof(v));
}

// The first `count` lanes, none if it is negative; the others are zero, or stay in memory.
template <class T>
inline Vector<T> load(const T* from, int64_t count) {
  if (count >= kLanes<T>) return load(from);
  Vector<T> v{};
  for (int64_t i = 0; i < count; ++i) v[i] = from[i];
  return v;
}

template <class T>
inline void store(T* to, Vector<T> v, int64_t count) {
  if (count >= kLanes<T>) return store(to, v);
  for (int64_t i = 0; i < count; ++i) to[i] = v[i];
}

// Lane i is lane from[i] of a and b, side by side.
template <class T>
inline Vector<T> shuffle(Vector<T> a, Vector<T> b, typename VectorOf<T>::ints from) {
#if defined(__clang__)
  Vector<T> result{};
  for (int i = 0; i < kLanes<T>; ++i) {
    result[i] = from[i] < kLanes<T> ? a[from[i]] : b[from[i] - kLanes<T>];
  }
  return result;
#else
  return __builtin_shuffle(a, b, from);
#endif
}

// Rows for columns: at each distance, exchanges the quarters off the diagonal.
template <class T>
inline void transpose(Vector<T> (&rows)[kLanes<T>]) {
#pragma GCC unroll 8
  for (int distance = 1; distance < kLanes<T>; distance *= 2) {
    typename VectorOf<T>::ints upper{}, lower{};
    for (int i = 0; i < kLanes<T>; ++i) {
      upper[i] = i & distance ? kLanes<T> + i - distance : i;
      lower[i] = i & distance ? kLanes<T> + i : i + distance;
    }
#pragma GCC unroll 16
    for (int i = 0; i < kLanes<T>; ++i) {
      if (i & distance) continue;
      const Vector<T> a = rows[i], b = rows[i + distance];
      rows[i] = shuffle<T>(a, b, upper);
      rows[i + distance] = shuffle<T>(a, b, lower);
    }
  }
}

// e^x - 1 = scale (e^r - 1) + (scale - 1) with x = n log 2 + r and scale = 2^n: exact near 0.
inline Vector<float> expm1(Vector<float> x) {
  x = x > 88.0f ? fill(88.0f) : x;  // a NaN stays one
  x = x < -87.0f ? fill(-87.0f) : x;
  const float round = 12582912.0f;  // 1.5 * 2^23: adding it leaves no room for a fraction
  const Vector<float> n = (x * 1.44269504f + round) - round;
  const Vector<float> r = (x - n * 0.693359375f) + n * 2.12194440e-4f;  // log 2 in two parts
  Vector<float> p = fill(1.0f / 5040);
  p = p * r + 1.0f / 720;
  p = p * r + 1.0f / 120;
  p = p * r + 1.0f / 24;
  p = p * r + 1.0f / 6;
  p = p * r + 0.5f;
  p = (p * r) * r + r;
  const auto bits = (__builtin_convertvector(n, VectorOf<float>::ints) + 127) << 23;
  const Vector<float> scale = (Vector<float>)bits;
  return p * scale + (scale - 1.0f);
}

inline Vector<float> tanh(Vector<float> x) {
  x = x > 10.0f ? fill(10.0f) : x;
  x = x < -10.0f ? fill(-10.0f) : x;
  const Vector<float> e = expm1(x + x);
  return e / (e + 2.0f);
}

inline Vector<float> sigmoid(Vector<float> x) { return 1.0f / (expm1(-x) + 2.0f); }

// Double precision is for checking the others: accurate, not fast.
inline Vector<double> tanh(Vector<double> x) {
  for (int i = 0; i < kLanes<double>; ++i) x[i] = std::tanh(x[i]);
  return x;
}

inline Vector<double> sigmoid(Vector<double> x) { return 0.5 * tanh(0.5 * x) + 0.5; }

}  // namespace rnnlab
