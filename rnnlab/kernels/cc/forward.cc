// The loop forward as a call that XLA makes: see forward.h.
#include "forward.h"

#include "dispatch.h"
#include "layer_norm.h"
#include "reset_before.h"

namespace rnnlab {
namespace {

// The loop of a cell.
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

}  // namespace rnnlab
