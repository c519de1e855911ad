// What the calls of both loops share: from what XLA hands over to a cell and a number.
#pragma once

#include <string_view>

#include "buffers.h"
#include "gates.h"
#include "layout.h"

namespace rnnlab {

// What a loop takes one thread, about.
template <class Cell>
int64_t microseconds(const Sizes& sizes) {
  constexpr int64_t kProducts = 50000;  // in one of them
  const int64_t read = sizes.inputs + (Cell::kRecurrent ? sizes.features : 0);
  return sizes.length * sizes.batch * Cell::kGates * sizes.features * read / kProducts;
}

inline Sizes sizes_of(const Input& xs, const Input& mask, const Input& reset, int64_t features,
                      bool reverse) {
  const auto shape = xs.dimensions();
  return {shape[0], shape[1], shape[2], features, reverse, read<bool>(mask), read<bool>(reset)};
}

// Calls use(cell, a number of the dtype) for the cell of that name. Without memory the process ends:
// threads that have started could not be told.
template <class Use>
ffi::Error dispatch(std::string_view cell, ffi::DataType dtype, Use use) noexcept {
  auto with = [&](auto gates) {
    if (dtype == ffi::F32) return use(gates, 0.0f), ffi::Error::Success();
    if (dtype == ffi::F64) return use(gates, 0.0), ffi::Error::Success();
    return ffi::Error::InvalidArgument("expected float32 or float64");
  };
  if (cell == "lstm") return with(LSTM());
  if (cell == "gru") return with(GRU());
  if (cell == "elman_tanh") return with(ElmanTanh());
  if (cell == "elman_relu") return with(ElmanRelu());
  if (cell == "min_gru") return with(MinGRU());
  if (cell == "layer_norm_lstm") return with(LayerNormLSTM());
  if (cell == "reset_before_gru") return with(ResetBeforeGRU());
  return ffi::Error::InvalidArgument("no such cell");
}

}  // namespace rnnlab
