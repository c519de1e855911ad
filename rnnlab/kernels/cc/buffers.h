// The arrays of a call as XLA hands them over: one without entries stands for none.
#pragma once

#include "memory.h"
#include "xla/ffi/api/ffi.h"

namespace rnnlab {

namespace ffi = xla::ffi;

using Input = ffi::AnyBuffer;
using Output = ffi::Result<ffi::AnyBuffer>;

template <class T>
const T* read(const Input& buffer) {
  return buffer.element_count() ? static_cast<const T*>(buffer.untyped_data()) : nullptr;
}

// A large result is as fresh as scratch memory, before it is written for the first time.
template <class T>
T* written(Output& buffer) {
  if (!buffer->element_count()) return nullptr;
  prefer_huge_pages(buffer->untyped_data(), buffer->size_bytes());
  return static_cast<T*>(buffer->untyped_data());
}

}  // namespace rnnlab
