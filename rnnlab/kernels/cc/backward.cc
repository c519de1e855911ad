// Its gradient as a call that XLA makes: see backward.h.
#include "backward.h"

#include "dispatch.h"
#include "layer_norm.h"
#include "reset_before.h"

namespace rnnlab {
namespace {

// The loop of a cell.
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
