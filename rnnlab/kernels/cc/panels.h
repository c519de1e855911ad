// Matrix products by tiles: a few rows times one panel of a matrix.
#pragma once

#include <type_traits>

#include "memory.h"
#include "simd.h"
#include "team.h"

namespace rnnlab {

// A matrix [depth, gates * features] whose columns are laid out panel by panel. A panel has Blocks
// blocks of kLanes units, for each unit its Gates columns, and lies [depth][Blocks][Gates][lane].
template <class T, int Gates, int Blocks>
class Panels {
 public:
  static constexpr int kVectors = Gates * Blocks;
  static constexpr int64_t kUnits = Blocks * kLanes<T>;

  Panels(int64_t depth, int64_t features)
      : depth_(depth), features_(features), data_(count() * depth * kVectors * kLanes<T>) {}

  int64_t count() const { return (features_ + kUnits - 1) / kUnits; }
  int64_t depth() const { return depth_; }
  int64_t features() const { return features_; }
  const T* panel(int64_t p) const { return data_ + p * depth_ * kVectors * kLanes<T>; }

  // Those that hold units, of which the first is the first of a panel.
  static Range of(Range units) { return {units.begin / kUnits, (units.end + kUnits - 1) / kUnits}; }

  // From a matrix [depth, Gates * features], or so many columns of one whose rows are `stride` long.
  // Columns of units that are not there are zero.
  void pack(Range panels, const T* matrix, int64_t stride) {
    constexpr int64_t kRowsTogether = 16;  // few enough for the page table's cache
    for (int64_t begin = 0; begin < depth_; begin += kRowsTogether) {
      const int64_t end = std::min(begin + kRowsTogether, depth_);
      for (int64_t p = panels.begin; p < panels.end; ++p) {
        for (int64_t k = begin; k < end; ++k) {
          const T* row = matrix + k * stride;
          T* to = data_ + (p * depth_ + k) * kVectors * kLanes<T>;
          for (int64_t block = 0; block < Blocks; ++block) {
            const int64_t unit = p * kUnits + block * kLanes<T>;
            for (int64_t gate = 0; gate < Gates; ++gate, to += kLanes<T>) {
              store(to, load(row + gate * features_ + unit, features_ - unit));
            }
          }
        }
      }
    }
  }

  // The same from the transposed matrix [features, depth], where there is one gate.
  void pack_transposed(Range panels, const T* matrix, int64_t stride) {
    static_assert(Gates == 1);
    for (int64_t p = panels.begin; p < panels.end; ++p) {
      for (int64_t begin = 0; begin < depth_; begin += kLanes<T>) {
        const int64_t count = std::min<int64_t>(kLanes<T>, depth_ - begin);
        for (int64_t block = 0; block < Blocks; ++block) {
          const int64_t unit = p * kUnits + block * kLanes<T>;
          Vector<T> square[kLanes<T>];
          for (int64_t i = 0; i < kLanes<T>; ++i) {
            const bool there = unit + i < features_;
            square[i] = there ? load(matrix + (unit + i) * stride + begin, count) : Vector<T>{};
          }
          transpose<T>(square);
          for (int64_t k = 0; k < count; ++k) {
            store(data_ + ((p * depth_ + begin + k) * kVectors + block) * kLanes<T>, square[k]);
          }
        }
      }
    }
  }

 private:
  int64_t depth_, features_;
  Scratch<T> data_;
};

// sums[r][v] += rows[r][0 .. depth] times vector v of the panel.
template <class T, int Rows, int Vectors>
inline __attribute__((always_inline)) void multiply(const T* const* rows, const T* panel,
                                                    int64_t depth,
                                                    Vector<T> (&sums)[Rows][Vectors]) {
  const T* row[Rows];
#pragma GCC unroll 8
  for (int r = 0; r < Rows; ++r) row[r] = rows[r];
  Vector<T> sum[Rows][Vectors];
#pragma GCC unroll 8
  for (int r = 0; r < Rows; ++r) {
#pragma GCC unroll 8
    for (int v = 0; v < Vectors; ++v) sum[r][v] = sums[r][v];
  }
  for (int64_t k = 0; k < depth; ++k, panel += Vectors * kLanes<T>) {
    Vector<T> b[Vectors];
#pragma GCC unroll 8
    for (int v = 0; v < Vectors; ++v) b[v] = load(panel + v * kLanes<T>);
#pragma GCC unroll 8
    for (int r = 0; r < Rows; ++r) {
      const Vector<T> a = fill(row[r][k]);
#pragma GCC unroll 8
      for (int v = 0; v < Vectors; ++v) sum[r][v] += a * b[v];
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < Rows; ++r) {
#pragma GCC unroll 8
    for (int v = 0; v < Vectors; ++v) sums[r][v] = sum[r][v];
  }
}

// Calls tile(first row, height), the height a constant of at most `Highest`.
template <int Highest, class Tile>
void with_height(int64_t height, int64_t first, Tile& tile) {
  if constexpr (Highest > 1) {
    if (height < Highest) return with_height<Highest - 1>(height, first, tile);
  }
  tile(first, std::integral_constant<int, Highest>());
}

// Rows of a tile whose sums leave registers for what they are made of. A narrow panel's is higher.
template <int Vectors>
constexpr int kRowsOfTile = std::min(8, kTileRows * kTileVectors / Vectors);

// Calls tile(first row, a constant number of rows) for tiles of nearly equal height.
template <int Vectors, class Tile>
void for_tiles(Range rows, Tile tile) {
  const int64_t count = rows.end - rows.begin;
  const int tiles = (count + kRowsOfTile<Vectors> - 1) / kRowsOfTile<Vectors>;
  for (int i = 0; i < tiles; ++i) {
    const Range here = part(count, i, tiles);
    with_height<kRowsOfTile<Vectors>>(here.end - here.begin, rows.begin + here.begin, tile);
  }
}

}  // namespace rnnlab
