// A whole sequence forward: inputs projected in blocks of steps that stay in cache, then the loop.
#pragma once

#include "gates.h"
#include "layout.h"

namespace rnnlab {

template <class T>
struct ForwardArrays {
  Sizes sizes;
  const T *xs, *kernel, *bias, *recurrent_kernel, *recurrent_bias;  // the last may be null
  Starts<T> h, c;
  Keep<T> keep_h, keep_c;
  T *hs, *cs, *saved;  // cs is [T, B, H], or only the last [B, H] where nothing is saved
};

template <class T, class Cell, bool kSave>
class Forward {
  static constexpr int kGates = Cell::kGates;
  static constexpr int kBlocks = kTileVectors / kGates;
  using Matrix = Panels<T, kGates, kBlocks>;
  static constexpr int kVectors = Matrix::kVectors;

 public:
  Forward(const ForwardArrays<T>& arrays, int wanted)
      : a_(arrays),
        input_(a_.sizes.inputs, a_.sizes.features),
        recurrent_(Cell::kRecurrent ? a_.sizes.features : 0, a_.sizes.features),
        split_(a_.sizes, recurrent_.depth() * kGates * sizeof(T), input_.count(), wanted) {}

  int threads() const { return split_.threads(); }

  void prepare(int size) { barrier_ = std::make_unique<Barrier>(size); }

  void run(int rank, int size) {
    const Range packs = part(input_.count(), rank, size);
    input_.pack(packs, a_.kernel);
    recurrent_.pack(packs, a_.recurrent_kernel);
    barrier_->wait();
    for (int p = rank; p < split_.parts(size); p += size) {
      sequence(split_.rows(p), split_.panels(p, size));
    }
  }

 private:
  // z of a row: the vectors of one panel after another, whole ones also where units end.
  static int64_t z_row(Range panels) {
    return (panels.end - panels.begin) * kVectors * kLanes<T>;
  }

  void sequence(Range rows, Range panels) {
    const int64_t step_bytes = (rows.end - rows.begin) * z_row(panels) * sizeof(T);
    const int64_t block = std::clamp<int64_t>(kCacheBytes / std::max<int64_t>(step_bytes, 1), 1,
                                              a_.sizes.length);
    Scratch<T> zs(block * (rows.end - rows.begin) * z_row(panels));
    RowStarts<T> starts(a_.sizes.batch);
    for (int64_t begin = 0; begin < a_.sizes.length; begin += block) {
      const int64_t steps = std::min(block, a_.sizes.length - begin);
      project(begin, steps, rows, panels, zs);
      for (int64_t i = 0; i < steps; ++i) {
        step(begin + i, rows, panels, zs + i * (rows.end - rows.begin) * z_row(panels), starts);
        // The next step reads all of h.
        if (Cell::kRecurrent && !split_.by_rows()) barrier_->wait();
      }
    }
  }

  void project(int64_t begin, int64_t steps, Range rows, Range panels, Scratch<T>& zs) {
    const int64_t count = rows.end - rows.begin;
    for (int64_t p = panels.begin; p < panels.end; ++p) {
      Vector<T> bias[kVectors];
      for_vectors(p, [&](int v, int gate, int64_t unit, int64_t valid) {
        bias[v] = load(a_.bias + gate * a_.sizes.features + unit, valid);
      });
      for_tiles({0, steps * count}, [&](int64_t first, auto height) {
        constexpr int kRows = decltype(height)::value;
        const T* from[kRows];
        Vector<T> sums[kRows][kVectors];
        for (int r = 0; r < kRows; ++r) {
          const int64_t t = a_.sizes.time(begin + (first + r) / count);
          const int64_t b = rows.begin + (first + r) % count;
          from[r] = a_.xs + (t * a_.sizes.batch + b) * a_.sizes.inputs;
          for (int v = 0; v < kVectors; ++v) sums[r][v] = bias[v];
        }
        multiply<T, kRows, kVectors>(from, input_.panel(p), input_.depth(), sums);
        for (int r = 0; r < kRows; ++r) {
          T* to = zs + (first + r) * z_row(panels) + (p - panels.begin) * kVectors * kLanes<T>;
          for (int v = 0; v < kVectors; ++v) store(to + v * kLanes<T>, sums[r][v]);
        }
      });
    }
  }

  void step(int64_t index, Range rows, Range panels, const T* zs, RowStarts<T>& starts) {
    const Sizes& sizes = a_.sizes;
    const int64_t t = sizes.time(index);
    const T* last_h = index ? a_.hs + sizes.time(index - 1) * sizes.carry() : nullptr;
    const T* last_c = index ? (kSave ? a_.cs + sizes.time(index - 1) * sizes.carry() : a_.cs)
                            : nullptr;
    starts.set(sizes, t, rows, a_.h, last_h, a_.c, last_c);
    for (int64_t p = panels.begin; p < panels.end; ++p) {
      for_tiles(rows, [&](int64_t first, auto height) {
        constexpr int kRows = decltype(height)::value;
        Vector<T> us[kRows][kVectors] = {};
        multiply<T, kRows, kVectors>(&starts.h[first], recurrent_.panel(p), recurrent_.depth(), us);
        for (int r = 0; r < kRows; ++r) {
          const int64_t b = first + r;
          const T* z = zs + (b - rows.begin) * z_row(panels) +
                       (p - panels.begin) * kVectors * kLanes<T>;
          for (int block = 0; block < kBlocks; ++block) {
            update(t, b, p * Matrix::kUnits + block * kLanes<T>, z + block * kGates * kLanes<T>,
                   us[r] + block * kGates, starts);
          }
        }
      });
    }
  }

  // The gates of one vector of units of one row. One function for tiles of all heights: compiled
  // into each of them, sums and products might be contracted in other orders.
  __attribute__((noinline)) void update(int64_t t, int64_t b, int64_t unit, const T* z_memory, const Vector<T>* u,
              const RowStarts<T>& starts) {
    const Sizes& sizes = a_.sizes;
    const int64_t valid = std::min<int64_t>(kLanes<T>, sizes.features - unit);
    if (valid <= 0) return;
    Vector<T> z[kGates], saved[kGates + 1], bias{};
    for (int g = 0; g < kGates; ++g) z[g] = load(z_memory + g * kLanes<T>);
    if (a_.recurrent_bias) bias = load(a_.recurrent_bias + unit, valid);
    State<T> from{load(starts.h[b] + unit, valid)};
    if (Cell::kHasCell) from.c = load(starts.c[b] + unit, valid);
    State<T> to = Cell::template forward<T>(from, z, u, bias, saved);
    const int64_t row = t * sizes.batch + b, at = row * sizes.features + unit;
    to.h = a_.keep_h.blend(at, valid, from.h, to.h);
    if (Cell::kHasCell) to.c = a_.keep_c.blend(at, valid, from.c, to.c);
    if (sizes.masked(t, b)) {
      to.h = load(starts.held_h[b] + unit, valid);
      if (Cell::kHasCell) to.c = load(starts.held_c[b] + unit, valid);
    }
    store(a_.hs + at, to.h, valid);
    if (Cell::kHasCell) store(a_.cs + (kSave ? row : b) * sizes.features + unit, to.c, valid);
    if (!kSave) return;
    for (int s = 0; s < Cell::kSaved; ++s) {
      store(a_.saved + (row * Cell::kSaved + s) * sizes.features + unit, saved[s], valid);
    }
  }

  template <class Use>
  void for_vectors(int64_t p, Use use) {
    for (int block = 0; block < kBlocks; ++block) {
      const int64_t unit = p * Matrix::kUnits + block * kLanes<T>;
      for (int gate = 0; gate < kGates; ++gate) {
        const int64_t valid = std::clamp<int64_t>(a_.sizes.features - unit, 0, kLanes<T>);
        use(block * kGates + gate, gate, valid ? unit : 0, valid);
      }
    }
  }

  ForwardArrays<T> a_;
  Matrix input_, recurrent_;
  Split split_;
  std::unique_ptr<Barrier> barrier_;
};

}  // namespace rnnlab
