// The two loops of a recurrent layer as calls that XLA makes: see forward.h and backward.h.
#include <string_view>

#include "backward.h"
#include "buffers.h"
#include "forward.h"
#include "layer_norm.h"
#include "reset_before.h"

namespace rnnlab {
namespace {

// The loops of a cell.
template <class T, class Cell, bool kSave>
struct ForwardOf {
  using type = Forward<T, Cell, kSave>;
};
template <class T, bool kSave>
struct ForwardOf<T, ResetBeforeGRU, kSave> {
  using type = ResetBeforeForward<T, kSave>;
};
template <class T, bool kSave>
struct ForwardOf<T, LayerNormLSTM, kSave> {
  using type = LayerNormForward<T, kSave>;
};
template <class T, class Cell>
struct BackwardOf {
  using type = Backward<T, Cell>;
};
template <class T>
struct BackwardOf<T, ResetBeforeGRU> {
  using type = ResetBeforeBackward<T>;
};
template <class T>
struct BackwardOf<T, LayerNormLSTM> {
  using type = LayerNormBackward<T>;
};

// What a loop takes one thread, about.
template <class Cell>
int64_t microseconds(const Sizes& sizes) {
  constexpr int64_t kProducts = 50000;  // in one of them
  const int64_t read = sizes.inputs + (Cell::kRecurrent ? sizes.features : 0);
  return sizes.length * sizes.batch * Cell::kGates * sizes.features * read / kProducts;
}

Sizes sizes_of(const Input& xs, const Input& mask, const Input& reset, int64_t features,
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

ffi::Error forward(ffi::ThreadPool pool, Input xs, Input kernel, Input bias, Input recurrent_kernel,
                   Input gating, Input h, Input c, Input initial_h, Input initial_c,
                   Input mask, Input reset, Input keep_h, Input keep_c, Output hs, Output cs,
                   Output saved, std::string_view cell, bool reverse, bool save, double share_h,
                   double share_c) {
  return dispatch(cell, xs.element_type(), [&](auto gates, auto number) {
    using Cell = decltype(gates);
    using T = decltype(number);
    const Sizes sizes = sizes_of(xs, mask, reset, h.dimensions()[1], reverse);
    const ForwardArrays<T> arrays{
        sizes,
        read<T>(xs), read<T>(kernel), read<T>(bias), read<T>(recurrent_kernel),
        read<T>(gating),
        {read<T>(h), read<T>(initial_h)}, {read<T>(c), read<T>(initial_c)},
        {read<bool>(keep_h), T(share_h)}, {read<bool>(keep_c), T(share_c)},
        written<T>(hs), written<T>(cs), written<T>(saved)};
    const int64_t time = microseconds<Cell>(sizes);
    const int threads = threads_for(pool, time);
    if (save) {
      typename ForwardOf<T, Cell, true>::type loop(arrays, threads);
      run_team(pool, loop.threads(), time, loop);
    } else {
      typename ForwardOf<T, Cell, false>::type loop(arrays, threads);
      run_team(pool, loop.threads(), time, loop);
    }
  });
}

ffi::Error backward(ffi::ThreadPool pool, Input xs, Input kernel, Input bias,
                    Input recurrent_kernel, Input gating, Input saved, Input hs, Input cs, Input h, Input c, Input initial_h,
                    Input initial_c, Input wanted_hs, Input wanted_h, Input wanted_c, Input mask,
                    Input reset, Input keep_h, Input keep_c, Output dxs, Output dkernel,
                    Output dbias, Output drecurrent_kernel, Output dgating, Output first_h,
                    Output first_c, Output dinitial_h, Output dinitial_c, std::string_view cell,
                    bool reverse, double share_h, double share_c) {
  return dispatch(cell, xs.element_type(), [&](auto gates, auto number) {
    using Cell = decltype(gates);
    using T = decltype(number);
    const Sizes sizes = sizes_of(xs, mask, reset, h.dimensions()[1], reverse);
    const int64_t time = microseconds<Cell>(sizes);
    const int threads = threads_for(pool, time);
    const BackwardArrays<T> arrays{
        sizes,
        read<T>(xs), read<T>(kernel), read<T>(bias), read<T>(recurrent_kernel), read<T>(gating),
        read<T>(saved), read<T>(hs), read<T>(cs),
        {read<T>(h), read<T>(initial_h)}, {read<T>(c), read<T>(initial_c)},
        {read<bool>(keep_h), T(share_h)}, {read<bool>(keep_c), T(share_c)},
        read<T>(wanted_hs), read<T>(wanted_h), read<T>(wanted_c),
        written<T>(dxs), written<T>(dkernel), written<T>(dbias), written<T>(drecurrent_kernel),
        written<T>(dgating), written<T>(first_h), written<T>(first_c), written<T>(dinitial_h),
        written<T>(dinitial_c)};
    typename BackwardOf<T, Cell>::type loop(arrays, threads);
    run_team(pool, loop.threads(), time, loop);
  });
}

}  // namespace

XLA_FFI_DEFINE_HANDLER_SYMBOL(
    rnnlab_forward, forward,
    ffi::Ffi::Bind()
        .Ctx<ffi::ThreadPool>()
        .Arg<Input>().Arg<Input>().Arg<Input>().Arg<Input>().Arg<Input>().Arg<Input>().Arg<Input>()
        .Arg<Input>().Arg<Input>().Arg<Input>().Arg<Input>().Arg<Input>().Arg<Input>()
        .Ret<ffi::AnyBuffer>().Ret<ffi::AnyBuffer>().Ret<ffi::AnyBuffer>()
        .Attr<std::string_view>("cell").Attr<bool>("reverse").Attr<bool>("save")
        .Attr<double>("share_h").Attr<double>("share_c"));

XLA_FFI_DEFINE_HANDLER_SYMBOL(
    rnnlab_backward, backward,
    ffi::Ffi::Bind()
        .Ctx<ffi::ThreadPool>()
        .Arg<Input>().Arg<Input>().Arg<Input>().Arg<Input>().Arg<Input>().Arg<Input>().Arg<Input>()
        .Arg<Input>().Arg<Input>().Arg<Input>().Arg<Input>().Arg<Input>().Arg<Input>().Arg<Input>()
        .Arg<Input>().Arg<Input>().Arg<Input>().Arg<Input>().Arg<Input>()
        .Ret<ffi::AnyBuffer>().Ret<ffi::AnyBuffer>().Ret<ffi::AnyBuffer>().Ret<ffi::AnyBuffer>()
        .Ret<ffi::AnyBuffer>().Ret<ffi::AnyBuffer>().Ret<ffi::AnyBuffer>().Ret<ffi::AnyBuffer>()
        .Ret<ffi::AnyBuffer>()
        .Attr<std::string_view>("cell").Attr<bool>("reverse")
        .Attr<double>("share_h").Attr<double>("share_c"));

}  // namespace rnnlab
