#include "os/mapping.hpp"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <boost/interprocess/exceptions.hpp>
#include <boost/interprocess/mapped_region.hpp>
#include <cerrno>
#include <new>
#include <chrono>
#include <string>
#include <thread>

#include "os/failure.hpp"

namespace bus::os {

namespace ipc = boost::interprocess;

struct mapping::regions {
  void* reserved = nullptr;  // address range for the two halves
  std::size_t reserved_bytes = 0;
  std::size_t placed_bytes = 0;
  std::array<ipc::mapped_region, 2> halves;
  const ::pid_t maker = ::getpid();

  ~regions() {
    // Non-null only while a half is missing. Each half unmaps its own part.
    if (reserved != nullptr)
      ::munmap(static_cast<std::byte*>(reserved) + placed_bytes, reserved_bytes - placed_bytes);
  }
};

namespace {

// A ring is populated and unmapped in steps. During a step no other thread of this process can map
// or unmap memory, and while one waits to do so, page faults wait, too.
constexpr std::uint64_t step_bytes = 16u << 20;

void advise(std::byte* at, std::uint64_t bytes, int advice) noexcept {
  for (std::uint64_t done = 0; done < bytes; done += step_bytes) {
    if (done != 0) std::this_thread::sleep_for(std::chrono::microseconds(50));  // as os::reserve
    (void)::madvise(at + done, std::min(step_bytes, bytes - done), advice);
  }
}

}  // namespace

// In a forked child the memory is not mapped and its addresses may be in use for something else:
// forget it.
void mapping::drop() noexcept {
  if (regions_ && regions_->maker != ::getpid()) (void)regions_.release();
  if (regions_ && bytes_ > step_bytes && !at_once_) advise(data_, bytes_, MADV_DONTNEED);
  regions_.reset();
}

mapping::mapping() noexcept = default;
mapping::mapping(mapping&& other) noexcept
    : regions_(std::move(other.regions_)),
      data_(std::exchange(other.data_, nullptr)),
      bytes_(std::exchange(other.bytes_, 0)),
      at_once_(other.at_once_) {}
mapping& mapping::operator=(mapping&& other) noexcept {
  if (this == &other) return *this;
  drop();
  regions_ = std::move(other.regions_);
  data_ = std::exchange(other.data_, nullptr);
  bytes_ = std::exchange(other.bytes_, 0);
  at_once_ = other.at_once_;
  return *this;
}
mapping::~mapping() { drop(); }

namespace {

// What Boost maps: a descriptor that the caller owns. Boost's own file_mapping opens a file by
// name, which takes another descriptor.
class open_file {
 public:
  open_file(int file, ipc::mode_t mode) noexcept : mode_(mode) { handle_.handle = file; }
  ipc::mapping_handle_t get_mapping_handle() const noexcept { return handle_; }
  ipc::mode_t get_mode() const noexcept { return mode_; }

 private:
  ipc::mapping_handle_t handle_{};
  ipc::mode_t mode_;
};

error translate(const ipc::interprocess_exception& thrown, std::uint64_t bytes) {
  const int why = thrown.get_native_error() != 0 ? thrown.get_native_error() : ENOMEM;
  return failure(
      why, "cannot map " + std::to_string(bytes) + " bytes of shared memory",
      why == ENOMEM
          ? "raise vm.max_map_count (each lane being read takes five mappings) or ulimit -v"
          : "");
}

}  // namespace

result<mapping> mapping::map(int file, std::uint64_t offset, std::uint64_t bytes, bool writable,
                             bool populate) {
  const auto mode = writable ? ipc::read_write : ipc::read_only;
  try {
    mapping made;
    made.regions_ = std::make_unique<regions>();
    const open_file whole(file, mode);
    made.regions_->halves[0] =
        ipc::mapped_region(whole, mode, static_cast<ipc::offset_t>(offset), bytes, nullptr,
                           populate && bytes <= step_bytes ? MAP_POPULATE : 0);
    made.data_ = static_cast<std::byte*>(made.regions_->halves[0].get_address());
    made.bytes_ = bytes;
    if (populate && bytes > step_bytes) advise(made.data_, bytes, MADV_POPULATE_READ);
    ::madvise(made.data_, bytes, MADV_DONTFORK);
    return made;
  } catch (const ipc::interprocess_exception& thrown) {
    return translate(thrown, bytes);
  } catch (const std::bad_alloc&) {
    return failure(ENOMEM, "cannot map shared memory");
  }
}

result<mapping> mapping::map_twice(int file, std::uint64_t offset, std::uint64_t bytes,
                                   bool writable, bool populate) {
  const auto mode = writable ? ipc::read_write : ipc::read_only;
  try {
    mapping made;
    made.regions_ = std::make_unique<regions>();
    void* range =
        ::mmap(nullptr, 2 * bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (range == MAP_FAILED)
      return failure(
          errno, "cannot reserve address space for a ring of " + std::to_string(bytes) + " bytes");
    made.regions_->reserved = range;
    made.regions_->reserved_bytes = 2 * bytes;
    const open_file whole(file, mode);
    for (std::size_t half = 0; half < 2; ++half) {
      made.regions_->halves[half] =
          ipc::mapped_region(whole, mode, static_cast<ipc::offset_t>(offset), bytes,
                             static_cast<std::byte*>(range) + half * bytes,
                             MAP_FIXED | (populate && bytes <= step_bytes ? MAP_POPULATE : 0));
      made.regions_->placed_bytes += bytes;
    }
    made.regions_->reserved = nullptr;
    made.data_ = static_cast<std::byte*>(range);
    made.bytes_ = 2 * bytes;
    if (populate && bytes > step_bytes) advise(made.data_, made.bytes_, MADV_POPULATE_READ);
    ::madvise(range, 2 * bytes, MADV_DONTFORK);
    return made;
  } catch (const ipc::interprocess_exception& thrown) {
    return translate(thrown, bytes);
  } catch (const std::bad_alloc&) {
    return failure(ENOMEM, "cannot map shared memory");
  }
}

const volatile std::uint32_t* same_process_word() noexcept {
  static const volatile std::uint32_t* const word = []() -> const volatile std::uint32_t* {
    const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
    void* memory =
        ::mmap(nullptr, page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    static volatile std::uint32_t fallback = 1;
    if (memory == MAP_FAILED || ::madvise(memory, page, MADV_WIPEONFORK) != 0) return &fallback;
    auto* first = static_cast<volatile std::uint32_t*>(memory);
    *first = 1;
    return first;
  }
  ();
  return word;
}

}  // namespace bus::os
