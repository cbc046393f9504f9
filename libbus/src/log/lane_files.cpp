#include "log/lane_files.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "log/read_around.hpp"

namespace bus::log {

namespace {

std::string state_path(const std::string& directory) { return directory + "/state"; }

int put_state(disk& to, disk_file file, const layout::log_state& state) {
  // The whole stride, which also repairs damage around the copy.
  std::byte copy[layout::log_state_stride] = {};
  std::memcpy(copy, &state, sizeof state);
  const int failed = to.write(file, copy, (state.generation % 2) * layout::log_state_stride);
  return failed != 0 ? failed : to.sync(file);
}

bool all_zero(std::span<const std::byte> bytes) noexcept {
  return std::all_of(bytes.begin(), bytes.end(), [](std::byte b) { return b == std::byte{0}; });
}

}  // namespace

int list_segments(disk& from, const std::string& directory, std::vector<std::uint64_t>& bases) {
  bases.clear();
  std::vector<std::string> names;
  const int failed = from.list(directory, names);
  if (failed != 0) return failed;
  for (const std::string& name : names)
    if (const auto base_seq = base_of_name(name)) bases.push_back(*base_seq);
  std::sort(bases.begin(), bases.end());
  return 0;
}

std::optional<layout::log_state> read_state(disk& from, const std::string& directory, int& failure,
                                            state_damage* damaged) {
  failure = 0;
  const int file = from.open(state_path(directory), disk_mode::read, false);
  if (file < 0) {
    failure = file;
    return std::nullopt;
  }
  std::vector<std::byte> bytes(layout::log_state_file_bytes);
  std::uint64_t unreadable = 0;  // one of the copies may be unreadable: then it is damaged
  const std::int64_t got = read_around(from, file, bytes, 0, unreadable);
  from.close(file);
  if (got < 0) {
    failure = static_cast<int>(got);
    return std::nullopt;
  }
  const auto stride_at = [&](std::uint64_t index) {
    return std::span<const std::byte>(bytes).subspan(index * layout::log_state_stride,
                                                     layout::log_state_stride);
  };
  const auto state_at = [&](std::uint64_t index, layout::log_state& state) {
    std::memcpy(&state, stride_at(index).data(), sizeof state);
    return state.magic == layout::log_state_magic && state.crc == state_crc(state);
  };
  std::optional<layout::log_state> newest;
  bool whole = got >= static_cast<std::int64_t>(2 * layout::log_state_stride);
  bool second_unused = false;
  for (std::uint64_t copy = 0; copy < 2; ++copy) {
    layout::log_state state;
    const bool is_copy = state_at(copy, state) && state.generation % 2 == copy;
    if (!is_copy) second_unused = copy == 1 && all_zero(stride_at(copy));
    whole = whole && (is_copy ? all_zero(stride_at(copy).subspan(sizeof state)) : second_unused);
    if (is_copy && (!newest || state.generation > newest->generation)) newest = state;
  }
  if (second_unused && newest && newest->generation != 0) whole = false;
  layout::log_state bound;
  const bool has_bound = state_at(2, bound) && newest && bound.log_id == newest->log_id &&
                         bound.stream_id == newest->stream_id &&
                         bound.lane_index == newest->lane_index;
  if (has_bound) {
    newest->last_base = std::max(newest->last_base, bound.last_base);
    newest->durable_upto = std::max(newest->durable_upto, bound.durable_upto);
    newest->subjects = std::max(newest->subjects, bound.subjects);
    if (bound.up_ns >= newest->up_ns) {
      newest->boot = bound.boot;
      newest->up_ns = bound.up_ns;
      newest->boot_ns = bound.boot_ns;
      newest->epoch_s = bound.epoch_s;
      newest->off_s = bound.off_s;
    }
  }
  if (damaged != nullptr)
    *damaged = {!whole, got != static_cast<std::int64_t>(layout::log_state_file_bytes) ||
                            !(has_bound ? all_zero(stride_at(2).subspan(sizeof bound))
                                        : all_zero(stride_at(2)))};
  if (!newest) failure = -EBADMSG;
  return newest;
}

int write_bound(disk& to, const std::string& directory, const layout::log_state& state) {
  const int file = to.open(state_path(directory), disk_mode::write, false);
  if (file < 0) return file;
  layout::log_state bound = state;
  bound.crc = state_crc(bound);
  std::byte stride[layout::log_state_stride] = {};
  std::memcpy(stride, &bound, sizeof bound);
  const int failed = to.write(file, stride, 2 * layout::log_state_stride);
  to.close(file);
  return failed;
}

int write_state(disk& to, const std::string& directory, layout::log_state& state) {
  const int file = to.open(state_path(directory), disk_mode::write, false);
  if (file < 0) return file;
  layout::log_state next = state;
  ++next.generation;
  next.crc = state_crc(next);
  const int failed = put_state(to, file, next);
  to.close(file);
  // Not after a failure: the copy may be torn, and the next try goes to the same slot, so that the
  // other copy stays whole.
  if (failed == 0) state = next;
  return failed;
}

int create_state(disk& to, const std::string& directory, layout::log_state& state) {
  // Under its final name it is whole, whenever the power fails.
  const std::string path = state_path(directory) + ".tmp";
  (void)to.remove(path);
  const int file = to.open(path, disk_mode::create, false);
  if (file < 0) return file;
  state.magic = layout::log_state_magic;
  state.generation = 0;
  state.crc = state_crc(state);
  int failed = to.reserve(file, layout::log_state_file_bytes);
  if (failed == 0) failed = put_state(to, file, state);
  to.close(file);
  return failed != 0 ? failed : to.rename(path, state_path(directory));
}

std::vector<layout::log_index_entry> read_index(disk& from, const std::string& directory,
                                                std::uint64_t base_seq, std::uint64_t log_id,
                                                std::uint64_t& bytes_read) {
  std::vector<layout::log_index_entry> entries;
  const int file = from.open(directory + "/" + index_name(base_seq), disk_mode::read, false);
  if (file < 0) return entries;
  const std::int64_t bytes = from.size(file);
  constexpr std::int64_t largest = 64 << 20;
  if (bytes > 0 && bytes <= largest) {
    entries.resize(static_cast<std::size_t>(bytes) / sizeof(layout::log_index_entry));
    const std::span<std::byte> into{reinterpret_cast<std::byte*>(entries.data()),
                                    entries.size() * sizeof(layout::log_index_entry)};
    if (read_all(from, file, into, 0) != 0) entries.clear();
    bytes_read += into.size();
  }
  from.close(file);
  const std::uint32_t seed = seed_of(log_id);
  std::uint64_t last_seq = base_seq, last_offset = 0;
  const auto bad = std::find_if(entries.begin(), entries.end(), [&](const auto& entry) {
    if (entry.crc != index_crc(seed, entry) || entry.seq < last_seq || entry.offset <= last_offset)
      return true;
    last_seq = entry.seq;
    last_offset = entry.offset;
    return false;
  });
  entries.erase(bad, entries.end());
  return entries;
}

}  // namespace bus::log
