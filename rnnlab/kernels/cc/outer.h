// Gradients of a kernel: sums over rows of the outer products of what it read and what came of it.
#pragma once

#include <vector>

#include "panels.h"

namespace rnnlab {

// One part of the gradient of a kernel [inputs, Gates * features] and of its bias, added
// up block by block of rows. It holds its columns, panel by panel as `Panels` lays them out.
template <class T, int Gates>
class OuterProducts {
  static constexpr int64_t kUnits = kTileVectors * kLanes<T>;

 public:
  // The gradient goes to `kernel` and `bias`, or, where they are null, into memory of its own.
  OuterProducts(int64_t inputs, int64_t features, int64_t height, Range panels, T* kernel, T* bias)
      : inputs_(inputs), features_(features), height_(height), panels_(panels), rows_(height),
        packed_(tiles() * height * kTileRows), columns_(blocks() * height * kUnits),
        kernel_(kernel), bias_(bias) {
    if (!kernel) kernel_ = (own_kernel_ = Scratch<T>(inputs * Gates * features)).data();
    if (!bias) bias_ = (own_bias_ = Scratch<T>(Gates * features)).data();
    std::fill(fresh_, fresh_ + Gates, true);
    // No row sets the units that a last panel has too many.
    std::fill(columns_.data(), columns_ + blocks() * height * kUnits, T(0));
  }

  // What the kernel read in a row: it has to stay where it is until `add`.
  void set_row(int64_t row, const T* from) { rows_[row] = from; }

  void set_columns(int64_t row, int gate, int64_t unit, Vector<T> values) {
    T* block = columns_ + ((unit / kUnits - panels_.begin) * Gates + gate) * height_ * kUnits;
    store(block + row * kUnits + unit % kUnits, values);
  }

  // Adds the products of the first `height` rows with the columns of `other`, of the same shape: those
  // of some gates.
  void add(int64_t height, const OuterProducts& other, Range gates = {0, Gates}) {
    pack(height);
    for_columns(gates, [&](const T* block, int64_t column, int64_t units) {
      const bool fresh = fresh_[column / features_];
      for (int64_t tile = 0; tile < tiles(); ++tile) {
        const T* packed = packed_ + tile * height_ * kTileRows;
        const int64_t count = std::min<int64_t>(kTileRows, inputs_ - tile * kTileRows);
        T* to = kernel_ + tile * kTileRows * Gates * features_ + column;
        add_tile(height, packed, other.columns_ + (block - columns_.data()), to, count, units, fresh);
      }
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
  int64_t tiles() const { return (inputs_ + kTileRows - 1) / kTileRows; }
  int64_t blocks() const { return (panels_.end - panels_.begin) * Gates; }

  // use(block of columns, the first one's place in the kernel, how many of them there are)
  template <class Use>
  void for_columns(Range gates, Use use) const {
    for (int64_t block = 0; block < blocks(); ++block) {
      if (block % Gates < gates.begin || block % Gates >= gates.end) continue;
      const int64_t unit = (panels_.begin + block / Gates) * kUnits;
      use(columns_ + block * height_ * kUnits, block % Gates * features_ + unit,
          std::min(kUnits, features_ - unit));
    }
  }

  // The rows as [tile][row][kTileRows], so that a tile reads one stream.
  void pack(int64_t height) {
    const int64_t whole = inputs_ / kTileRows, rest = inputs_ % kTileRows;
    for (int64_t r = 0; r < height; ++r) {
      const T* from = rows_[r];
      T* to = packed_ + r * kTileRows;
      for (int64_t tile = 0; tile < whole; ++tile, from += kTileRows, to += height_ * kTileRows) {
        std::memcpy(to, from, kTileRows * sizeof(T));
      }
      if (!rest) continue;
      std::fill(std::copy(from, from + rest, to), to + kTileRows, T(0));
    }
  }

  void add_tile(int64_t height, const T* packed, const T* columns, T* to, int64_t count,
                int64_t units, bool fresh) const {
    Vector<T> sum[kTileRows][kTileVectors] = {};
    for (int64_t r = 0; r < height; ++r, packed += kTileRows, columns += kUnits) {
      Vector<T> b[kTileVectors];
#pragma GCC unroll 8
      for (int v = 0; v < kTileVectors; ++v) b[v] = load(columns + v * kLanes<T>);
#pragma GCC unroll 8
      for (int i = 0; i < kTileRows; ++i) {
        const Vector<T> a = fill(packed[i]);
#pragma GCC unroll 8
        for (int v = 0; v < kTileVectors; ++v) sum[i][v] += a * b[v];
      }
    }
    for (int64_t i = 0; i < count; ++i, to += Gates * features_) {
      for (int64_t v = 0; v < kTileVectors && v * kLanes<T> < units; ++v) {
        T* at = to + v * kLanes<T>;
        const int64_t valid = units - v * kLanes<T>;
        store(at, fresh ? sum[i][v] : load(at, valid) + sum[i][v], valid);
      }
    }
  }

  int64_t inputs_, features_, height_;
  Range panels_;
  std::vector<const T*> rows_;
  Scratch<T> packed_, columns_, own_kernel_, own_bias_;
  T *kernel_, *bias_;
  bool fresh_[Gates], fresh_bias_ = true;
};

}  // namespace rnnlab
