// What both directions share: sizes, marks, who does what, and what each step starts from.
#pragma once

#include <vector>

#include "panels.h"

namespace rnnlab {

constexpr int64_t kCacheBytes = 384 << 10;  // of projected inputs that wait in a core's cache

struct Sizes {
  int64_t length, batch, inputs, features;
  bool reverse;
  const bool *mask, *reset;  // [T, B], or null

  int64_t time(int64_t step) const { return reverse ? length - 1 - step : step; }
  int64_t carry() const { return batch * features; }
  bool masked(int64_t t, int64_t b) const { return mask && !mask[t * batch + b]; }
  bool resets(int64_t t, int64_t b) const { return reset && reset[t * batch + b]; }
};

// Threads share rows, and then never wait for one another, or units, and then keep their part of
// the recurrent kernel in their cache and meet at every step.
class Split {
 public:
  Split() = default;
  Split(const Sizes& sizes, int64_t bytes_a_weight, int64_t panels, int size)
      : batch_(sizes.batch), panels_(panels), size_(size) {
    const int64_t kernel_bytes = sizes.features * sizes.features * bytes_a_weight;
    by_rows_ = size == 1 || (sizes.batch >= 4 * size && kernel_bytes <= kSharedKernelBytes);
  }

  bool by_rows() const { return by_rows_; }
  Range rows(int rank) const { return by_rows_ ? part(batch_, rank, size_) : Range{0, batch_}; }
  Range panels(int rank) const { return by_rows_ ? Range{0, panels_} : part(panels_, rank, size_); }

 private:
  static constexpr int64_t kSharedKernelBytes = 512 << 10;
  int64_t batch_ = 0, panels_ = 0;
  int size_ = 1;
  bool by_rows_ = true;
};

// The carry that a sequence starts from and the one that a reset restarts from, both [B, H].
template <class T>
struct Starts {
  const T *first, *initial;  // both null where the cell has no such state
};

// For each row, what a step computes from and, should it be masked, what it leaves.
template <class T>
struct RowStarts {
  explicit RowStarts(int64_t batch) : h(batch), c(batch), held_h(batch), held_c(batch) {}

  void set(const Sizes& sizes, int64_t t, Range rows, const Starts<T>& h_starts, const T* last_h,
           const Starts<T>& c_starts, const T* last_c) {
    for (int64_t b = rows.begin; b < rows.end; ++b) {
      const int64_t row = b * sizes.features;
      const bool reset = sizes.resets(t, b), masked = sizes.masked(t, b);
      auto choose = [&](const Starts<T>& starts, const T* last, const T*& held, const T*& start) {
        held = (reset ? starts.initial : last ? last : starts.first) + row;
        start = masked ? starts.initial + row : held;
      };
      choose(h_starts, last_h, held_h[b], h[b]);
      if (c_starts.first) choose(c_starts, last_c, held_c[b], c[b]);
    }
  }

  std::vector<const T*> h, c, held_h, held_c;
};

}  // namespace rnnlab
