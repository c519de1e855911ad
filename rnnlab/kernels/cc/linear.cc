// Recurrences that are linear element by element, h_t = a_t h_{t-1} + b_t, as calls that XLA makes.
//
// An array is [T, B, N], a may have 1 in place of T or B, and a number is real or, as two numbers side
// by side, complex. A step that restarts takes b_t alone.
#include "buffers.h"
#include "simd.h"
#include "team.h"

namespace rnnlab {
namespace {

// Pairs (re, im) in neighbouring lanes.
template <class T>
Vector<T> complex_times(Vector<T> a, Vector<T> b) {
  typename VectorOf<T>::ints real{}, imaginary{}, swapped{};
  Vector<T> sign{};
  for (int i = 0; i < kLanes<T>; ++i) {
    real[i] = i & ~1;
    imaginary[i] = i | 1;
    swapped[i] = i ^ 1;
    sign[i] = i & 1 ? 1 : -1;
  }
  return shuffle<T>(a, a, real) * b + sign * shuffle<T>(a, a, imaginary) * shuffle<T>(b, b, swapped);
}

template <class T, bool kComplex>
class Linear {
 public:
  struct Arrays {
    int64_t length, batch, features;  // features in real numbers: twice N where they are complex
    int64_t a_time, a_row;            // from one step, and row, of a to the next
    bool reverse;
    const T *a, *added, *start;  // [T, B, N] b, or what is wanted of h; [B, N], or null
    const bool* restarts;        // [T, B], or null
    T *out, *dstart;             // [T, B, N]; [B, N], or null
  };

  Linear(const Arrays& arrays, int wanted)
      : a_(arrays), wanted_(wanted), by_rows_(arrays.batch >= 2 * wanted) {}

  int threads() const { return wanted_; }
  void prepare(int) {}

  void run(int rank, int size) {
    const Range rows = by_rows_ ? part(a_.batch, rank, size) : Range{0, a_.batch};
    // In pairs, so that no complex number is cut.
    Range units = {0, a_.features / kPair};
    if (!by_rows_) units = part(units.end, rank, size);
    if (a_.dstart) {
      backward(rows, units);
    } else {
      forward(rows, units);
    }
  }

 private:
  static constexpr int64_t kPair = kComplex ? 2 : 1;

  int64_t time(int64_t step) const { return a_.reverse ? a_.length - 1 - step : step; }
  T* out(int64_t t, int64_t b) const { return a_.out + (t * a_.batch + b) * a_.features; }

  void forward(Range rows, Range units) {
    const T* last = a_.start;
    for (int64_t step = 0; step < a_.length; ++step) {
      const int64_t t = time(step);
      advance(t, rows, units, last, added(t, 0), out(t, 0));
      last = out(t, 0);
    }
  }

  void backward(Range rows, Range units) {
    int64_t t = time(a_.length - 1);
    for (int64_t b = rows.begin; b < rows.end; ++b) {
      const T* from = added(t, b);
      std::copy(from + units.begin * kPair, from + units.end * kPair,
                out(t, b) + units.begin * kPair);
    }
    for (int64_t step = a_.length - 1; step > 0; --step) {
      const int64_t before = time(step - 1);
      advance(t, rows, units, out(t, 0), added(before, 0), out(before, 0));
      t = before;
    }
    advance(t, rows, units, out(t, 0), nullptr, a_.dstart);
  }

  const T* added(int64_t t, int64_t b) const {
    return a_.added + (t * a_.batch + b) * a_.features;
  }

  // to = a_t h + added, without the first where step t restarts. All but a_t are [B, N].
  void advance(int64_t t, Range rows, Range units, const T* h, const T* added, T* to) {
    for (int64_t b = rows.begin; b < rows.end; ++b) {
      const bool restarts = a_.restarts && a_.restarts[t * a_.batch + b];
      const T* a = a_.a + t * a_.a_time + b * a_.a_row;
      const int64_t row = b * a_.features, end = units.end * kPair;
      for (int64_t i = units.begin * kPair; i < end; i += kLanes<T>) {
        const int64_t valid = std::min<int64_t>(kLanes<T>, end - i);
        Vector<T> sum = added ? load(added + row + i, valid) : Vector<T>{};
        if (!restarts) {
          const Vector<T> left = load(a + i, valid), right = load(h + row + i, valid);
          sum += kComplex ? complex_times<T>(left, right) : left * right;
        }
        store(to + row + i, sum, valid);
      }
    }
  }

  Arrays a_;
  int wanted_;
  bool by_rows_;
};

template <class T, bool kComplex>
void run(ffi::ThreadPool& pool, const Input& a, const Input& added, const T* start,
         const Input& restarts, bool reverse, Output& out, T* dstart) {
  constexpr int64_t kPair = kComplex ? 2 : 1, kNumbers = 3000;  // in a microsecond, about
  const auto shape = added.dimensions(), of_a = a.dimensions();
  const int64_t features = shape[2] * kPair, a_row = of_a[1] == 1 ? 0 : features;
  const typename Linear<T, kComplex>::Arrays arrays{
      shape[0], shape[1], features, of_a[0] == 1 ? 0 : of_a[1] * features, a_row, reverse,
      read<T>(a), read<T>(added), start, read<bool>(restarts), written<T>(out), dstart};
  const int64_t time = shape[0] * shape[1] * features / kNumbers;
  Linear<T, kComplex> loop(arrays, threads_for(pool, time));
  run_team(pool, loop.threads(), time, loop);
}

// Calls use(a number of the dtype, whether it is complex).
template <class Use>
ffi::Error dispatch(ffi::DataType dtype, Use use) noexcept {
  if (dtype == ffi::F32) return use(0.0f, std::false_type()), ffi::Error::Success();
  if (dtype == ffi::F64) return use(0.0, std::false_type()), ffi::Error::Success();
  if (dtype == ffi::C64) return use(0.0f, std::true_type()), ffi::Error::Success();
  if (dtype == ffi::C128) return use(0.0, std::true_type()), ffi::Error::Success();
  return ffi::Error::InvalidArgument("expected float32, float64, complex64 or complex128");
}

ffi::Error forward(ffi::ThreadPool pool, Input a, Input b, Input start, Input restarts, Output hs,
                   bool reverse) {
  return dispatch(b.element_type(), [&](auto number, auto is_complex) {
    using T = decltype(number);
    run<T, decltype(is_complex)::value>(pool, a, b, read<T>(start), restarts, reverse, hs,
                                        nullptr);
  });
}

ffi::Error backward(ffi::ThreadPool pool, Input a, Input wanted, Input restarts, Output db,
                    Output dstart, bool reverse) {
  return dispatch(wanted.element_type(), [&](auto number, auto is_complex) {
    using T = decltype(number);
    run<T, decltype(is_complex)::value>(pool, a, wanted, nullptr, restarts, reverse, db,
                                        written<T>(dstart));
  });
}

}  // namespace

XLA_FFI_DEFINE_HANDLER_SYMBOL(rnnlab_linear_forward, forward,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<Input>().Arg<Input>().Arg<Input>().Arg<Input>()
                                  .Ret<ffi::AnyBuffer>()
                                  .Attr<bool>("reverse"));

XLA_FFI_DEFINE_HANDLER_SYMBOL(rnnlab_linear_backward, backward,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<Input>().Arg<Input>().Arg<Input>()
                                  .Ret<ffi::AnyBuffer>().Ret<ffi::AnyBuffer>()
                                  .Attr<bool>("reverse"));

}  // namespace rnnlab
