// Matrix products by tiles: a few rows times one panel of a matrix.
#pragma once

#include <algorithm>
#include <type_traits>
#include <vector>

#include "memory.h"
#include "simd.h"
#include "team.h"

namespace rnnlab {

// Rows of a tile so many vectors wide, at most.
template <int Vectors>
constexpr int kTileRows = std::min(8, kTileSums / Vectors);

// Vectors of a panel, unless the gates of one vector of units are more. Narrow ones leave room for
// high tiles, which read a panel less often. But a sum waits for the product before: where rows are
// few, wide panels have more sums at once.
constexpr int kTileVectors = 3, kWideTileVectors = 4;

// Calls use(n), n a constant from 1 to `Most`.
template <int Most, class Use>
void with_constant(int64_t n, Use use) {
  if constexpr (Most > 1) {
    if (n < Most) return with_constant<Most - 1>(n, use);
  }
  use(std::integral_constant<int, Most>());
}

// sums[r][v] is rows[r][0 .. depth] times vector v of the panel, added up in this order: a row's
// results are the same in tiles of all sizes, bit for bit.
template <class T, int Rows, int Vectors>
inline __attribute__((always_inline)) void multiply(const T* const* rows, const T* panel,
                                                    int64_t depth,
                                                    Vector<T> (&sums)[Rows][Vectors]) {
  const T* row[Rows];
#pragma GCC unroll 8
  for (int r = 0; r < Rows; ++r) row[r] = rows[r];
  Vector<T> sum[Rows][Vectors] = {};
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

// A matrix [depth, gates * features] whose columns are laid out panel by panel. A panel has some
// vectors of units, for each unit its Gates columns, and lies [depth][block][Gates][lane].
template <class T, int Gates>
class Panels {
  static constexpr int kBlocks = std::max(kWideTileVectors / Gates, 1);  // at most

 public:
  Panels() = default;
  // Each part of the units, from one of the `cuts` to the next, has panels of its own. How wide they
  // are depends on how many `rows` will be multiplied at once.
  Panels(int64_t depth, const std::vector<int64_t>& cuts, int64_t rows)
      : depth_(depth), features_(cuts.back()),
        data_(depth * Gates * vectors_for<T>(features_) * kLanes<T>) {
    const bool few = rows <= kTileRows<kWideTileVectors>;
    const int64_t width = kLanes<T> * (few ? kBlocks : std::max(kTileVectors / Gates, 1));
    for (size_t i = 1; i < cuts.size(); ++i) {
      for (int64_t unit = cuts[i - 1]; unit < cuts[i]; unit += width) firsts_.push_back(unit);
    }
    firsts_.push_back(features_);
  }

  int64_t count() const { return firsts_.size() - 1; }

  // From a matrix [depth, Gates * features], or so many columns of one whose rows are `stride` long.
  // Columns of units that are not there are zero.
  void pack(Range panels, const T* matrix, int64_t stride) {
    constexpr int64_t kRowsTogether = 16;  // few enough for the page table's cache
    for (int64_t begin = 0; begin < depth_; begin += kRowsTogether) {
      const int64_t end = std::min(begin + kRowsTogether, depth_);
      for (int64_t p = panels.begin; p < panels.end; ++p) {
        T* to = row(p, begin);
        for (int64_t k = begin; k < end; ++k) {
          for (int64_t unit = firsts_[p]; unit < firsts_[p + 1]; unit += kLanes<T>) {
            for (int64_t gate = 0; gate < Gates; ++gate, to += kLanes<T>) {
              store(to, load(matrix + k * stride + gate * features_ + unit, features_ - unit));
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
        for (int64_t unit = firsts_[p]; unit < firsts_[p + 1]; unit += kLanes<T>) {
          Vector<T> square[kLanes<T>];
          for (int64_t i = 0; i < kLanes<T>; ++i) {
            const bool there = unit + i < features_;
            square[i] = there ? load(matrix + (unit + i) * stride + begin, count) : Vector<T>{};
          }
          transpose<T>(square);
          for (int64_t k = 0; k < count; ++k) {
            store(row(p, begin + k) + unit - firsts_[p], square[k]);
          }
        }
      }
    }
  }

  // use(row, unit, sums) for each vector of `units`, a part or all of them: of the Gates columns of
  // its units, the products with from(row).
  template <class From, class Use>
  void products(Range rows, Range units, From from, Use use) const {
    const int64_t count = rows.end - rows.begin;
    for (int64_t p = at(units.begin); p < at(units.end); ++p) {
      with_constant<kBlocks>(blocks(p), [&](auto width) {
        constexpr int kWidth = decltype(width)::value, kHighest = kTileRows<kWidth * Gates>;
        const int tiles = (count + kHighest - 1) / kHighest;
        for (int i = 0; i < tiles; ++i) {  // of nearly equal height
          const Range here = part(count, i, tiles);
          with_constant<kHighest>(here.end - here.begin, [&](auto height) {
            tile<decltype(height)::value, kWidth>(rows.begin + here.begin, p, from, use);
          });
        }
      });
    }
  }

 private:
  template <int Rows, int Width, class From, class Use>
  void tile(int64_t first, int64_t p, From& from, Use& use) const {
    // A single sum is computed twice: compilers may leave a loop without another one's products
    // unfused, and the bits of a row would depend on its tile.
    constexpr int kComputed = Rows * Width * Gates == 1 ? 2 : Rows;
    const T* rows[kComputed];
    for (int r = 0; r < kComputed; ++r) rows[r] = from(first + std::min(r, Rows - 1));
    Vector<T> sums[kComputed][Width * Gates];
    multiply<T, kComputed, Width * Gates>(rows, row(p, 0), depth_, sums);
    for (int r = 0; r < Rows; ++r) {
      for (int block = 0; block < Width; ++block) {
        use(first + r, firsts_[p] + block * kLanes<T>, &sums[r][block * Gates]);
      }
    }
  }

  // Of a panel: row k of the matrix in it, and how many vectors of units it has.
  T* row(int64_t p, int64_t k) const {
    return data_ + Gates * (firsts_[p] * depth_ + k * blocks(p) * kLanes<T>);
  }
  int64_t blocks(int64_t p) const { return vectors_for<T>(firsts_[p + 1] - firsts_[p]); }

  // The panel that begins at a unit, or the number of all at the end.
  int64_t at(int64_t unit) const {
    return std::lower_bound(firsts_.begin(), firsts_.end(), unit) - firsts_.begin();
  }

  int64_t depth_ = 0, features_ = 0;
  std::vector<int64_t> firsts_;  // units of panels, and the end
  Scratch<T> data_;
};

}  // namespace rnnlab
