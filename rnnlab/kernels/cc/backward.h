// The gradient of a whole sequence: the reverse loop, and in blocks of its steps, while they are
// in cache, the products that give the gradients of inputs and weights.
#pragma once

#include "gates.h"
#include "layout.h"
#include "outer.h"

namespace rnnlab {

template <class T>
struct BackwardArrays {
  Sizes sizes;
  const T *xs, *kernel, *bias, *recurrent_kernel, *gating, *saved, *hs, *cs;
  Starts<T> h, c;
  Keep<T> keep_h, keep_c;
  const T *wanted_hs, *wanted_h, *wanted_c;  // cotangents: of all h, and of the last h and c
  T *dxs;                                    // null where it is not wanted
  T *dkernel, *dbias, *drecurrent_kernel, *dgating;
  T *first_h, *first_c;                      // of the carry that the sequence starts from
  T *initial_h, *initial_c;                  // of the one that resets restart from
};

// Where a part of the work is in the reverse loop.
struct BackwardStep {
  int part, size;
  int64_t index, begin;  // the step, and the first one of its block
  Range rows, units;

  // Of a row in the products of the block.
  int64_t place(int64_t b) const {
    return (index - begin) * (rows.end - rows.begin) + b - rows.begin;
  }
};

// What the loops of all cells share. `Loop`, which derives from it, has `prepare_kernels`, which makes
// room for the recurrent kernels, `pack`, which fills it, `step`, `weights` of a block of steps and
// `finish`.
template <class T, class Cell, class Loop>
class BackwardLoop {
 protected:
  static constexpr int kGates = Cell::kGates;
  using Matrix = Panels<T, 1>;
  using Gradient = OuterProducts<T, kGates>;

 public:
  BackwardLoop(const BackwardArrays<T>& arrays, int wanted)
      : a_(arrays),
        columns_(kGates * a_.sizes.features),
        split_(a_.sizes, (Cell::kRecurrent ? columns_ : 0) * sizeof(T), kLanes<T>, wanted) {}

  int threads() const { return split_.threads(); }

  void prepare(int size) {
    barrier_ = std::make_unique<Barrier>(size);
    block_ = std::clamp<int64_t>(kBlockRows / std::max<int64_t>(a_.sizes.batch, 1), 1,
                                 a_.sizes.length);
    const int64_t inputs = a_.dxs ? a_.sizes.inputs : 0;
    input_ = Matrix(columns_, cuts_in_groups(inputs, kLanes<T>, split_.parts_of_units(size)),
                    split_.height() * block_);
    loop().prepare_kernels(split_.cuts(size));
    du_ = Scratch<T>(block_ * a_.sizes.batch * columns_);
    if (Cell::kSeparate) dz_ = Scratch<T>(block_ * a_.sizes.batch * columns_);
    for (int p = 0; p < split_.parts(size); ++p) {
      const Range rows = split_.rows(p), units = split_.units(p, size);
      const int64_t height = block_ * (rows.end - rows.begin);
      const bool own = p == 0 || !split_.by_rows();  // the first one's is the sum of all
      inputs_.emplace_back(a_.sizes.inputs, a_.sizes.features, height, units,
                           own ? a_.dkernel : nullptr, own ? a_.dbias : nullptr);
      carries_.emplace_back(Cell::kRecurrent ? a_.sizes.features : 0, a_.sizes.features, height,
                            units, own ? a_.drecurrent_kernel : nullptr, nullptr);
    }
  }

  void run(int rank, int size) {
    loop().pack(rank, size);
    if (a_.dxs) input_.pack_transposed(part(input_.count(), rank, size), a_.kernel, columns_);
    barrier_->wait();
    for (int p = rank; p < split_.parts(size); p += size) sequence(p, size);
    barrier_->wait();
    sum(rank, size);
  }

 protected:
  static constexpr int64_t kBlockRows = 192;  // enough to be worth reading the gradients again

  // Waits for the parts that hold other units of the same rows.
  void meet() {
    if (!split_.by_rows()) barrier_->wait();
  }

  void sequence(int p, int size) {
    const Range rows = split_.rows(p), units = split_.units(p, size);
    const Range inputs = split_.by_rows()
                             ? Range{0, a_.sizes.inputs}
                             : part_in_groups(a_.sizes.inputs, kLanes<T>, p, size);
    start(rows, units);
    RowStarts<T> starts(a_.sizes.batch);
    for (int64_t end = a_.sizes.length; end > 0; end -= std::min(end, block_)) {
      const Range steps = {end - std::min(end, block_), end};
      for (int64_t index = end - 1; index >= steps.begin; --index) {
        loop().step({p, size, index, steps.begin, rows, units}, starts);
        if (a_.sizes.reset) restarts(a_.sizes.time(index), rows, units);
      }
      loop().weights(p, steps, rows, units, starts);
      if (a_.dxs) through_inputs(steps, rows, inputs);
      meet();  // the next block overwrites du
    }
  }

  T* row(const Scratch<T>& rows, int64_t step, int64_t b) const {
    return rows + (step * a_.sizes.batch + b) * columns_;
  }

  // first_h and first_c hold what flows back from step to step.
  void start(Range rows, Range units) {
    auto set = [&](T* to, const T* from) {
      if (!to) return;
      for (int64_t b = rows.begin; b < rows.end; ++b) {
        for (int64_t i = b * a_.sizes.features + units.begin;
             i < b * a_.sizes.features + units.end; ++i) {
          to[i] = from ? from[i] : T(0);
        }
      }
    };
    set(a_.first_h, a_.wanted_h);
    set(a_.first_c, a_.wanted_c);
    set(a_.initial_h, nullptr);
    set(a_.initial_c, nullptr);
  }

  void set(RowStarts<T>& starts, int64_t index, Range rows) const {
    const Sizes& sizes = a_.sizes;
    const int64_t last = index ? sizes.time(index - 1) * sizes.carry() : 0;
    starts.set(sizes, sizes.time(index), rows, a_.h, index ? a_.hs + last : nullptr, a_.c,
               index && Cell::kHasCell ? a_.cs + last : nullptr);
  }

  // What the kernels read in a row.
  void set_rows(int p, int64_t place, int64_t t, int64_t b, const RowStarts<T>& starts) {
    carries_[p].set_row(place, starts.h[b]);
    inputs_[p].set_row(place, a_.xs + (t * a_.sizes.batch + b) * a_.sizes.inputs);
  }

  // What is wanted of the new state, and what of that zoneout wants of the old one.
  State<T> wanted(int64_t t, int64_t b, int64_t unit, int64_t valid) const {
    const int64_t here = b * a_.sizes.features + unit;
    State<T> d{load(a_.first_h + here, valid) +
               load(a_.wanted_hs + t * a_.sizes.carry() + here, valid)};
    if (Cell::kHasCell) d.c = load(a_.first_c + here, valid);
    return d;
  }
  State<T> of_next(int64_t t, int64_t b, int64_t unit, int64_t valid, const State<T>& d) const {
    const int64_t at = t * a_.sizes.carry() + b * a_.sizes.features + unit;
    return {a_.keep_h.of_next(at, valid, d.h), a_.keep_c.of_next(at, valid, d.c)};
  }

  // What flows past u to the old state.
  void hand_on(int64_t b, int64_t unit, int64_t valid, const State<T>& d) {
    const int64_t here = b * a_.sizes.features + unit;
    store(a_.first_h + here, d.h, valid);
    if (Cell::kHasCell) store(a_.first_c + here, d.c, valid);
  }

  // What goes through u, which is h times a kernel, back to h.
  void through_carry(const Matrix& kernel, Range rows, Range units, const T* du) {
    const int64_t features = a_.sizes.features;
    kernel.products(rows, units, [&](int64_t b) { return du + b * columns_; },
                    [&](int64_t b, int64_t unit, const Vector<T>* sum) {
                      T* to = a_.first_h + b * features + unit;
                      store(to, load(to, features - unit) + *sum, features - unit);
                    });
  }

  // What goes through z back to the inputs, of a block of steps at once.
  void through_inputs(Range steps, Range rows, Range inputs) {
    const Scratch<T>& dz = Cell::kSeparate ? dz_ : du_;
    const int64_t count = rows.end - rows.begin;
    input_.products({0, (steps.end - steps.begin) * count}, inputs,
                    [&](int64_t r) { return row(dz, r / count, rows.begin + r % count); },
                    [&](int64_t r, int64_t unit, const Vector<T>* sum) {
                      const int64_t t = a_.sizes.time(steps.begin + r / count);
                      const int64_t b = rows.begin + r % count;
                      T* to = a_.dxs + (t * a_.sizes.batch + b) * a_.sizes.inputs + unit;
                      store(to, *sum, a_.sizes.inputs - unit);
                    });
  }

  // Parts of the rows each have a sum of their own, of all weights.
  void sum(int rank, int size) {
    const int parts = split_.parts(size);
    for (int p = 1; p < parts && split_.by_rows(); ++p) {
      inputs_[0].add_part(inputs_[p], rank, size);
      carries_[0].add_part(carries_[p], rank, size);
    }
    barrier_->wait();
    loop().finish(rank, size);
  }

  // A step that started anew hands its part to the initial carry, and nothing to the step before.
  void restarts(int64_t t, Range rows, Range units) {
    auto restart = [&](T* initial, T* first, int64_t b) {
      for (int64_t i = b * a_.sizes.features + units.begin;
           i < b * a_.sizes.features + units.end; ++i) {
        initial[i] += first[i];
        first[i] = 0;
      }
    };
    for (int64_t b = rows.begin; b < rows.end; ++b) {
      if (!a_.sizes.resets(t, b)) continue;
      restart(a_.initial_h, a_.first_h, b);
      if (Cell::kHasCell) restart(a_.initial_c, a_.first_c, b);
    }
  }

  BackwardArrays<T> a_;
  int64_t columns_, block_ = 1;
  Matrix input_;
  Scratch<T> du_, dz_;  // of a block of steps, [step][B, K]
  std::vector<Gradient> inputs_, carries_;  // of each part
  Split split_;
  std::unique_ptr<Barrier> barrier_;

 private:
  Loop& loop() { return static_cast<Loop&>(*this); }
};

// Cells whose gates need one product and nothing of other units.
template <class T, class Cell>
class Backward : public BackwardLoop<T, Cell, Backward<T, Cell>> {
  using Base = BackwardLoop<T, Cell, Backward>;
  friend Base;
  using Base::a_, Base::du_, Base::dz_, Base::inputs_, Base::carries_, Base::kGates, Base::split_;
  using typename Base::Matrix;

 public:
  using Base::Base;

 private:
  void prepare_kernels(const std::vector<int64_t>& cuts) {
    recurrent_ = Matrix(Cell::kRecurrent ? this->columns_ : 0, cuts, split_.height());
  }

  void pack(int rank, int size) {
    recurrent_.pack_transposed(part(recurrent_.count(), rank, size), a_.recurrent_kernel,
                               this->columns_);
  }

  void step(const BackwardStep& at, RowStarts<T>& starts) {
    gates(at, starts);
    // The products, at a block's end those of all its steps, read all of du.
    if (Cell::kRecurrent || at.index == at.begin) this->meet();
    if (Cell::kRecurrent) {
      this->through_carry(recurrent_, at.rows, at.units, this->row(du_, at.index - at.begin, 0));
    }
  }

  void gates(const BackwardStep& at, RowStarts<T>& starts) {
    const Sizes& sizes = a_.sizes;
    const int64_t t = sizes.time(at.index);
    this->set(starts, at.index, at.rows);
    for (int64_t b = at.rows.begin; b < at.rows.end; ++b) {
      const int64_t place = at.place(b);
      T* du_row = this->row(du_, at.index - at.begin, b);
      T* dz_row = Cell::kSeparate ? this->row(dz_, at.index - at.begin, b) : nullptr;
      this->set_rows(at.part, place, t, b, starts);
      for (int64_t unit = at.units.begin; unit < at.units.end; unit += kLanes<T>) {
        const int64_t valid = std::min<int64_t>(kLanes<T>, at.units.end - unit);
        Vector<T> du[kGates] = {}, dz[kGates] = {};
        gate(t, b, unit, valid, starts, du, dz);
        for (int g = 0; g < kGates; ++g) {
          const Vector<T> input = Cell::kSeparate ? dz[g] : du[g];
          store(du_row + g * sizes.features + unit, du[g], valid);
          if (Cell::kSeparate) store(dz_row + g * sizes.features + unit, input, valid);
          inputs_[at.part].set_columns(place, g, unit, input);
          if (Cell::kSeparate) carries_[at.part].set_columns(place, g, unit, du[g]);
        }
      }
    }
  }

  // The gates of one vector of units of one row; a masked row hands on what it was given.
  void gate(int64_t t, int64_t b, int64_t unit, int64_t valid, const RowStarts<T>& starts,
            Vector<T>* du, Vector<T>* dz) {
    if (a_.sizes.masked(t, b)) return;
    const int64_t row = t * a_.sizes.batch + b;
    const State<T> d = this->wanted(t, b, unit, valid);
    State<T> from{load(starts.h[b] + unit, valid)};
    const State<T> to{load(a_.hs + row * a_.sizes.features + unit, valid)};
    if (Cell::kHasCell) from.c = load(starts.c[b] + unit, valid);
    Vector<T> saved[Cell::kSaved + 1];
    for (int s = 0; s < Cell::kSaved; ++s) {
      saved[s] = load(a_.saved + (row * Cell::kSaved + s) * a_.sizes.features + unit, valid);
    }
    const State<T> next = this->of_next(t, b, unit, valid, d);
    const State<T> old = Cell::template backward<T>(from, to, saved, next, du, dz);
    this->hand_on(b, unit, valid, {old.h + (d.h - next.h), old.c + (d.c - next.c)});
  }

  void weights(int p, Range steps, Range rows, Range, const RowStarts<T>&) {
    const int64_t height = (steps.end - steps.begin) * (rows.end - rows.begin);
    inputs_[p].add(height, inputs_[p]);
    inputs_[p].add_to_bias(height);
    carries_[p].add(height, Cell::kSeparate ? carries_[p] : inputs_[p]);
    if (a_.dgating) carries_[p].add_to_bias(height);
  }

  // What is in `gating` is a bias of u, of the last gate alone.
  void finish(int rank, int size) {
    if (!a_.dgating) return;
    for (int p = rank; p < (split_.by_rows() ? 1 : size); p += size) {
      const Range units = split_.units(p, size);
      const T* last = carries_[p].bias(kGates - 1);
      std::copy(last + units.begin, last + units.end, a_.dgating + units.begin);
    }
  }

  Matrix recurrent_;
};

}  // namespace rnnlab
