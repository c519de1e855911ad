// A whole sequence forward: inputs projected in blocks of steps that stay in cache, then the loop.
#pragma once

#include "gates.h"
#include "layout.h"

namespace rnnlab {

template <class T>
struct ForwardArrays {
  Sizes sizes;
  const T *xs, *kernel, *bias, *recurrent_kernel, *gating;  // the last may be null
  Starts<T> h, c;
  Keep<T> keep_h, keep_c;
  T *hs, *cs, *saved;  // cs is [T, B, H], or only the last [B, H] where nothing is saved
};

// What the loops of all cells share. `Loop`, which derives from it, has `prepare_kernels`, which makes
// room for the recurrent kernels, `pack`, which fills it, and `step`.
template <class T, class Cell, bool kSave, class Loop>
class ForwardLoop {
 protected:
  static constexpr int kGates = Cell::kGates;
  using Matrix = Panels<T, kGates>;

 public:
  ForwardLoop(const ForwardArrays<T>& arrays, int wanted)
      : a_(arrays),
        split_(a_.sizes, (Cell::kRecurrent ? a_.sizes.features : 0) * kGates * sizeof(T),
               kLanes<T>, wanted) {}

  int threads() const { return split_.threads(); }

  void prepare(int size) {
    barrier_ = std::make_unique<Barrier>(size);
    const std::vector<int64_t> cuts = split_.cuts(size);
    input_ = Matrix(a_.sizes.inputs, cuts, split_.height() * block_steps());
    loop().prepare_kernels(cuts);
  }

  void run(int rank, int size) {
    input_.pack(part(input_.count(), rank, size), a_.kernel, row_stride());
    loop().pack(rank, size);
    barrier_->wait();
    for (int p = rank; p < split_.parts(size); p += size) loop().sequence(p, size);
  }

 protected:
  int64_t row_stride() const { return kGates * a_.sizes.features; }  // of both kernels

  // Waits for the parts that hold other units of the same rows.
  void meet() {
    if (!split_.by_rows()) barrier_->wait();
  }

  // z of a row: for each vector of its units, the gates. And where those of row r lie.
  static int64_t z_row(Range units) {
    return vectors_for<T>(units.end - units.begin) * kLanes<T> * kGates;
  }
  static int64_t z_of(int64_t r, Range units, int64_t unit) {
    return r * z_row(units) + (unit - units.begin) * kGates;
  }

  void sequence(int p, int size) {
    const Range rows = split_.rows(p), units = split_.units(p, size);
    const int64_t count = rows.end - rows.begin, z_step = count * z_row(units);
    const int64_t block = block_steps();
    Scratch<T> zs(block * z_step);
    RowStarts<T> starts(a_.sizes.batch);
    for (int64_t begin = 0; begin < a_.sizes.length; begin += block) {
      const int64_t steps = std::min(block, a_.sizes.length - begin);
      project(begin, steps, rows, units, [&](int64_t r, int64_t unit, const Vector<T>* sums) {
        T* to = zs + z_of(r, units, unit);
        for (int g = 0; g < kGates; ++g) {
          const T* bias = a_.bias + g * a_.sizes.features + unit;
          store(to + g * kLanes<T>, sums[g] + load(bias, a_.sizes.features - unit));
        }
      });
      for (int64_t i = 0; i < steps; ++i) {
        loop().step(begin + i, rows, units, zs + i * z_step, starts);
        if (Cell::kRecurrent) meet();  // the next step reads all of h
      }
    }
  }

  // How many steps wait in cache: for all parts alike. Those that meet at every step and project at
  // different times would wait for one another.
  int64_t block_steps() const {
    const int64_t numbers = a_.sizes.carry() * kGates / threads();
    const int64_t bytes = std::max<int64_t>(numbers * sizeof(T), 1);
    return std::clamp<int64_t>(kCacheBytes / bytes, 1, a_.sizes.length);
  }

  // put(row of the block, unit, sums of its gates) for x W of a block of steps.
  template <class Put>
  void project(int64_t begin, int64_t steps, Range rows, Range units, Put put) const {
    const int64_t count = rows.end - rows.begin;
    auto row = [&](int64_t r) {
      const int64_t t = a_.sizes.time(begin + r / count), b = rows.begin + r % count;
      return a_.xs + (t * a_.sizes.batch + b) * a_.sizes.inputs;
    };
    input_.products({0, steps * count}, units, row, put);
  }

  // What a step leaves: masked rows stay as they were.
  void leave(int64_t t, int64_t b, int64_t unit, int64_t valid, const State<T>& from, State<T> to,
             const RowStarts<T>& starts) {
    const Sizes& sizes = a_.sizes;
    const int64_t row = t * sizes.batch + b, at = row * sizes.features + unit;
    to.h = a_.keep_h.blend(at, valid, from.h, to.h);
    if (Cell::kHasCell) to.c = a_.keep_c.blend(at, valid, from.c, to.c);
    if (sizes.masked(t, b)) {
      to.h = load(starts.held_h[b] + unit, valid);
      if (Cell::kHasCell) to.c = load(starts.held_c[b] + unit, valid);
    }
    store(a_.hs + at, to.h, valid);
    if (Cell::kHasCell) store(a_.cs + (kSave ? row : b) * sizes.features + unit, to.c, valid);
  }

  void set(RowStarts<T>& starts, int64_t index, Range rows) const {
    const Sizes& sizes = a_.sizes;
    const int64_t last = index ? sizes.time(index - 1) * sizes.carry() : 0;
    starts.set(sizes, sizes.time(index), rows, a_.h, index ? a_.hs + last : nullptr, a_.c,
               index && Cell::kHasCell ? a_.cs + (kSave ? last : 0) : nullptr);
  }

  ForwardArrays<T> a_;
  Matrix input_;
  Split split_;
  std::unique_ptr<Barrier> barrier_;

 private:
  Loop& loop() { return static_cast<Loop&>(*this); }
};

// Cells whose gates need one product and nothing of other units.
template <class T, class Cell, bool kSave>
class Forward : public ForwardLoop<T, Cell, kSave, Forward<T, Cell, kSave>> {
  using Base = ForwardLoop<T, Cell, kSave, Forward>;
  friend Base;
  using Base::a_, Base::kGates, Base::split_;
  using typename Base::Matrix;

 public:
  using Base::Base;

 private:
  void prepare_kernels(const std::vector<int64_t>& cuts) {
    recurrent_ = Matrix(Cell::kRecurrent ? a_.sizes.features : 0, cuts, split_.height());
  }

  void pack(int rank, int size) {
    recurrent_.pack(part(recurrent_.count(), rank, size), a_.recurrent_kernel, this->row_stride());
  }

  void step(int64_t index, Range rows, Range units, const T* zs, RowStarts<T>& starts) {
    const int64_t t = a_.sizes.time(index);
    this->set(starts, index, rows);
    recurrent_.products(rows, units, [&](int64_t b) { return starts.h[b]; },
                        [&](int64_t b, int64_t unit, const Vector<T>* u) {
                          const T* z = zs + Base::z_of(b - rows.begin, units, unit);
                          update(t, b, unit, z, u, starts);
                        });
  }

  // The gates of one vector of units of one row. One function for tiles of all heights: compiled
  // into each of them, sums and products might be contracted in other orders.
  __attribute__((noinline)) void update(int64_t t, int64_t b, int64_t unit, const T* z_memory,
                                        const Vector<T>* u, const RowStarts<T>& starts) {
    const Sizes& sizes = a_.sizes;
    const int64_t valid = std::min<int64_t>(kLanes<T>, sizes.features - unit);
    Vector<T> z[kGates], saved[Cell::kSaved + 1], bias{};
    for (int g = 0; g < kGates; ++g) z[g] = load(z_memory + g * kLanes<T>);
    if (a_.gating) bias = load(a_.gating + unit, valid);
    State<T> from{load(starts.h[b] + unit, valid)};
    if (Cell::kHasCell) from.c = load(starts.c[b] + unit, valid);
    this->leave(t, b, unit, valid, from, Cell::template forward<T>(from, z, u, bias, saved), starts);
    if (!kSave) return;
    T* to = a_.saved + (t * sizes.batch + b) * Cell::kSaved * sizes.features + unit;
    for (int s = 0; s < Cell::kSaved; ++s) store(to + s * sizes.features, saved[s], valid);
  }

  Matrix recurrent_;
};

}  // namespace rnnlab
