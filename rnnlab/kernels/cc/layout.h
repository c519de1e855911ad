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

inline int64_t groups_of(int64_t count, int64_t group) { return (count + group - 1) / group; }

// Part `p` of `size` of `count`, in whole groups; and where all of them begin, with the end.
inline Range part_in_groups(int64_t count, int64_t group, int p, int size) {
  const Range here = part(groups_of(count, group), p, size);
  return {here.begin * group, std::min(here.end * group, count)};
}
inline std::vector<int64_t> cuts_in_groups(int64_t count, int64_t group, int size) {
  std::vector<int64_t> cuts = {0};
  for (int p = 0; p < size; ++p) cuts.push_back(part_in_groups(count, group, p, size).end);
  return cuts;
}

// The work in parts. Parts are of the rows, and then never wait for one another, or of the units, and
// then keep their share of the recurrent kernel in a core's cache and meet at every step.
//
// Sums over rows depend on how rows are cut, so there are as many such parts as threads are wanted,
// however many come to work on them: results are the same, bit for bit.
class Split {
 public:
  // unit_bytes: of the recurrent kernel, for each unit. Units are shared out in groups.
  Split(const Sizes& sizes, int64_t unit_bytes, int64_t group, int wanted)
      : batch_(sizes.batch), features_(sizes.features), group_(group), wanted_(wanted) {
    const int64_t kernel_bytes = sizes.features * unit_bytes;
    by_rows_ =
        wanted == 1 || (sizes.batch >= 4 * wanted && kernel_bytes <= kSharedKernelBytes);
    // More threads than groups would only wait for the others.
    if (!by_rows_) wanted_ = static_cast<int>(std::min(int64_t{wanted}, groups_of(features_, group)));
  }

  bool by_rows() const { return by_rows_; }
  int parts(int size) const { return by_rows_ ? wanted_ : size; }
  int threads() const { return wanted_; }
  Range rows(int p) const { return by_rows_ ? part(batch_, p, wanted_) : Range{0, batch_}; }
  Range units(int p, int size) const {
    if (by_rows_) return {0, features_};
    return part_in_groups(features_, group_, p, size);
  }
  // Where parts of the units begin, and the end.
  std::vector<int64_t> cuts(int size) const {
    return cuts_in_groups(features_, group_, parts_of_units(size));
  }
  int parts_of_units(int size) const { return by_rows_ ? 1 : size; }
  // Rows of a part.
  int64_t height() const { return by_rows_ ? (batch_ + wanted_ - 1) / wanted_ : batch_; }

 private:
  static constexpr int64_t kSharedKernelBytes = 512 << 10;

  int64_t batch_, features_, group_;
  int wanted_;
  bool by_rows_;
};

// The carry that a sequence starts from and the one that a reset restarts from, both [B, H].
template <class T>
struct Starts {
  const T *first, *initial;  // both null where the cell has no such state
};

// Zoneout of one state: which elements stay as they were, by marks [T, B, H], or where there are
// none what share of each stays. Plain cells have no marks and the share 0.
template <class T>
struct Keep {
  const bool* marks;
  T share;

  Vector<T> blend(int64_t at, int64_t valid, Vector<T> old, Vector<T> next) const {
    if (marks) return marked(at, valid) ? old : next;
    return share == 0 ? next : share * old + (1 - share) * next;
  }

  // Of the change wanted of the result, what is wanted of the new state; the rest of the old one.
  Vector<T> of_next(int64_t at, int64_t valid, Vector<T> wanted) const {
    if (marks) return marked(at, valid) ? Vector<T>{} : wanted;
    return share == 0 ? wanted : (1 - share) * wanted;
  }

 private:
  typename VectorOf<T>::ints marked(int64_t at, int64_t valid) const {
    typename VectorOf<T>::bytes bytes{};
    std::memcpy(&bytes, marks + at, std::min<int64_t>(valid, kLanes<T>));
    return __builtin_convertvector(bytes, typename VectorOf<T>::ints) != 0;
  }
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
