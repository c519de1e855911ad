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
  const T *xs, *kernel, *recurrent_kernel, *saved, *hs, *cs;
  Starts<T> h, c;
  Keep<T> keep_h, keep_c;
  const T *wanted_hs, *wanted_h, *wanted_c;  // cotangents: of all h, and of the last h and c
  T *dxs;                                    // null where it is not wanted
  T *dkernel, *dbias, *drecurrent_kernel, *drecurrent_bias;
  T *first_h, *first_c;                      // of the carry that the sequence starts from
  T *initial_h, *initial_c;                  // of the one that resets restart from
};

template <class T, class Cell>
class Backward {
  static constexpr int kGates = Cell::kGates;
  using Matrix = Panels<T, 1, kTileVectors>;
  static constexpr int64_t kUnits = Matrix::kUnits;
  using Gradient = OuterProducts<T, kGates>;

 public:
  Backward(const BackwardArrays<T>& arrays, int wanted)
      : a_(arrays),
        columns_(kGates * a_.sizes.features),
        recurrent_(Cell::kRecurrent ? columns_ : 0, a_.sizes.features),
        input_(a_.dxs ? columns_ : 0, a_.dxs ? a_.sizes.inputs : 0),
        split_(a_.sizes, recurrent_.depth() * sizeof(T), recurrent_.count(), wanted) {}

  int threads() const { return split_.threads(); }

  void prepare(int size) {
    barrier_ = std::make_unique<Barrier>(size);
    block_ = std::clamp<int64_t>(kBlockRows / std::max<int64_t>(a_.sizes.batch, 1), 1,
                                 a_.sizes.length);
    du_ = Scratch<T>(block_ * a_.sizes.batch * columns_);
    if (Cell::kSeparate) dz_ = Scratch<T>(block_ * a_.sizes.batch * columns_);
    for (int p = 0; p < split_.parts(size); ++p) {
      const Range rows = split_.rows(p), panels = split_.panels(p, size);
      const int64_t height = block_ * (rows.end - rows.begin);
      const bool own = p == 0 || !split_.by_rows();  // the first one's is the sum of all
      inputs_.emplace_back(a_.sizes.inputs, a_.sizes.features, height, panels,
                           own ? a_.dkernel : nullptr, own ? a_.dbias : nullptr);
      carries_.emplace_back(Cell::kRecurrent ? a_.sizes.features : 0, a_.sizes.features, height,
                            panels, own ? a_.drecurrent_kernel : nullptr, nullptr);
    }
  }

  void run(int rank, int size) {
    recurrent_.pack_transposed(part(recurrent_.count(), rank, size), a_.recurrent_kernel);
    if (a_.dxs) input_.pack_transposed(part(input_.count(), rank, size), a_.kernel);
    barrier_->wait();
    for (int p = rank; p < split_.parts(size); p += size) sequence(p, size);
    barrier_->wait();
    sum(rank, size);
  }

 private:
  static constexpr int64_t kBlockRows = 192;  // enough to be worth reading the gradients again

  void sequence(int p, int size) {
    const Range rows = split_.rows(p), panels = split_.panels(p, size);
    const Range units = {panels.begin * kUnits, std::min(panels.end * kUnits, a_.sizes.features)};
    const Range inputs = split_.by_rows() ? Range{0, input_.count()} : part(input_.count(), p, size);
    start(rows, units);
    RowStarts<T> starts(a_.sizes.batch);
    for (int64_t end = a_.sizes.length; end > 0; end -= std::min(end, block_)) {
      const int64_t begin = end - std::min(end, block_);
      for (int64_t index = end - 1; index >= begin; --index) {
        gates(p, index, begin, rows, units, starts);
        const bool last = index == begin;  // of the block, whose products follow
        // The products read all of du.
        if ((Cell::kRecurrent || last) && !split_.by_rows()) barrier_->wait();
        if (Cell::kRecurrent) through_carry(rows, panels, row(du_, index - begin, 0));
        if (a_.sizes.reset) restarts(a_.sizes.time(index), rows, units);
      }
      weights(p, (end - begin) * (rows.end - rows.begin));
      if (a_.dxs) through_inputs(begin, end, rows, inputs);
      if (!split_.by_rows()) barrier_->wait();  // the next block overwrites du
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

  void gates(int p, int64_t index, int64_t begin, Range rows, Range units,
             RowStarts<T>& starts) {
    const Sizes& sizes = a_.sizes;
    const int64_t t = sizes.time(index);
    const int64_t last = index ? sizes.time(index - 1) * sizes.carry() : 0;
    starts.set(sizes, t, rows, a_.h, index ? a_.hs + last : nullptr, a_.c,
               index && Cell::kHasCell ? a_.cs + last : nullptr);
    for (int64_t b = rows.begin; b < rows.end; ++b) {
      const int64_t place = (index - begin) * (rows.end - rows.begin) + b - rows.begin;
      T* du_row = row(du_, index - begin, b);
      T* dz_row = Cell::kSeparate ? row(dz_, index - begin, b) : nullptr;
      carries_[p].set_row(place, starts.h[b]);
      inputs_[p].set_row(place, a_.xs + (t * sizes.batch + b) * sizes.inputs);
      for (int64_t unit = units.begin; unit < units.end; unit += kLanes<T>) {
        const int64_t valid = std::min<int64_t>(kLanes<T>, units.end - unit);
        Vector<T> du[kGates] = {}, dz[kGates] = {};
        gate(t, b, unit, valid, starts, du, dz);
        for (int g = 0; g < kGates; ++g) {
          const Vector<T> input = Cell::kSeparate ? dz[g] : du[g];
          store(du_row + g * sizes.features + unit, du[g], valid);
          if (Cell::kSeparate) store(dz_row + g * sizes.features + unit, input, valid);
          inputs_[p].set_columns(place, g, unit, input);
          if (Cell::kSeparate) carries_[p].set_columns(place, g, unit, du[g]);
        }
      }
    }
  }

  // The gates of one vector of units of one row; a masked row hands on what it was given.
  void gate(int64_t t, int64_t b, int64_t unit, int64_t valid, const RowStarts<T>& starts,
            Vector<T>* du, Vector<T>* dz) {
    const int64_t here = b * a_.sizes.features + unit;
    const int64_t row = t * a_.sizes.batch + b, at = row * a_.sizes.features + unit;
    if (a_.sizes.masked(t, b)) return;
    State<T> d{load(a_.first_h + here, valid) + load(a_.wanted_hs + at, valid)};
    State<T> from{load(starts.h[b] + unit, valid)};
    const State<T> to{load(a_.hs + at, valid)};
    if (Cell::kHasCell) {
      d.c = load(a_.first_c + here, valid);
      from.c = load(starts.c[b] + unit, valid);
    }
    Vector<T> saved[Cell::kSaved + 1];
    for (int s = 0; s < Cell::kSaved; ++s) {
      saved[s] = load(a_.saved + (row * Cell::kSaved + s) * a_.sizes.features + unit, valid);
    }
    const State<T> next{a_.keep_h.of_next(at, valid, d.h), a_.keep_c.of_next(at, valid, d.c)};
    const State<T> old = Cell::template backward<T>(from, to, saved, next, du, dz);
    store(a_.first_h + here, old.h + (d.h - next.h), valid);
    if (Cell::kHasCell) store(a_.first_c + here, old.c + (d.c - next.c), valid);
  }

  // What goes through u back to h.
  void through_carry(Range rows, Range panels, const T* du) {
    const int64_t features = a_.sizes.features;
    for_products(recurrent_, rows, panels, du, [&](int64_t b, int64_t unit, auto sum, int64_t n) {
      T* to = a_.first_h + b * features + unit;
      store(to, load(to, n) + sum, n);
    });
  }

  // What goes through z back to the inputs.
  void through_inputs(int64_t begin, int64_t end, Range rows, Range panels) {
    const Scratch<T>& dz = Cell::kSeparate ? dz_ : du_;
    for (int64_t index = begin; index < end; ++index) {
      T* to = a_.dxs + a_.sizes.time(index) * a_.sizes.batch * a_.sizes.inputs;
      for_products(input_, rows, panels, row(dz, index - begin, 0),
                   [&](int64_t b, int64_t unit, auto sum, int64_t n) {
                     store(to + b * a_.sizes.inputs + unit, sum, n);
                   });
    }
  }

  // use(row, unit, sums, how many of them) for each vector of rows of `from` times a matrix.
  template <class Use>
  void for_products(const Matrix& matrix, Range rows, Range panels, const T* from, Use use) {
    for (int64_t p = panels.begin; p < panels.end; ++p) {
      for_tiles(rows, [&](int64_t first, auto height) {
        constexpr int kRows = decltype(height)::value;
        const T* row[kRows];
        for (int r = 0; r < kRows; ++r) row[r] = from + (first + r) * matrix.depth();
        Vector<T> sums[kRows][kTileVectors] = {};
        multiply<T, kRows, kTileVectors>(row, matrix.panel(p), matrix.depth(), sums);
        for (int r = 0; r < kRows; ++r) {
          for (int v = 0; v < kTileVectors; ++v) {
            const int64_t unit = p * kUnits + v * kLanes<T>;
            const int64_t valid = std::min<int64_t>(kLanes<T>, matrix.features() - unit);
            if (valid > 0) use(first + r, unit, sums[r][v], valid);
          }
        }
      });
    }
  }

  void weights(int p, int64_t height) {
    inputs_[p].add(height, inputs_[p]);
    inputs_[p].add_to_bias(height);
    carries_[p].add(height, Cell::kSeparate ? carries_[p] : inputs_[p]);
    if (a_.drecurrent_bias) carries_[p].add_to_bias(height);
  }

  // Parts of the rows each have a sum of their own, of all weights.
  void sum(int rank, int size) {
    const int parts = split_.parts(size);
    for (int p = 1; p < parts && split_.by_rows(); ++p) {
      inputs_[0].add_part(inputs_[p], rank, size);
      carries_[0].add_part(carries_[p], rank, size);
    }
    if (!a_.drecurrent_bias) return;
    barrier_->wait();
    for (int p = rank; p < (split_.by_rows() ? 1 : parts); p += size) {
      const Range panels = split_.panels(p, size);
      const int64_t end = std::min(panels.end * kUnits, a_.sizes.features);
      const T* last = carries_[p].bias(kGates - 1);  // no other gate has one
      std::copy(last + panels.begin * kUnits, last + end, a_.drecurrent_bias + panels.begin * kUnits);
    }
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
  Matrix recurrent_, input_;
  Scratch<T> du_, dz_;  // of a block of steps, [step][B, K]
  std::vector<Gradient> inputs_, carries_;  // of each part
  Split split_;
  std::unique_ptr<Barrier> barrier_;
};

}  // namespace rnnlab
