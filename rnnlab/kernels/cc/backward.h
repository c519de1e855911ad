// The reverse loop of a whole sequence: what each carry is worth to all that comes after it.
#pragma once

#include "gates.h"
#include "layout.h"

namespace rnnlab {

template <class T>
struct BackwardArrays {
  Sizes sizes;
  const T *recurrent_kernel, *saved, *states;  // states: c where the cell has it, else h
  Starts<T> state;
  const T *g_h, *g_c;              // [T, B, H], what is wanted of each carry directly
  T *total_h, *total_c;            // [T, B, H], with what comes back from later steps
  T *first_h, *first_c;            // [B, H], of the carry that the sequence starts from
  T *initial_h, *initial_c;        // [B, H], of the one that resets restart from
};

template <class T, class Cell>
class Backward {
  static constexpr int kGates = Cell::kGates;
  using Matrix = Panels<T, 1, kTileVectors>;

 public:
  explicit Backward(const BackwardArrays<T>& arrays)
      : a_(arrays), transposed_(kGates * a_.sizes.features, a_.sizes.features) {}

  void prepare(int size) {
    split_ = Split(a_.sizes, kGates * sizeof(T), transposed_.count(), size);
    barrier_ = std::make_unique<Barrier>(size);
    // Two, so that a thread may go on to the next step while another still reads this one.
    for (auto& du : du_) du = Scratch<T>(a_.sizes.batch * transposed_.depth());
  }

  void run(int rank, int size) {
    transposed_.pack_transposed(part(transposed_.count(), rank, size), a_.recurrent_kernel);
    const Range rows = split_.rows(rank), panels = split_.panels(rank);
    const Range units = {panels.begin * Matrix::kUnits,
                         std::min(panels.end * Matrix::kUnits, a_.sizes.features)};
    clear(rows, units);
    barrier_->wait();
    for (int64_t index = a_.sizes.length - 1; index >= 0; --index) {
      T* du = du_[index % 2].data();
      gates(index, rows, units, du);
      if (!split_.by_rows()) barrier_->wait();
      products(rows, panels, du);
      if (a_.sizes.reset) restarts(a_.sizes.time(index), rows, units);
    }
  }

 private:
  // first_h and first_c hold what flows back from step to step.
  void clear(Range rows, Range units) {
    for (T* a : {a_.first_h, a_.first_c, a_.initial_h, a_.initial_c}) {
      if (!a) continue;
      for (int64_t b = rows.begin; b < rows.end; ++b) {
        std::fill(a + b * a_.sizes.features + units.begin, a + b * a_.sizes.features + units.end,
                  T(0));
      }
    }
  }

  void gates(int64_t index, Range rows, Range units, T* du) {
    const Sizes& sizes = a_.sizes;
    const int64_t t = sizes.time(index), features = sizes.features;
    const T* last = index ? a_.states + sizes.time(index - 1) * sizes.carry() : nullptr;
    for (int64_t b = rows.begin; b < rows.end; ++b) {
      const T* start = (sizes.resets(t, b) ? a_.state.initial : last ? last : a_.state.first) +
                       b * features;
      const int64_t row = t * sizes.batch + b;
      for (int64_t unit = units.begin; unit < units.end; unit += kLanes<T>) {
        const int64_t valid = std::min<int64_t>(kLanes<T>, units.end - unit);
        const int64_t at = row * features + unit, here = b * features + unit;
        State<T> d{load(a_.g_h + at, valid) + load(a_.first_h + here, valid)};
        store(a_.total_h + at, d.h, valid);
        if (Cell::kHasCell) {
          d.c = load(a_.g_c + at, valid) + load(a_.first_c + here, valid);
          store(a_.total_c + at, d.c, valid);
        }
        Vector<T> change[kGates] = {};
        if (!sizes.masked(t, b)) d = gate(at, row, unit, valid, start, d, change);
        for (int g = 0; g < kGates; ++g) {
          store(du + b * kGates * features + g * features + unit, change[g], valid);
        }
        store(a_.first_h + here, d.h, valid);
        if (Cell::kHasCell) store(a_.first_c + here, d.c, valid);
      }
    }
  }

  State<T> gate(int64_t at, int64_t row, int64_t unit, int64_t valid, const T* start,
                const State<T>& d, Vector<T>* change) {
    const Vector<T> old = load(start + unit, valid), now = load(a_.states + at, valid);
    const State<T> from = Cell::kHasCell ? State<T>{Vector<T>{}, old} : State<T>{old};
    const State<T> to = Cell::kHasCell ? State<T>{Vector<T>{}, now} : State<T>{now};
    Vector<T> saved[Cell::kSaved + 1];
    for (int s = 0; s < Cell::kSaved; ++s) {
      saved[s] = load(a_.saved + (row * Cell::kSaved + s) * a_.sizes.features + unit, valid);
    }
    return Cell::template backward<T>(from, to, saved, d, change);
  }

  // What goes through u back to h.
  void products(Range rows, Range panels, const T* du) {
    for (int64_t p = panels.begin; p < panels.end; ++p) {
      for_tiles(rows, [&](int64_t first, auto height) {
        constexpr int kRows = decltype(height)::value;
        const T* from[kRows];
        for (int r = 0; r < kRows; ++r) from[r] = du + (first + r) * transposed_.depth();
        Vector<T> sums[kRows][kTileVectors] = {};
        multiply<T, kRows, kTileVectors>(from, transposed_.panel(p), transposed_.depth(), sums);
        for (int r = 0; r < kRows; ++r) {
          for (int v = 0; v < kTileVectors; ++v) {
            const int64_t unit = p * Matrix::kUnits + v * kLanes<T>;
            const int64_t valid = std::min<int64_t>(kLanes<T>, a_.sizes.features - unit);
            if (valid <= 0) break;
            T* to = a_.first_h + (first + r) * a_.sizes.features + unit;
            store(to, load(to, valid) + sums[r][v], valid);
          }
        }
      });
    }
  }

  // A step that started anew hands its part to the initial carry, and nothing to the step before.
  void restarts(int64_t t, Range rows, Range units) {
    for (int64_t b = rows.begin; b < rows.end; ++b) {
      if (!a_.sizes.resets(t, b)) continue;
      for (int64_t i = b * a_.sizes.features + units.begin; i < b * a_.sizes.features + units.end;
           ++i) {
        a_.initial_h[i] += a_.first_h[i];
        a_.first_h[i] = 0;
        if (!Cell::kHasCell) continue;
        a_.initial_c[i] += a_.first_c[i];
        a_.first_c[i] = 0;
      }
    }
  }

  BackwardArrays<T> a_;
  Matrix transposed_;
  Scratch<T> du_[2];
  Split split_;
  std::unique_ptr<Barrier> barrier_;
};

}  // namespace rnnlab
