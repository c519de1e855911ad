// The gates of the cells that the kernel lists, forward and backward, for one vector of units.
//
// A cell has kGates columns a unit, and a recurrent kernel if kRecurrent. `forward` takes z (what the
// input gives) and u (what the carry gives) of each and keeps in `saved` what `backward` needs. Its
// state is h, and c if kHasCell. The gradients of z and u are the same unless kSeparate. `backward`
// reads the new state for Elman alone: what zoneout leaves is not what the gates gave.
#pragma once

#include "simd.h"

namespace rnnlab {

template <class T>
struct State {
  Vector<T> h{}, c{};
};

struct LSTM {
  static constexpr int kGates = 4, kSaved = 4;  // saved: i, f, g, o
  static constexpr bool kHasCell = true, kSeparate = false, kRecurrent = true;

  template <class T>
  static State<T> forward(const State<T>& from, const Vector<T>* z, const Vector<T>* u, Vector<T>,
                          Vector<T>* saved) {
    saved[0] = sigmoid(z[0] + u[0]);
    saved[1] = sigmoid(z[1] + u[1]);
    saved[2] = tanh(z[2] + u[2]);
    saved[3] = sigmoid(z[3] + u[3]);
    const Vector<T> c = saved[1] * from.c + saved[0] * saved[2];
    return State<T>{saved[3] * tanh(c), c};
  }

  // From the change wanted of the new state: that of u, and what goes past u to the old state.
  template <class T>
  static State<T> backward(const State<T>& from, const State<T>&, const Vector<T>* saved,
                           const State<T>& d, Vector<T>* du, Vector<T>*) {
    const Vector<T> i = saved[0], f = saved[1], g = saved[2], o = saved[3];
    const Vector<T> t = tanh(f * from.c + i * g);
    const Vector<T> dc = d.c + d.h * o * (1 - t * t);
    du[0] = dc * g * i * (1 - i);
    du[1] = dc * from.c * f * (1 - f);
    du[2] = dc * i * (1 - g * g);
    du[3] = d.h * t * o * (1 - o);
    return State<T>{Vector<T>{}, dc * f};
  }
};

struct GRU {
  static constexpr int kGates = 3, kSaved = 4;  // saved: r, z, n, u of n with its bias
  static constexpr bool kHasCell = false, kSeparate = true, kRecurrent = true;

  template <class T>
  static State<T> forward(const State<T>& from, const Vector<T>* z, const Vector<T>* u,
                          Vector<T> bias, Vector<T>* saved) {
    saved[0] = sigmoid(z[0] + u[0]);
    saved[1] = sigmoid(z[1] + u[1]);
    saved[3] = u[2] + bias;
    saved[2] = tanh(z[2] + saved[0] * saved[3]);
    return State<T>{saved[2] + saved[1] * (from.h - saved[2])};
  }

  template <class T>
  static State<T> backward(const State<T>& from, const State<T>&, const Vector<T>* saved,
                           const State<T>& d, Vector<T>* du, Vector<T>* dz) {
    const Vector<T> r = saved[0], z = saved[1], n = saved[2];
    const Vector<T> dn = d.h * (1 - z) * (1 - n * n);
    dz[0] = du[0] = dn * saved[3] * r * (1 - r);
    dz[1] = du[1] = d.h * (from.h - n) * z * (1 - z);
    dz[2] = dn;
    du[2] = dn * r;
    return State<T>{d.h * z};
  }
};

struct ElmanTanh {
  static constexpr int kGates = 1, kSaved = 0;
  static constexpr bool kHasCell = false, kSeparate = false, kRecurrent = true;

  template <class T>
  static State<T> forward(const State<T>&, const Vector<T>* z, const Vector<T>* u, Vector<T>,
                          Vector<T>*) {
    return State<T>{tanh(z[0] + u[0])};
  }

  template <class T>
  static State<T> backward(const State<T>&, const State<T>& to, const Vector<T>*,
                           const State<T>& d, Vector<T>* du, Vector<T>*) {
    du[0] = d.h * (1 - to.h * to.h);
    return State<T>{};
  }
};

struct ElmanRelu {
  static constexpr int kGates = 1, kSaved = 0;
  static constexpr bool kHasCell = false, kSeparate = false, kRecurrent = true;

  template <class T>
  static State<T> forward(const State<T>&, const Vector<T>* z, const Vector<T>* u, Vector<T>,
                          Vector<T>*) {
    const Vector<T> s = z[0] + u[0];
    return State<T>{s < 0 ? Vector<T>{} : s};  // a NaN stays one
  }

  template <class T>
  static State<T> backward(const State<T>&, const State<T>& to, const Vector<T>*,
                           const State<T>& d, Vector<T>* du, Vector<T>*) {
    du[0] = to.h > 0 ? d.h : Vector<T>{};
    return State<T>{};
  }
};

struct MinGRU {
  static constexpr int kGates = 2, kSaved = 2;  // saved: z, n
  static constexpr bool kHasCell = false, kSeparate = false, kRecurrent = false;

  template <class T>
  static State<T> forward(const State<T>& from, const Vector<T>* z, const Vector<T>*, Vector<T>,
                          Vector<T>* saved) {
    saved[0] = sigmoid(z[0]);
    saved[1] = z[1];
    return State<T>{from.h + saved[0] * (saved[1] - from.h)};
  }

  template <class T>
  static State<T> backward(const State<T>& from, const State<T>&, const Vector<T>* saved,
                           const State<T>& d, Vector<T>* du, Vector<T>*) {
    const Vector<T> z = saved[0], n = saved[1];
    du[0] = d.h * (n - from.h) * z * (1 - z);
    du[1] = d.h * z;
    return State<T>{d.h * (1 - z)};
  }
};

// Two products a step: the second, of n, reads r * h. See reset_before.h.
struct ResetBeforeGRU {
  static constexpr int kGates = 3, kSaved = 4;  // saved: r, z, n, r * h
  static constexpr bool kHasCell = false, kSeparate = false, kRecurrent = true;

  // From z and u of r and z.
  template <class T>
  static void reset(Vector<T> h, const Vector<T>* z, const Vector<T>* u, Vector<T>* saved) {
    saved[0] = sigmoid(z[0] + u[0]);
    saved[1] = sigmoid(z[1] + u[1]);
    saved[3] = saved[0] * h;
  }

  // From that of n: n, and the new h.
  template <class T>
  static State<T> renew(Vector<T> h, Vector<T> update, Vector<T> z, Vector<T> u, Vector<T>& n) {
    n = tanh(z + u);
    return State<T>{n + update * (h - n)};
  }

  // From the change wanted of the new h: that of u of z and n, and what goes past u to h.
  template <class T>
  static Vector<T> renew_backward(Vector<T> h, const Vector<T>* saved, Vector<T> d, Vector<T>* du) {
    const Vector<T> z = saved[1], n = saved[2];
    du[1] = d * (h - n) * z * (1 - z);
    du[2] = d * (1 - z) * (1 - n * n);
    return d * z;
  }

  // From the change wanted of r * h: that of u of r, and what goes past u to h.
  template <class T>
  static Vector<T> reset_backward(Vector<T> h, Vector<T> r, Vector<T> d, Vector<T>& du) {
    du = d * h * r * (1 - r);
    return d * r;
  }
};

// An LSTM that normalises x W, h U and c. Its loops compute the gates: see layer_norm.h.
struct LayerNormLSTM {
  static constexpr int kGates = 4, kSaved = 8;  // saved: x W, h U
  static constexpr bool kHasCell = true, kSeparate = true, kRecurrent = true;
};

}  // namespace rnnlab
