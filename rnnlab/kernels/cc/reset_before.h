// The loops of a cell with two products a step, the second of what the first one's gates give.
//
// Each product reads what all parts of the units have computed: they meet twice a step.
#pragma once

#include "backward.h"
#include "forward.h"

namespace rnnlab {

template <class T, bool kSave>
class ResetBeforeForward
    : public ForwardLoop<T, ResetBeforeGRU, kSave, ResetBeforeForward<T, kSave>> {
  using Cell = ResetBeforeGRU;
  using Base = ForwardLoop<T, Cell, kSave, ResetBeforeForward>;
  friend Base;
  using Base::a_, Base::split_;

 public:
  ResetBeforeForward(const ForwardArrays<T>& arrays, int wanted)
      : Base(arrays, wanted), kept_(kSave ? 0 : a_.sizes.carry() * Cell::kSaved) {}

 private:
  void prepare_kernels(const std::vector<int64_t>& cuts) {
    first_ = Panels<T, 2>(a_.sizes.features, cuts, split_.height());
    second_ = Panels<T, 1>(a_.sizes.features, cuts, split_.height());
  }

  void pack(int rank, int size) {
    const T* of_n = a_.recurrent_kernel + 2 * a_.sizes.features;
    first_.pack(part(first_.count(), rank, size), a_.recurrent_kernel, this->row_stride());
    second_.pack(part(second_.count(), rank, size), of_n, this->row_stride());
  }

  void step(int64_t index, Range rows, Range units, const T* zs, RowStarts<T>& starts) {
    const int64_t t = a_.sizes.time(index);
    this->set(starts, index, rows);
    auto z = [&](int64_t b, int64_t unit) {
      return zs + Base::z_of(b - rows.begin, units, unit);
    };
    first_.products(rows, units, [&](int64_t b) { return starts.h[b]; },
                    [&](int64_t b, int64_t unit, const Vector<T>* u) {
                      reset(t, b, unit, z(b, unit), u, starts);
                    });
    this->meet();
    second_.products(rows, units, [&](int64_t b) { return kept(t, b, 3); },
                     [&](int64_t b, int64_t unit, const Vector<T>* u) {
                       renew(t, b, unit, z(b, unit), *u, starts);
                     });
  }

  // One function each for tiles of all heights: see Forward.
  __attribute__((noinline)) void reset(int64_t t, int64_t b, int64_t unit, const T* z_memory,
                                       const Vector<T>* u, const RowStarts<T>& starts) {
    const int64_t valid = std::min<int64_t>(kLanes<T>, a_.sizes.features - unit);
    const Vector<T> z[2] = {load(z_memory), load(z_memory + kLanes<T>)};
    Vector<T> saved[Cell::kSaved];
    Cell::reset<T>(load(starts.h[b] + unit, valid), z, u, saved);
    for (int s : {0, 1, 3}) store(kept(t, b, s) + unit, saved[s], valid);
  }

  __attribute__((noinline)) void renew(int64_t t, int64_t b, int64_t unit, const T* z_memory,
                                       const Vector<T>& u, const RowStarts<T>& starts) {
    const int64_t valid = std::min<int64_t>(kLanes<T>, a_.sizes.features - unit);
    const State<T> from{load(starts.h[b] + unit, valid)};
    const Vector<T> update = load(kept(t, b, 1) + unit, valid), z = load(z_memory + 2 * kLanes<T>);
    Vector<T> n;
    const State<T> to = Cell::renew<T>(from.h, update, z, u, n);
    store(kept(t, b, 2) + unit, n, valid);
    this->leave(t, b, unit, valid, from, to, starts);
  }

  // What is saved of a row, or would be: the second product reads the last of it.
  T* kept(int64_t t, int64_t b, int s) const {
    T* of_step = kSave ? a_.saved + t * a_.sizes.carry() * Cell::kSaved : kept_.data();
    return of_step + (b * Cell::kSaved + s) * a_.sizes.features;
  }

  Panels<T, 2> first_;   // of r and z
  Panels<T, 1> second_;  // of n
  Scratch<T> kept_;  // of one step
};

template <class T>
class ResetBeforeBackward : public BackwardLoop<T, ResetBeforeGRU, ResetBeforeBackward<T>> {
  using Cell = ResetBeforeGRU;
  using Base = BackwardLoop<T, Cell, ResetBeforeBackward>;
  friend Base;
  using Base::a_, Base::du_, Base::inputs_, Base::carries_, Base::columns_, Base::split_;
  using typename Base::Matrix;

 public:
  using Base::Base;

 private:
  void prepare_kernels(const std::vector<int64_t>& cuts) {
    first_ = Matrix(2 * a_.sizes.features, cuts, split_.height());
    second_ = Matrix(a_.sizes.features, cuts, split_.height());
  }

  void pack(int rank, int size) {
    const Range panels = part(first_.count(), rank, size);
    first_.pack_transposed(panels, a_.recurrent_kernel, columns_);
    second_.pack_transposed(panels, a_.recurrent_kernel + 2 * a_.sizes.features, columns_);
  }

  void step(const BackwardStep& at, RowStarts<T>& starts) {
    const int64_t t = a_.sizes.time(at.index), features = a_.sizes.features;
    const T* du = this->row(du_, at.index - at.begin, 0);
    this->set(starts, at.index, at.rows);
    for (int64_t b = at.rows.begin; b < at.rows.end; ++b) {
      this->set_rows(at.part, at.place(b), t, b, starts);
      for (int64_t unit = at.units.begin; unit < at.units.end; unit += kLanes<T>) {
        renew(at, t, b, unit, starts);
      }
    }
    this->meet();
    second_.products(at.rows, at.units, [&](int64_t b) { return du + b * columns_ + 2 * features; },
                     [&](int64_t b, int64_t unit, const Vector<T>* sum) {
                       reset(at, t, b, unit, *sum, starts);
                     });
    this->meet();
    this->through_carry(first_, at.rows, at.units, du);
  }

  __attribute__((noinline)) void renew(const BackwardStep& at, int64_t t, int64_t b, int64_t unit,
                                       const RowStarts<T>& starts) {
    const int64_t valid = std::min<int64_t>(kLanes<T>, a_.sizes.features - unit);
    Vector<T> du[3] = {};
    if (!a_.sizes.masked(t, b)) {
      Vector<T> saved[3];
      for (int s : {1, 2}) saved[s] = load(kept(t, b, s) + unit, valid);
      const Vector<T> h = load(starts.h[b] + unit, valid), d = this->wanted(t, b, unit, valid).h;
      this->hand_on(b, unit, valid, State<T>{Cell::renew_backward<T>(h, saved, d, du)});
    }
    for (int g : {1, 2}) set_change(at, b, g, unit, valid, du[g]);
  }

  // `sum` is what is wanted of r * h.
  __attribute__((noinline)) void reset(const BackwardStep& at, int64_t t, int64_t b, int64_t unit,
                                       const Vector<T>& sum, const RowStarts<T>& starts) {
    const int64_t valid = std::min<int64_t>(kLanes<T>, a_.sizes.features - unit);
    Vector<T> du{};
    if (!a_.sizes.masked(t, b)) {
      const Vector<T> h = load(starts.h[b] + unit, valid), r = load(kept(t, b, 0) + unit, valid);
      const Vector<T> past = Cell::reset_backward<T>(h, r, sum, du);
      T* to = a_.first_h + b * a_.sizes.features + unit;
      store(to, load(to, valid) + past, valid);
    }
    set_change(at, b, 0, unit, valid, du);
  }

  void set_change(const BackwardStep& at, int64_t b, int gate, int64_t unit, int64_t valid,
                  Vector<T> du) {
    T* to = this->row(du_, at.index - at.begin, b) + gate * a_.sizes.features + unit;
    store(to, du, valid);
    inputs_[at.part].set_columns(at.place(b), gate, unit, du);
  }

  const T* kept(int64_t t, int64_t b, int s) const {
    return a_.saved + ((t * a_.sizes.batch + b) * Cell::kSaved + s) * a_.sizes.features;
  }

  void weights(int p, Range steps, Range rows, Range, const RowStarts<T>&) {
    const int64_t count = rows.end - rows.begin, height = (steps.end - steps.begin) * count;
    inputs_[p].add(height, inputs_[p]);
    inputs_[p].add_to_bias(height);
    carries_[p].add(height, inputs_[p], {0, 2});
    for (int64_t place = 0; place < height; ++place) {  // n reads r * h
      const int64_t t = a_.sizes.time(steps.begin + place / count);
      carries_[p].set_row(place, kept(t, rows.begin + place % count, 3));
    }
    carries_[p].add(height, inputs_[p], {2, 3});
  }

  void finish(int, int) {}

  Matrix first_, second_;
};

}  // namespace rnnlab
