// The entry point that libFuzzer calls. BUS_FUZZ_TARGET is one of the functions of target.hpp.

#include "target.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t bytes) {
  bus::fuzz::BUS_FUZZ_TARGET({data, bytes});
  return 0;
}
