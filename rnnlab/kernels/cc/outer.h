// Gradients of a kernel: sums over rows of the outer products of what it read and what came of it.
#pragma once

#include <vector>

#include "panels.h"

namespace rnnlab {

// One part of the gradient of a kernel [inputs, Gates * features] and of its bias, added
// up block by block of rows. It holds the columns of its units, panel by panel and gate by gate.
template <class T, int Gates>
class OuterProducts {
  static constexpr int64_t kUnits = kTileVectors * kLanes<T>;
  static constexpr int kHeight = kTileRows<kTileVectors>;

 public:
  // The gradient goes to `kernel` and `bias`, or, where they are null, into memory of its own.
  OuterProducts(int64_t inputs, int64_t features, int64_t height, Range units, T* kernel, T* bias)
      : inputs_(inputs), features_(features), height_(height), units_(units), rows_(height),
        packed_(tiles() * height * kHeight), columns_(blocks() * height * kUnits),
        kernel_(kernel), bias_(bias) {
    if (!kernel) kernel_ = (own_kernel_ = Scratch<T>(inputs * Gates * features)).data();
    if (!bias) bias_ = (own_bias_ = Scratch<T>(Gates * features)).data();
    std::fill(fresh_, fresh_ + Gates, true);
  }

  // What the kernel read in a row: it has to stay where it is until `add`.
  void set_row(int64_t row, const T* from) { rows_[row] = from; }

  void set_columns(int64_t row, int gate, int64_t unit, Vector<T> values) {
    const int64_t panel = (unit - units_.begin) / kUnits, lane = (unit - units_.begin) % kUnits;
    store(columns_ + ((panel * Gates + gate) * height_ + row) * kUnits + lane, values);
  }

  // Adds the products of the first `height` rows with the columns of `other`, of the same shape: those
  // of some gates.
  void add(int64_t height, const OuterProducts& other, Range gates = {0, Gates}) {
    pack(height);
    for_columns(gates, [&](const T* block, int64_t column, int64_t units) {
      const bool fresh = fresh_[column / features_];
      const T* others = other.columns_ + (block - columns_.data());
      with_constant<kTileVectors>(vectors_for<T>(units), [&](auto width) {
        for (int64_t tile = 0; tile < tiles(); ++tile) {
          const T* packed = packed_ + tile * height_ * kHeight;
          const int64_t count = std::min<int64_t>(kHeight, inputs_ - tile * kHeight);
          T* to = kernel_ + tile * kHeight * Gates * features_ + column;
          add_tile<decltype(width)::value>(height, packed, others, to, count, units, fresh);
        }
      });
    });
    for (int64_t gate = gates.begin; gate < gates.end; ++gate) fresh_[gate] = false;
  }

  // Adds the sums of the first `height` rows to the gradient of the bias.
  void add_to_bias(int64_t height) {
    for_columns({0, Gates}, [&](const T* block, int64_t column, int64_t units) {
      for (int64_t i = 0; i < units; i += kLanes<T>) {
        Vector<T> sum{};
        for (int64_t r = 0; r < height; ++r) sum += load(block + r * kUnits + i);
        T* to = bias_ + column + i;
        store(to, fresh_bias_ ? sum : load(to, units - i) + sum, units - i);
      }
    });
    fresh_bias_ = false;
  }

  // Adds what another thread has in memory of its own: part `rank` of `size` of it.
  void add_part(const OuterProducts& other, int rank, int size) {
    const Range rows = part(inputs_, rank, size), columns = part(Gates * features_, rank, size);
    for (int64_t i = rows.begin * Gates * features_; i < rows.end * Gates * features_; ++i) {
      kernel_[i] += other.kernel_[i];
    }
    if (other.fresh_bias_) return;
    for (int64_t i = columns.begin; i < columns.end; ++i) bias_[i] += other.bias_[i];
  }

  const T* bias(int gate) const { return bias_ + gate * features_; }

 private:
  int64_t tiles() const { return (inputs_ + kHeight - 1) / kHeight; }
  int64_t blocks() const { return (units_.end - units_.begin + kUnits - 1) / kUnits * Gates; }

  // use(block of columns, the first one's place in the kernel, how many of them there are)
  template <class Use>
  void for_columns(Range gates, Use use) const {
    for (int64_t block = 0; block < blocks(); ++block) {
      if (block % Gates < gates.begin || block % Gates >= gates.end) continue;
      const int64_t unit = units_.begin + block / Gates * kUnits;
      use(columns_ + block * height_ * kUnits, block % Gates * features_ + unit,
          std::min(kUnits, units_.end - unit));
    }
  }

  // The rows as [tile][row][kHeight], so that a tile reads one stream.
  void pack(int64_t height) {
    const int64_t whole = inputs_ / kHeight, rest = inputs_ % kHeight;
    for (int64_t r = 0; r < height; ++r) {
      const T* from = rows_[r];
      T* to = packed_ + r * kHeight;
      for (int64_t tile = 0; tile < whole; ++tile, from += kHeight, to += height_ * kHeight) {
        std::memcpy(to, from, kHeight * sizeof(T));
      }
      if (!rest) continue;
      std::fill(std::copy(from, from + rest, to), to + kHeight, T(0));
    }
  }

  template <int Width>
  void add_tile(int64_t height, const T* packed, const T* columns, T* to, int64_t count,
                int64_t units, bool fresh) const {
    Vector<T> sum[kHeight][Width] = {};
    for (int64_t r = 0; r < height; ++r, packed += kHeight, columns += kUnits) {
      Vector<T> b[Width];
#pragma GCC unroll 8
      for (int v = 0; v < Width; ++v) b[v] = load(columns + v * kLanes<T>);
#pragma GCC unroll 8
      for (int i = 0; i < kHeight; ++i) {
        const Vector<T> a = fill(packed[i]);
#pragma GCC unroll 8
        for (int v = 0; v < Width; ++v) sum[i][v] += a * b[v];
      }
    }
    for (int64_t i = 0; i < count; ++i, to += Gates * features_) {
      for (int v = 0; v < Width; ++v) {
        T* at = to + v * kLanes<T>;
        const int64_t valid = units - v * kLanes<T>;
        store(at, fresh ? sum[i][v] : load(at, valid) + sum[i][v], valid);
      }
    }
  }

  int64_t inputs_, features_, height_;
  Range units_;
  std::vector<const T*> rows_;
  Scratch<T> packed_, columns_, own_kernel_, own_bias_;
  T *kernel_, *bias_;
  bool fresh_[Gates], fresh_bias_ = true;
};

}  // namespace rnnlab
