// A few threads of XLA's own pool that work through a sequence together.
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <thread>

#include "xla/ffi/api/ffi.h"

namespace rnnlab {

inline void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#else
  std::this_thread::yield();
#endif
}

// Spins, and gives the core away now and then, should another thread need it to get here.
template <class Condition>
inline void wait_until(Condition condition) {
  for (unsigned spins = 0; !condition(); ++spins) {
    if (spins % 4096 == 4095) {
      std::this_thread::yield();
    } else {
      pause();
    }
  }
}

class Barrier {
 public:
  explicit Barrier(int size) : size_(size) {}

  void wait() {
    if (size_ == 1) return;
    const int64_t round = round_.load(std::memory_order_acquire);
    if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == size_) {
      arrived_.store(0, std::memory_order_relaxed);
      round_.store(round + 1, std::memory_order_release);
    } else {
      wait_until([&] { return round_.load(std::memory_order_acquire) != round; });
    }
  }

 private:
  const int size_;
  std::atomic<int> arrived_{0};
  std::atomic<int64_t> round_{0};
};

// How many threads are worth calling to work that takes one thread so long: another one costs some
// microseconds to call, and a barrier a step.
inline int threads_for(const xla::ffi::ThreadPool& pool, int64_t microseconds) {
  constexpr int64_t kEach = 80;
  return static_cast<int>(
      std::clamp<int64_t>(microseconds / kEach, 1, std::max<int64_t>(pool.num_threads(), 1)));
}

// Runs work.prepare(size), then work.run(rank, size) on up to `wanted` threads, the caller among them.
//
// A task of the pool may start late, when a thread has done what else the program has for it, or,
// while others wait like this one, not before they are done. So the team is whoever has arrived by
// the time that the caller closes it: those are running and reach every barrier. Who comes later
// finds it closed. The caller waits for a tenth of the `microseconds` that the work takes it alone,
// and for half a millisecond at least.
template <class Work>
void run_team(xla::ffi::ThreadPool& pool, int wanted, int64_t microseconds, Work& work) {
  struct Shared {
    std::atomic<int> members{1};  // with kClosed added once the team is closed
    std::atomic<int> working{0};
    std::atomic<int> size{0};
    std::function<void(int, int)> work;
  };
  constexpr int kClosed = 1 << 20;
  const auto close = std::chrono::steady_clock::now() +
                     std::chrono::microseconds(std::max<int64_t>(microseconds / 10, 500));

  auto shared = std::make_shared<Shared>();
  const auto caller = std::this_thread::get_id();
  for (int i = 1; i < wanted; ++i) {
    pool.Schedule([shared, caller] {
      if (std::this_thread::get_id() == caller) return;  // there is no pool: nobody to wait for
      const int rank = shared->members.fetch_add(1, std::memory_order_acq_rel);
      if (rank >= kClosed) return;
      wait_until([&] { return shared->size.load(std::memory_order_acquire) != 0; });
      shared->work(rank, shared->size.load(std::memory_order_relaxed));
      shared->working.fetch_sub(1, std::memory_order_acq_rel);
    });
  }
  while (shared->members.load() < wanted && std::chrono::steady_clock::now() < close) pause();
  const int size = shared->members.fetch_add(kClosed, std::memory_order_acq_rel);
  work.prepare(size);
  shared->work = [&work](int rank, int of) { work.run(rank, of); };
  shared->working.store(size - 1, std::memory_order_relaxed);
  shared->size.store(size, std::memory_order_release);
  work.run(0, size);
  wait_until([&] { return shared->working.load(std::memory_order_acquire) == 0; });
}

// Part `rank` of `size` of 0 .. count.
struct Range {
  int64_t begin, end;
};
inline Range part(int64_t count, int rank, int size) {
  return {count * rank / size, count * (rank + 1) / size};
}

}  // namespace rnnlab
