// Memory that is fresh at every call.
#pragma once

#include <sys/mman.h>

#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>

namespace rnnlab {

constexpr size_t kHugePage = 2 << 20;

// Asks for huge pages, where the system has them, for those that lie wholly in some memory: small
// ones cost more to get than to fill. Memory that has been written before stays as it is.
inline void prefer_huge_pages(void* memory, size_t bytes) {
#if defined(MADV_HUGEPAGE)
  const auto begin = reinterpret_cast<uintptr_t>(memory);
  const uintptr_t first = (begin + kHugePage - 1) / kHugePage * kHugePage;
  const uintptr_t last = (begin + bytes) / kHugePage * kHugePage;
  if (first < last) madvise(reinterpret_cast<void*>(first), last - first, MADV_HUGEPAGE);
#endif
}

// Memory for `count` numbers, not zeroed.
template <class T>
class Scratch {
 public:
  Scratch() = default;
  explicit Scratch(int64_t count) {
    constexpr size_t kLine = 64;
    const size_t bytes = count * sizeof(T) + kLine;
    const size_t alignment = bytes < kHugePage ? kLine : kHugePage;
    const size_t whole = (bytes + alignment - 1) / alignment * alignment;
    data_.reset(static_cast<T*>(std::aligned_alloc(alignment, whole)));
    if (!data_) throw std::bad_alloc();
    prefer_huge_pages(data_.get(), whole);
  }
  T* data() const { return data_.get(); }
  T* operator+(int64_t offset) const { return data_.get() + offset; }

 private:
  struct Free {
    void operator()(T* p) const { std::free(p); }
  };
  std::unique_ptr<T, Free> data_;
};

}  // namespace rnnlab
