#include "registry/stream_files.hpp"

#include <algorithm>
#include <cstring>
#include <new>

#include "base/bits.hpp"
#include "config/check.hpp"
#include "layout/validate.hpp"
#include "os/clock.hpp"
#include "os/files.hpp"
#include "registry/url.hpp"
#include "ring/new_lane.hpp"
#include "subject/subject.hpp"
#include "subject/subject_table.hpp"
#include "sync/words.hpp"

namespace bus::registry {

namespace {

constexpr unsigned file_mode = 0600;

std::string readers_path(const std::string& directory, std::uint32_t lane) {
  return lane_path(directory, lane) + ".readers";
}

result<void> create_named(const std::string& directory, const std::string& path,
                          std::uint64_t bytes, std::uint64_t mapped, auto&& fill) {
  auto file = os::create_nameless(directory, bytes, file_mode);
  if (!file) return std::move(file.error());
  auto map = os::mapping::map(file->get(), 0, mapped, true, true);
  if (!map) return std::move(map.error());
  fill(map->data());
  return os::give_name(file->get(), path);
}

}  // namespace

std::string lane_path(const std::string& directory, std::uint32_t lane) {
  return directory + "/lane-" + std::to_string(lane);
}

result<void> create_lane_files(const std::string& directory, const stream_config& config,
                               std::uint32_t lane, const create_params& with) {
  const std::uint64_t now = os::wall_ns();
  const std::uint64_t readers_bytes =
      base::round_up(layout::readers_offset + 8ull * config.max_readers, 4096);
  auto made = create_named(directory, readers_path(directory, lane), readers_bytes,
                           layout::readers_offset, [&](std::byte* at) {
                             auto* header = new (at) layout::readers_header{};
                             header->segment = layout::make_header(
                                 layout::segment_kind::readers, sizeof *header, readers_bytes,
                                 with.bus_id, with.stream_id, now);
                             header->entry_count = config.max_readers;
                           });
  if (!made && made.error().code != errc::conflict) return made;
  const std::uint64_t lane_bytes = layout::lane_data_offset + config.ring_bytes;
  return create_named(
      directory, lane_path(directory, lane), lane_bytes, layout::lane_data_offset,
      [&](std::byte* at) {
        auto* header = new (at) layout::lane_header{};
        header->segment = layout::make_header(layout::segment_kind::lane, sizeof *header,
                                              lane_bytes, with.bus_id, with.stream_id, now);
        auto& info = header->info;
        info.stream_id = with.stream_id;
        info.epoch = with.epoch;
        info.capacity_bytes = config.ring_bytes;
        info.max_message_bytes = config.max_message_bytes;
        info.lane_index = lane;
        info.policy = static_cast<layout::overflow>(config.overflow);
        info.clock_kind = with.clock_kind;
        info.record_align_bytes = layout::record_align;
        info.owner_uid = os::user_id();
        info.kept = static_cast<layout::storage>(config.storage);
        ring::describe_new_lane(
            *header, config.ring_bytes, with.first_seq(lane),
            [](base::word& to, std::uint64_t value) { sync::store_relaxed(to, value); });
        if (config.overflow != overflow::drop_oldest && config.storage != storage_class::durable)
          sync::store_relaxed(header->counters.unmet, layout::not_announced);
        // Before the file has its name: nothing is published to it meanwhile.
        if (with.held)
          sync::store_relaxed(header->durability.health,
                              static_cast<std::uint64_t>(with.held->code == errc::no_space
                                                             ? layout::log_health::full
                                                             : layout::log_health::failed));
        if (lane < with.logged_seqs.size()) {
          sync::store_relaxed(header->durability.logged_seq, with.logged_seqs[lane]);
          sync::store_relaxed(header->durability.durable_seq, with.logged_seqs[lane]);
        }
      });
}

namespace {

void fill_header(std::byte* at, const stream_config& config, const create_params& with) {
  auto* header = new (at) layout::stream_header{};
  header->segment =
      layout::make_header(layout::segment_kind::stream, sizeof *header, layout::stream_file_bytes,
                          with.bus_id, with.stream_id, os::wall_ns());
  header->stream_id = with.stream_id;
  header->epoch = with.epoch;
  header->ring_bytes = config.ring_bytes;
  header->max_message_bytes = config.max_message_bytes;
  header->send_timeout_ns = static_cast<std::uint64_t>(config.send_timeout.count());
  header->overflow = static_cast<std::uint32_t>(config.overflow);
  header->lane_mode = static_cast<std::uint32_t>(config.mode);
  header->lanes = config.lanes;
  header->max_subjects = config.max_subjects;
  header->max_readers = config.max_readers;
  header->flags = config.ephemeral ? layout::stream_ephemeral : 0;
  header->pattern_count = static_cast<std::uint32_t>(config.subjects.size());
  std::memcpy(header->name, config.name.data(), config.name.size());
  char* to = header->patterns;
  for (const std::string& pattern : config.subjects) {
    std::memcpy(to, pattern.data(), pattern.size());
    to += pattern.size() + 1;
  }
  header->pattern_bytes = static_cast<std::uint32_t>(to - header->patterns);
  header->storage = static_cast<std::uint32_t>(config.storage);
  header->fsync = static_cast<std::uint32_t>(config.fsync);
  header->fsync_interval_ns = static_cast<std::uint64_t>(config.fsync_interval.count());
  header->segment_bytes = config.segment_bytes;
  header->max_age_ns = static_cast<std::uint64_t>(config.max_age.count());
  header->max_bytes = config.max_bytes;
  header->max_messages = config.max_messages;
  header->max_messages_per_subject = config.max_messages_per_subject;
  header->compress = static_cast<std::uint32_t>(config.compress);
  header->sealed = with.sealed ? 1 : 0;
  if (!with.held) return;
  header->held_code = static_cast<std::uint32_t>(with.held->code);
  header->held_errno = static_cast<std::uint32_t>(with.held->os_errno);
  const auto copy = [](char* field, std::size_t size, const std::string& text) {
    std::memcpy(field, text.data(), std::min(text.size(), size - 1));
  };
  // read_stream_file sets `what` itself, so it is not stored.
  const bool is_own = with.held->what.starts_with("cannot publish to stream");
  copy(header->held_why, sizeof header->held_why,
       is_own ? with.held->why : with.held->what + ": " + with.held->why);
  copy(header->held_fix, sizeof header->held_fix, with.held->fix);
}

}  // namespace

result<void> replace_stream_file(const std::string& directory, const stream_config& config,
                                 const create_params& with) {
  const std::string next = directory + "/.stream.new";
  os::remove_file(next);
  auto made = create_named(directory, next, layout::stream_file_bytes, layout::stream_file_bytes,
                           [&](std::byte* at) { fill_header(at, config, with); });
  return made ? os::rename_path(next, directory + "/stream") : made;
}

result<void> create_stream_files(const std::string& directory, const stream_config& config,
                                 const create_params& with) {
  auto made = os::make_directory(directory, 0700);
  if (!made) return made;
  made = create_named(directory, directory + "/stream", layout::stream_file_bytes,
                      layout::stream_file_bytes,
                      [&](std::byte* at) { fill_header(at, config, with); });
  if (!made) return made;
  if (!with.log_directory.empty()) {
    made = os::make_link(directory + "/log", with.log_directory);
    if (!made) return made;
  }
  auto subjects = subject::subject_table::create(directory, config.max_subjects, with.bus_id,
                                                 with.stream_id, file_mode);
  if (!subjects) return std::move(subjects.error());
  made = os::give_name(subjects->get(), directory + "/subjects");
  if (!made) return made;
  for (std::uint32_t lane = 0; lane < lanes_when_created(config) && !with.without_lanes; ++lane) {
    made = create_lane_files(directory, config, lane, with);
    if (!made) return made;
  }
  return {};
}

result<stream_facts> read_stream_file(const std::string& directory) {
  const std::string path = directory + "/stream";
  auto found = os::open_existing(path, false);
  if (!found) return std::move(found.error());
  if (found->bytes != layout::stream_file_bytes)
    return layout::corrupt(path, "it has the wrong size: truncated");
  layout::stream_header h;
  auto got = os::read_start(found->file.get(), &h, sizeof h, path);
  if (!got) return std::move(got.error());
  auto checked = layout::check_header(h.segment, layout::segment_kind::stream, found->bytes, path);
  if (!checked) return std::move(checked.error());
  stream_facts facts;
  facts.stream_id = h.stream_id;
  facts.epoch = h.epoch;
  facts.created_ns = h.segment.created_ns;
  facts.sealed = h.sealed != 0;
  facts.stamp = found->stamp;
  if (h.held_code != 0)
    facts.held = error{static_cast<errc>(h.held_code), static_cast<int>(h.held_errno), "",
                       std::string(h.held_why, ::strnlen(h.held_why, sizeof h.held_why)),
                       std::string(h.held_fix, ::strnlen(h.held_fix, sizeof h.held_fix))};
  auto& config = facts.config;
  config.name.assign(h.name, ::strnlen(h.name, sizeof h.name));
  config.overflow = static_cast<overflow>(h.overflow);
  config.mode = static_cast<lane_mode>(h.lane_mode);
  config.lanes = h.lanes;
  config.ring_bytes = h.ring_bytes;
  config.max_message_bytes = h.max_message_bytes;
  config.send_timeout = std::chrono::nanoseconds(h.send_timeout_ns);
  config.max_subjects = h.max_subjects;
  config.max_readers = h.max_readers;
  config.ephemeral = (h.flags & layout::stream_ephemeral) != 0;
  config.storage = static_cast<storage_class>(h.storage);
  config.fsync = h.fsync == 0 ? fsync_policy::batch : static_cast<fsync_policy>(h.fsync);
  config.fsync_interval = std::chrono::nanoseconds(h.fsync_interval_ns);
  if (h.segment_bytes != 0) config.segment_bytes = h.segment_bytes;
  config.max_age = std::chrono::nanoseconds(h.max_age_ns);
  config.max_bytes = h.max_bytes;
  config.max_messages = h.max_messages;
  config.max_messages_per_subject = h.max_messages_per_subject;
  config.compress = static_cast<compression>(h.compress);
  const char* at = h.patterns;
  const char* end = h.patterns + std::min<std::size_t>(h.pattern_bytes, sizeof h.patterns);
  while (at < end) {
    const std::size_t length = ::strnlen(at, static_cast<std::size_t>(end - at));
    config.subjects.emplace_back(at, length);
    at += length + 1;
  }
  if (config.subjects.size() != h.pattern_count ||
      (config.mode != lane_mode::fixed && config.mode != lane_mode::per_publisher))
    return layout::corrupt(path, "its configuration is invalid");
  if (facts.held)
    facts.held->what = "cannot publish to stream '" + config.name + "', whose log is not kept";
  checked = config::check_config(config);
  if (!checked)
    return layout::corrupt(path, "its configuration is invalid: " + checked.error().why);
  return facts;
}

result<std::shared_ptr<lane_map>> lane_map::open(const std::string& directory,
                                                 const stream_facts& facts, std::uint32_t lane,
                                                 bool writable, bool with_data) {
  const std::string path = lane_path(directory, lane);
  auto file = os::open_existing(path, writable);
  if (!file) return std::move(file.error());
  const std::uint64_t expected = layout::lane_data_offset + facts.config.ring_bytes;
  if (file->bytes != expected)
    return layout::corrupt(path, "it has " + std::to_string(file->bytes) + " bytes instead of " +
                                     std::to_string(expected) + ": truncated");
  auto made = std::make_shared<lane_map>();
  auto map = os::mapping::map(file->file.get(), 0, layout::lane_data_offset, writable, true);
  if (!map) return std::move(map.error());
  made->header_map_ = std::move(*map);
  auto* header = reinterpret_cast<layout::lane_header*>(made->header_map_.data());
  auto checked =
      layout::check_header(header->segment, layout::segment_kind::lane, file->bytes, path);
  if (!checked) return std::move(checked.error());
  layout::lane_info info;
  std::memcpy(&info, &header->info, sizeof info);
  if (info.stream_id != facts.stream_id || info.lane_index != lane ||
      info.capacity_bytes != facts.config.ring_bytes ||
      info.max_message_bytes != facts.config.max_message_bytes ||
      info.record_align_bytes != layout::record_align ||
      info.policy != static_cast<layout::overflow>(facts.config.overflow) ||
      info.kept != static_cast<layout::storage>(facts.config.storage))
    return layout::corrupt(path, "it does not belong to this stream, or was overwritten");
  if (with_data) {
    map = os::mapping::map_twice(file->file.get(), layout::lane_data_offset, info.capacity_bytes,
                                 writable, true);
    if (!map) return std::move(map.error());
    made->data_map_ = std::move(*map);
  }
  const std::string table = readers_path(directory, lane);
  auto readers = os::open_existing(table, true);
  if (!readers) return std::move(readers.error());
  if (readers->bytes < layout::readers_offset + 8ull * facts.config.max_readers)
    return layout::corrupt(table, "it is too short: truncated");
  map = os::mapping::map(readers->file.get(), 0, readers->bytes, true, true);
  if (!map) return std::move(map.error());
  made->readers_map_ = std::move(*map);
  checked = layout::check_header(made->readers().segment, layout::segment_kind::readers,
                                 readers->bytes, table);
  if (!checked) return std::move(checked.error());
  made->path_ = path;
  made->readers_path_ = table;
  made->file_ = file->id;
  made->readers_file_ = readers->id;
  made->reader_entries_ = facts.config.max_readers;
  made->index_ = lane;
  made->lane_key_ = facts.lane_key(lane);
  made->memory_.header = header;
  made->memory_.data = made->data_map_.data();
  made->memory_.capacity_bytes = info.capacity_bytes;
  made->memory_.max_message_bytes = info.max_message_bytes;
  made->memory_.overwriting = facts.config.overflow == overflow::drop_oldest;
  made->memory_.kept = info.kept;
  return made;
}

}  // namespace bus::registry
