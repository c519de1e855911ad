// The loops of an LSTM that normalises x W, h U and c: see rnnlab/cells/lstm.py.
//
// A norm needs a whole row. So parts of the units, once they have its products, share out the rows,
// and meet twice a step: where the products are complete, and where the carry is.
#pragma once

#include "backward.h"
#include "forward.h"

namespace rnnlab {

// (a - mean) / sqrt(variance + epsilon)
template <class T>
struct Norm {
  T mean, scale;

  Norm(const T* from, int64_t count) {
    mean = average(from, count, [](auto a) { return a; });
    const T m = mean;
    const T variance = average(from, count, [m](auto a) { return (a - m) * (a - m); });
    scale = 1 / std::sqrt(variance + T(1e-5));
  }

  Vector<T> operator()(Vector<T> a) const { return (a - mean) * scale; }

  // Of what is wanted of the normalised numbers, what is wanted of them as they were: from the
  // averages of the wanted and of its products with the normalised.
  Vector<T> backward(Vector<T> normal, Vector<T> wanted, T average, T product) const {
    return scale * (wanted - average - normal * product);
  }

  static T total(Vector<T> sums) {
    T total = 0;
    for (int i = 0; i < kLanes<T>; ++i) total += sums[i];
    return total;
  }

 private:
  template <class Of>
  static T average(const T* from, int64_t count, Of of) {
    constexpr int kSums = 4;  // at once, since each waits for the one before
    Vector<T> sums[kSums] = {};
    int64_t i = 0;
    for (; i + kSums * kLanes<T> <= count; i += kSums * kLanes<T>) {
      for (int s = 0; s < kSums; ++s) sums[s] += of(load(from + i + s * kLanes<T>));
    }
    for (; i + kLanes<T> <= count; i += kLanes<T>) sums[0] += of(load(from + i));
    T sum = total((sums[0] + sums[1]) + (sums[2] + sums[3]));
    for (; i < count; ++i) sum += of(from[i]);
    return sum / count;
  }
};

// Parameters, or sums of their gradients.
template <class T, class Pointer>
struct LayerNormParams {
  Pointer bias, input, hidden, cell, cell_bias;  // [4H], [4H], [4H], [H], [H]

  LayerNormParams(Pointer bias, Pointer gating, int64_t features)
      : bias(bias), input(gating), hidden(gating + 4 * features), cell(gating + 8 * features),
        cell_bias(gating + 9 * features) {}
};

// The gates i, f, g, o of a vector of units from the products [4][H] of its row.
template <class T>
struct LayerNormGates {
  Vector<T> input[4], hidden[4], gate[4];  // normalised products, gates

  LayerNormGates(const LayerNormParams<T, const T*>& params, const T* z, const Norm<T>& of_z,
                 const T* u, const Norm<T>& of_u, int64_t features, int64_t unit, int64_t valid) {
    for (int g = 0; g < 4; ++g) {
      const int64_t at = g * features + unit;
      input[g] = of_z(load(z + at, valid));
      hidden[g] = of_u(load(u + at, valid));
      const Vector<T> s = input[g] * load(params.input + at, valid) +
                          hidden[g] * load(params.hidden + at, valid) +
                          load(params.bias + at, valid);
      gate[g] = g == 2 ? tanh(s) : sigmoid(s);
    }
  }
};

template <class T, bool kSave>
class LayerNormForward : public ForwardLoop<T, LayerNormLSTM, kSave, LayerNormForward<T, kSave>> {
  using Cell = LayerNormLSTM;
  using Base = ForwardLoop<T, Cell, kSave, LayerNormForward>;
  friend Base;
  using Base::a_, Base::kGates, Base::split_;
  using typename Base::Matrix;

 public:
  LayerNormForward(const ForwardArrays<T>& arrays, int wanted)
      : Base(arrays, wanted),
        params_(a_.bias, a_.gating, a_.sizes.features),
        block_(this->block_steps()),
        kept_(kSave ? 0 : block_ * a_.sizes.carry() * Cell::kSaved) {}

 private:
  void prepare_kernels(const std::vector<int64_t>& cuts) {
    recurrent_ = Matrix(a_.sizes.features, cuts, split_.height());
  }

  void pack(int rank, int size) {
    recurrent_.pack(part(recurrent_.count(), rank, size), a_.recurrent_kernel, this->row_stride());
  }

  void sequence(int p, int size) {
    const Range rows = split_.rows(p), units = split_.units(p, size);
    const Range own = split_.by_rows() ? rows : part(a_.sizes.batch, p, size);
    const int64_t count = rows.end - rows.begin;
    Scratch<T> row(2 * a_.sizes.features);
    RowStarts<T> starts(a_.sizes.batch);
    for (int64_t begin = 0; begin < a_.sizes.length; begin += block_) {
      const int64_t end = std::min(begin + block_, a_.sizes.length);
      this->project(begin, end - begin, rows, units,
                    [&](int64_t r, int64_t unit, const Vector<T>* sums) {
                      keep(kept(begin + r / count, rows.begin + r % count), unit, sums);
                    });
      for (int64_t index = begin; index < end; ++index) {
        this->set(starts, index, rows);
        products(index, rows, units, starts);
        this->meet();
        for (int64_t b = own.begin; b < own.end; ++b) gates(index, b, starts, row.data());
        this->meet();
      }
    }
  }

  void products(int64_t index, Range rows, Range units, const RowStarts<T>& starts) {
    recurrent_.products(rows, units, [&](int64_t b) { return starts.h[b]; },
                        [&](int64_t b, int64_t unit, const Vector<T>* u) {
                          keep(kept(index, b) + kGates * a_.sizes.features, unit, u);
                        });
  }

  void keep(T* to, int64_t unit, const Vector<T>* sums) const {
    const int64_t valid = std::min<int64_t>(kLanes<T>, a_.sizes.features - unit);
    for (int g = 0; g < kGates; ++g) store(to + g * a_.sizes.features + unit, sums[g], valid);
  }

  // x W of a row, and behind it h U: of steps that are not saved, those of one block.
  T* kept(int64_t index, int64_t b) const {
    T* of_step = kSave ? a_.saved + a_.sizes.time(index) * a_.sizes.carry() * Cell::kSaved
                       : kept_ + index % block_ * a_.sizes.carry() * Cell::kSaved;
    return of_step + b * Cell::kSaved * a_.sizes.features;
  }

  // A row, which has room for the new c and o in `row`.
  __attribute__((noinline)) void gates(int64_t index, int64_t b, const RowStarts<T>& starts, T* row) {
    const int64_t features = a_.sizes.features, t = a_.sizes.time(index);
    const T *z = kept(index, b), *u = z + kGates * features;
    const Norm<T> of_z(z, kGates * features), of_u(u, kGates * features);
    T *c = row, *o = row + features;
    for (int64_t unit = 0; unit < features; unit += kLanes<T>) {
      const int64_t valid = std::min<int64_t>(kLanes<T>, features - unit);
      const LayerNormGates<T> at(params_, z, of_z, u, of_u, features, unit, valid);
      const Vector<T> old = load(starts.c[b] + unit, valid);
      store(c + unit, at.gate[1] * old + at.gate[0] * at.gate[2], valid);
      store(o + unit, at.gate[3], valid);
    }
    const Norm<T> of_c(c, features);
    for (int64_t unit = 0; unit < features; unit += kLanes<T>) {
      const int64_t valid = std::min<int64_t>(kLanes<T>, features - unit);
      State<T> to{Vector<T>{}, load(c + unit, valid)};
      to.h = load(o + unit, valid) * tanh(of_c(to.c) * load(params_.cell + unit, valid) +
                                          load(params_.cell_bias + unit, valid));
      const State<T> from{load(starts.h[b] + unit, valid), load(starts.c[b] + unit, valid)};
      this->leave(t, b, unit, valid, from, to, starts);
    }
  }

  LayerNormParams<T, const T*> params_;
  Matrix recurrent_;
  int64_t block_;
  Scratch<T> kept_;
};

template <class T>
class LayerNormBackward : public BackwardLoop<T, LayerNormLSTM, LayerNormBackward<T>> {
  using Cell = LayerNormLSTM;
  using Base = BackwardLoop<T, Cell, LayerNormBackward>;
  friend Base;
  using Base::a_, Base::du_, Base::dz_, Base::inputs_, Base::carries_, Base::kGates, Base::split_;
  using typename Base::Matrix;

 public:
  LayerNormBackward(const BackwardArrays<T>& arrays, int wanted)
      : Base(arrays, wanted),
        params_(a_.bias, a_.gating, a_.sizes.features),
        sums_(this->threads() * params()) {
    std::fill(sums_.data(), sums_ + this->threads() * params(), T(0));
  }

 private:
  int64_t params() const { return 14 * a_.sizes.features; }

  void prepare_kernels(const std::vector<int64_t>& cuts) {
    recurrent_ = Matrix(this->columns_, cuts, split_.height());
  }

  void pack(int rank, int size) {
    recurrent_.pack_transposed(part(recurrent_.count(), rank, size), a_.recurrent_kernel,
                               this->columns_);
  }

  // Rows are cut by the size of the pool alone, for the sums over them.
  void step(const BackwardStep& at, RowStarts<T>& starts) {
    const bool by_rows = split_.by_rows();
    this->meet();  // the row pass reads all of what flows back
    this->set(starts, at.index, at.rows);
    Scratch<T> row(7 * a_.sizes.features);
    for (int p = at.part; p < (by_rows ? at.part + 1 : this->threads()); p += at.size) {
      const Range rows = part(a_.sizes.batch, p, this->threads());
      for (int64_t b = rows.begin; b < rows.end; ++b) {
        gates(at, b, starts, row.data(), sums_ + p * params());
      }
    }
    this->meet();
    this->through_carry(recurrent_, at.rows, at.units, this->row(du_, at.index - at.begin, 0));
  }

  // A row, which has room for gates, c, what is wanted of its norm, and sums in `row`.
  __attribute__((noinline)) void gates(const BackwardStep& step, int64_t b,
                                       const RowStarts<T>& starts, T* row, T* sum_memory) {
    const int64_t features = a_.sizes.features, t = a_.sizes.time(step.index);
    T *du = this->row(du_, step.index - step.begin, b), *dz = this->row(dz_, step.index - step.begin, b);
    if (a_.sizes.masked(t, b)) {
      std::fill(du, du + kGates * features, T(0));
      std::fill(dz, dz + kGates * features, T(0));
      return;
    }
    const LayerNormParams<T, T*> sums(sum_memory, sum_memory + kGates * features, features);
    const T* z = a_.saved + (t * a_.sizes.batch + b) * Cell::kSaved * features;
    const T* u = z + kGates * features;
    const Norm<T> of_z(z, kGates * features), of_u(u, kGates * features);
    T *gate = row, *c = row + 4 * features, *wanted = row + 5 * features, *d_o = row + 6 * features;
    auto for_units = [&](auto use) {
      for (int64_t unit = 0; unit < features; unit += kLanes<T>) {
        use(unit, std::min<int64_t>(kLanes<T>, features - unit));
      }
    };
    auto add = [](T* to, Vector<T> change, int64_t valid) {
      store(to, load(to, valid) + change, valid);
    };
    for_units([&](int64_t unit, int64_t valid) {
      const LayerNormGates<T> at(params_, z, of_z, u, of_u, features, unit, valid);
      for (int g = 0; g < kGates; ++g) store(gate + g * features + unit, at.gate[g], valid);
      store(c + unit, at.gate[1] * load(starts.c[b] + unit, valid) + at.gate[0] * at.gate[2], valid);
    });

    const Norm<T> of_c(c, features);
    Vector<T> total{}, product{};
    for_units([&](int64_t unit, int64_t valid) {
      const Vector<T> o = load(gate + 3 * features + unit, valid);
      const Vector<T> normal = of_c(load(c + unit, valid)), scale = load(params_.cell + unit, valid);
      const Vector<T> out = tanh(normal * scale + load(params_.cell_bias + unit, valid));
      const Vector<T> d = this->of_next(t, b, unit, valid, this->wanted(t, b, unit, valid)).h;
      const Vector<T> dout = d * o * (1 - out * out);
      store(d_o + unit, d * out * o * (1 - o), valid);
      store(wanted + unit, dout * scale, valid);
      total += dout * scale;
      product += dout * scale * normal;
      add(sums.cell + unit, dout * normal, valid);
      add(sums.cell_bias + unit, dout, valid);
    });
    const T mean = Norm<T>::total(total) / features;
    const T mean_product = Norm<T>::total(product) / features;

    Vector<T> total_z{}, product_z{}, total_u{}, product_u{};
    for_units([&](int64_t unit, int64_t valid) {
      const State<T> d = this->wanted(t, b, unit, valid);
      const State<T> next = this->of_next(t, b, unit, valid, d);
      const Vector<T> old = load(starts.c[b] + unit, valid);
      const Vector<T> i = load(gate + unit, valid), f = load(gate + features + unit, valid);
      const Vector<T> g = load(gate + 2 * features + unit, valid);
      const Vector<T> dc = next.c + of_c.backward(of_c(load(c + unit, valid)),
                                                  load(wanted + unit, valid), mean, mean_product);
      const Vector<T> ds[4] = {dc * g * i * (1 - i), dc * old * f * (1 - f), dc * i * (1 - g * g),
                               load(d_o + unit, valid)};
      this->hand_on(b, unit, valid, {d.h - next.h, dc * f + (d.c - next.c)});
      for (int k = 0; k < kGates; ++k) {
        const int64_t at = k * features + unit;
        const Vector<T> of_input = of_z(load(z + at, valid)), of_hidden = of_u(load(u + at, valid));
        const Vector<T> dinput = ds[k] * load(params_.input + at, valid);
        const Vector<T> dhidden = ds[k] * load(params_.hidden + at, valid);
        add(sums.bias + at, ds[k], valid);
        add(sums.input + at, ds[k] * of_input, valid);
        add(sums.hidden + at, ds[k] * of_hidden, valid);
        store(dz + at, dinput, valid);
        store(du + at, dhidden, valid);
        total_z += dinput;
        product_z += dinput * of_input;
        total_u += dhidden;
        product_u += dhidden * of_hidden;
      }
    });
    through_norm(of_z, z, dz, total_z, product_z);
    through_norm(of_u, u, du, total_u, product_u);
  }

  // From what is wanted of normalised products to that of the products.
  void through_norm(const Norm<T>& norm, const T* products, T* d, Vector<T> total,
                    Vector<T> product) const {
    const int64_t count = kGates * a_.sizes.features;
    const T mean = Norm<T>::total(total) / count, mean_product = Norm<T>::total(product) / count;
    for (int64_t i = 0; i < count; i += kLanes<T>) {
      const int64_t valid = std::min<int64_t>(kLanes<T>, count - i);
      const Vector<T> normal = norm(load(products + i, valid));
      store(d + i, norm.backward(normal, load(d + i, valid), mean, mean_product), valid);
    }
  }

  void weights(int p, Range steps, Range rows, Range units, RowStarts<T>& starts) {
    int64_t place = 0;
    for (int64_t index = steps.begin; index < steps.end; ++index) {
      this->set(starts, index, rows);
      for (int64_t b = rows.begin; b < rows.end; ++b, ++place) {
        this->set_rows(p, place, a_.sizes.time(index), b, starts);
        const T *dz = this->row(dz_, index - steps.begin, b), *du = this->row(du_, index - steps.begin, b);
        for (int64_t unit = units.begin; unit < units.end; unit += kLanes<T>) {
          const int64_t valid = std::min<int64_t>(kLanes<T>, units.end - unit);
          for (int g = 0; g < kGates; ++g) {
            const int64_t at = g * a_.sizes.features + unit;
            inputs_[p].set_columns(place, g, unit, load(dz + at, valid));
            carries_[p].set_columns(place, g, unit, load(du + at, valid));
          }
        }
      }
    }
    inputs_[p].add(place, inputs_[p]);
    carries_[p].add(place, carries_[p]);
  }

  void finish(int rank, int size) {
    const Range here = part(params(), rank, size);
    const int64_t biases = kGates * a_.sizes.features;
    for (int64_t i = here.begin; i < here.end; ++i) {
      T sum = 0;
      for (int p = 0; p < this->threads(); ++p) sum += *(sums_ + (p * params() + i));
      (i < biases ? a_.dbias[i] : a_.dgating[i - biases]) = sum;
    }
  }

  LayerNormParams<T, const T*> params_;
  Matrix recurrent_;
  Scratch<T> sums_;  // of each part of the rows: of biases, then of what is in `gating`
};

}  // namespace rnnlab
