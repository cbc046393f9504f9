#include "registry/group_files.hpp"

#include <algorithm>
#include <bit>
#include <cstring>
#include <new>

#include "base/hash.hpp"
#include "config/check.hpp"
#include "group/key_table.hpp"
#include "layout/validate.hpp"
#include "os/failure.hpp"
#include "os/files.hpp"
#include "os/random.hpp"
#include "registry/bus_directory.hpp"
#include "registry/reader_table.hpp"
#include "subject/subject.hpp"
#include "sync/failpoint.hpp"

namespace bus::registry {

namespace {

constexpr std::uint32_t most_keys = 1u << 24;  // entries of the key index: at least twice the slots
constexpr unsigned file_mode = 0600;
constexpr std::uint32_t spare_slots = 64;  // for messages that become dead letters
constexpr std::uint32_t first_blocks = 1024;

std::uint32_t slots_of(const group_config& config) noexcept {
  if (config.ack == ack_policy::none) return spare_slots;
  return config.max_ack_pending + config.max_delayed +
         (config.order == group_order::key ? config.max_parked + 1024 : 0) + spare_slots;
}

}  // namespace

std::string groups_path(const std::string& stream_directory) {
  return stream_directory + "/groups";
}
std::string group_path(const std::string& stream_directory, std::string_view name) {
  return groups_path(stream_directory) + "/" + std::string(name);
}

result<std::vector<std::string>> list_groups(const std::string& stream_directory) {
  auto names = os::list_directory(groups_path(stream_directory));
  if (!names) {
    if (names.error().code == errc::not_found) return std::vector<std::string>();
    return std::move(names.error());
  }
  std::erase_if(*names, [](const std::string& name) { return name.starts_with("."); });
  std::sort(names->begin(), names->end());
  return std::move(*names);
}

namespace {

std::uint64_t check_of(const layout::group_info& info) noexcept {
  return base::hash_bytes(
      {reinterpret_cast<const char*>(&info), offsetof(layout::group_info, check)});
}

void fill_header(layout::group_header& header, const group_config& config,
                 const stream_facts& stream) {
  auto& info = header.info;
  info.stream_id = stream.stream_id;
  info.group_epoch = os::random_id();
  // Random, to differ from every other group's: publishers identify groups by it.
  info.ordinal = static_cast<std::uint32_t>(os::random_id() & 0x7fffffff);
  info.slot_count = slots_of(config);
  info.member_count = config.max_consumers;
  // Dense: the index should stay in a cache while many keys are out.
  info.key_capacity = group::key_table::places_per_line;
  if (config.order == group_order::key) info.key_capacity *= std::bit_ceil(info.slot_count / 8 + 1);
  info.block_count = static_cast<std::uint32_t>(config.hold_bytes / layout::group_block_bytes);
  info.ack = static_cast<std::uint32_t>(config.ack);
  info.order = static_cast<std::uint32_t>(config.order);
  info.on_fail = static_cast<std::uint32_t>(config.on_fail);
  info.mode = static_cast<std::uint32_t>(config.mode);
  info.start_kind = static_cast<std::uint32_t>(config.deliver.at);
  info.start_value =
      config.deliver.at == start::kind::from_time
          ? static_cast<std::uint64_t>(std::chrono::duration_cast<std::chrono::nanoseconds>(
                                           config.deliver.time.time_since_epoch())
                                           .count())
          : config.deliver.sequence;
  info.max_ack_pending = config.max_ack_pending;
  info.max_delayed = config.max_delayed;
  info.max_parked = config.max_parked;
  info.max_deliver = config.max_deliver;
  info.backoff_count = static_cast<std::uint32_t>(config.backoff.size());
  for (std::size_t i = 0; i < config.backoff.size(); ++i)
    info.backoff_ns[i] = static_cast<std::uint64_t>(config.backoff[i].count());
  info.jitter_permille = static_cast<std::uint32_t>(config.jitter * 1000 + 0.5);
  info.dead_letters = config.dead_letters ? 1 : 0;
  info.headers_all = config.headers_all ? 1 : 0;
  info.ack_wait_ns = static_cast<std::uint64_t>(config.ack_wait.count());
  info.max_lease_ns = static_cast<std::uint64_t>(config.max_lease.count());
  info.idle_release_ns = static_cast<std::uint64_t>(config.idle_release.count());
  info.hold_bytes = config.hold_bytes;
  std::memcpy(info.name, config.name.data(), config.name.size());
  std::memcpy(info.stream, stream.config.name.data(), stream.config.name.size());
  char* to = info.filter;
  const auto put = [&](const std::string& text) {
    std::memcpy(to, text.data(), text.size());
    to += text.size() + 1;
  };
  for (const std::string& pattern : config.filter) put(pattern);
  for (const auto& [key, value] : config.headers) put(key + "=" + value);
  info.filter_count = static_cast<std::uint32_t>(config.filter.size());
  info.header_count = static_cast<std::uint32_t>(config.headers.size());
  info.check = check_of(info);
}

void begin_indexes(std::byte* at, layout::group_header& header) {
  auto& l = header.lists;
  l.free_first = l.ready_first = l.ready_last = l.lease_first = l.lease_last = layout::no_index;
  l.dying_first = l.dying_last = l.block_first = layout::no_index;
  auto* cursors = reinterpret_cast<layout::group_cursor*>(at + layout::group_cursors_offset);
  for (std::uint32_t lane = 0; lane < layout::group_lanes_max; ++lane)
    cursors[lane].ring_first = cursors[lane].ring_last = layout::no_index;
}

layout::group_geometry geometry_of(const layout::group_info& info) noexcept {
  return layout::group_geometry::of(info.member_count, info.slot_count, info.key_capacity,
                                    info.block_count);
}

}  // namespace

result<void> create_group_file(const std::string& stream_directory, const stream_facts& stream,
                               const group_config& config, std::uint64_t bus_id) {
  auto made = os::make_directory(groups_path(stream_directory), 0700);
  if (!made && made.error().code != errc::conflict) return made;
  auto header = std::make_unique<layout::group_header>();
  fill_header(*header, config, stream);
  const auto geometry = geometry_of(header->info);
  auto file = os::create_nameless(groups_path(stream_directory), geometry.total, geometry.blocks,
                                  file_mode);
  if (!file) return std::move(file.error());
  auto map = os::mapping::map(file->get(), 0, geometry.blocks, true, false);
  if (!map) return std::move(map.error());
  auto* at = new (map->data()) layout::group_header{};
  at->segment = layout::make_header(layout::segment_kind::group, sizeof *at, geometry.total, bus_id,
                                    stream.stream_id, os::wall_ns());
  at->info = header->info;
  begin_indexes(map->data(), *at);
  sync::reach(sync::failpoint::group_file_built);
  auto named = os::give_name(file->get(), group_path(stream_directory, config.name));
  sync::reach(sync::failpoint::group_file_named);
  return named;
}

namespace {

// Checks, once, every number that the code relies on later.
result<group_config> config_of(const layout::group_info& info, const stream_facts& stream,
                               const std::string& path) {
  const auto impossible = [&](const char* what) {
    return layout::corrupt(path, std::string("its configuration is invalid: ") + what);
  };
  if (info.check != check_of(info)) return impossible("it was overwritten");
  if (info.stream_id != stream.stream_id)
    return layout::corrupt(path, "it belongs to another stream");
  group_config config;
  config.name.assign(info.name, ::strnlen(info.name, sizeof info.name));
  config.stream = stream.config.name;
  const char* at = info.filter;
  const char* end = info.filter + sizeof info.filter;
  const auto take = [&](std::string& text) {
    if (at >= end) return false;
    const std::size_t length = ::strnlen(at, static_cast<std::size_t>(end - at));
    text.assign(at, length);
    at += length + 1;
    return true;
  };
  std::string text;
  for (std::uint32_t i = 0; i < info.filter_count; ++i) {
    if (!take(text)) return impossible("filter");
    config.filter.push_back(text);
  }
  for (std::uint32_t i = 0; i < info.header_count; ++i) {
    const bool taken = take(text);
    const auto equals = text.find('=');
    if (!taken || equals == text.npos) return impossible("headers");
    config.headers.emplace_back(text.substr(0, equals), text.substr(equals + 1));
  }
  config.headers_all = info.headers_all != 0;
  config.ack = static_cast<ack_policy>(info.ack);
  config.order = static_cast<group_order>(info.order);
  config.on_fail = static_cast<on_fail>(info.on_fail);
  config.mode = static_cast<group_mode>(info.mode);
  config.deliver.at = static_cast<start::kind>(info.start_kind);
  if (config.deliver.at > start::kind::from_last_per_subject) return impossible("deliver");
  config.deliver.sequence = info.start_value;
  if (config.deliver.at == start::kind::from_time)
    config.deliver.time = std::chrono::system_clock::time_point(
        std::chrono::nanoseconds(static_cast<std::int64_t>(info.start_value)));
  config.max_ack_pending = info.max_ack_pending;
  config.max_delayed = info.max_delayed;
  config.max_parked = info.max_parked;
  config.max_deliver = info.max_deliver;
  if (info.backoff_count > layout::group_backoff_max) return impossible("backoff");
  config.backoff.clear();
  for (std::uint32_t i = 0; i < info.backoff_count; ++i)
    config.backoff.emplace_back(static_cast<std::int64_t>(info.backoff_ns[i]));
  config.jitter = info.jitter_permille / 1000.0;
  config.dead_letters = info.dead_letters != 0;
  config.ack_wait = std::chrono::nanoseconds(info.ack_wait_ns);
  config.max_lease = std::chrono::nanoseconds(info.max_lease_ns);
  config.idle_release = std::chrono::nanoseconds(info.idle_release_ns);
  config.hold_bytes = info.hold_bytes;
  config.max_consumers = info.member_count;
  auto checked = config::check_group(config, stream.config);
  if (!checked) return impossible(checked.error().why.c_str());
  if (info.slot_count != slots_of(config) || !std::has_single_bit(info.key_capacity) ||
      info.key_capacity > most_keys || info.key_capacity < group::key_table::places_per_line ||
      (config.order == group_order::key && info.key_capacity < info.slot_count) ||
      info.block_count != config.hold_bytes / layout::group_block_bytes)
    return impossible("its tables");
  return config;
}

group::rules rules_of(const group_config& config, const os::tick_clock& clock) {
  const double per_tick = clock.ns_per_tick();
  const auto ticks = [&](std::chrono::nanoseconds time) {
    return static_cast<std::uint64_t>(static_cast<double>(time.count()) / per_tick);
  };
  group::rules rules;
  rules.ack =
      static_cast<group::ack_rule>(config.ack == ack_policy::explicit_ack ? group::ack_rule::each
                                   : config.ack == ack_policy::none       ? group::ack_rule::none
                                                                    : group::ack_rule::cumulative);
  rules.order = static_cast<group::order_rule>(config.order);
  rules.on_fail = static_cast<group::fail_rule>(config.on_fail);
  rules.mode = static_cast<group::mode_rule>(config.mode);
  rules.max_ack_pending = config.max_ack_pending;
  rules.max_delayed = config.max_delayed;
  rules.max_parked = config.max_parked;
  rules.max_deliver = config.max_deliver;
  rules.dead_letters = config.dead_letters;
  rules.ack_wait = ticks(config.ack_wait);
  rules.max_lease = ticks(config.max_lease);
  rules.backoff_count = static_cast<std::uint32_t>(config.backoff.size());
  for (std::size_t i = 0; i < config.backoff.size(); ++i)
    rules.backoff[i] = ticks(config.backoff[i]);
  rules.jitter = config.jitter;
  return rules;
}

}  // namespace

result<std::shared_ptr<group_map>> group_map::open(const std::string& stream_directory,
                                                   const stream_facts& stream,
                                                   std::string_view name,
                                                   const os::tick_clock& clock, bool writable) {
  auto made = open_file(stream_directory, stream, name, clock, writable);
  if (!made && made.error().code == errc::corrupt)
    made.error().fix = "move the group's file away (mv), and add the group again: bus group add " +
                       stream.config.name + " " + std::string(name);
  return made;
}

result<std::shared_ptr<group_map>> group_map::open_file(const std::string& stream_directory,
                                                        const stream_facts& stream,
                                                        std::string_view name,
                                                        const os::tick_clock& clock,
                                                        bool writable) {
  if (!config::name_flaw(name).empty())
    return error{errc::invalid_argument, 0, "invalid group name '" + std::string(name) + "'",
                 std::string(config::name_flaw(name)), ""};
  const std::string path = group_path(stream_directory, name);
  auto found = os::open_existing(path, writable);
  if (!found) {
    if (found.error().code != errc::not_found) return std::move(found.error());
    return error{errc::not_found, 0,
                 "no group '" + std::string(name) + "' of stream '" + stream.config.name + "'",
                 "the stream has no group of that name", "bus group ls"};
  }
  if (found->bytes < layout::group_members_offset)
    return layout::corrupt(path, "it is too short: truncated");
  auto made = std::make_shared<group_map>();
  auto map = os::mapping::map(found->file.get(), 0, found->bytes, writable, false);
  if (!map) return std::move(map.error());
  made->map_ = std::move(*map);
  if (!writable) made->map_.unmap_at_once();  // an observer touches a few pages
  std::byte* at = made->map_.data();
  auto* header = reinterpret_cast<layout::group_header*>(at);
  auto checked =
      layout::check_header(header->segment, layout::segment_kind::group, found->bytes, path);
  if (!checked) return std::move(checked.error());
  layout::group_info info;
  std::memcpy(&info, &header->info, sizeof info);
  auto config = config_of(info, stream, path);
  if (!config) return std::move(config.error());
  const auto geometry = geometry_of(info);
  if (geometry.total != found->bytes)
    return layout::corrupt(path, "it has the wrong size: truncated");
  made->config_ = std::move(*config);
  auto& m = made->memory_;
  m.header = header;
  m.cursors = reinterpret_cast<layout::group_cursor*>(at + layout::group_cursors_offset);
  m.pins = at + layout::group_pins_offset;
  m.members = reinterpret_cast<layout::group_member*>(at + layout::group_members_offset);
  m.settled = reinterpret_cast<layout::group_settled*>(at + geometry.settled);
  m.timers = reinterpret_cast<layout::group_timer*>(at + geometry.timers);
  m.key_index = reinterpret_cast<base::field32*>(at + geometry.key_index);
  m.keys = reinterpret_cast<layout::group_key*>(at + geometry.keys);
  m.slots = reinterpret_cast<layout::group_slot*>(at + geometry.slots);
  m.details = reinterpret_cast<layout::group_slot_details*>(at + geometry.details);
  m.chain = reinterpret_cast<base::field32*>(at + geometry.chain);
  m.blocks = at + geometry.blocks;
  m.slot_count = info.slot_count;
  m.member_count = info.member_count;
  m.key_capacity = info.key_capacity;
  m.key_count = layout::group_geometry::keys_of(info.slot_count, info.key_capacity);
  m.key_number_mask = group::key_table::number_mask(m.key_count);
  m.block_count = info.block_count;
  m.epoch = info.group_epoch;
  m.rules = rules_of(made->config_, clock);
  made->path_ = path;
  made->id_ = found->id;
  made->file_ = std::move(found->file);
  made->blocks_offset_ = geometry.blocks;
  made->reader_entry_ = layout::pack_reader(layout::group_reader, info.ordinal);
  return made;
}

result<std::uint32_t> group_map::reserve_blocks(std::uint32_t from, std::uint32_t count) const {
  count = std::min(std::max(count, first_blocks),
                   memory_.block_count - std::min(from, memory_.block_count));
  if (count == 0) return std::uint32_t{0};
  auto reserved = os::reserve(
      file_.get(), blocks_offset_ + std::uint64_t{from} * layout::group_block_bytes,
      std::uint64_t{count} * layout::group_block_bytes, "the group '" + config_.name + "'");
  if (!reserved) return std::move(reserved.error());
  return count;
}

result<void> announce_groups(const std::string& stream_directory, const stream_facts& stream,
                             std::uint32_t lane) {
  if (lane >= layout::group_lanes_max) return {};
  const auto names = list_groups(stream_directory);
  if (!names) return names.error();
  if (names->empty()) return {};
  const auto map = lane_map::open(stream_directory, stream, lane, false, false);
  if (!map) return map.error();
  for (const std::string& name : *names) {
    // The clock does not matter here.
    const auto group = group_map::open(stream_directory, stream, name, os::tick_clock());
    if (!group && group.error().code == errc::no_space) return group.error();
    if (!group) continue;  // removed or damaged: it does not count
    auto& pin = (*group)->pin(lane);
    if (sync::load_relaxed((*group)->memory().cursors[lane].attached) != 0) continue;
    sync::store_relaxed(pin.lane_key, (*map)->lane_key());
    sync::store_relaxed(pin.cursor, 0);
    sync::store_release(pin.state, ring::pin_gating);
    if (!is_announced(**map, (*group)->reader_entry()))
      (void)announce_reader(**map, (*group)->reader_entry(), [](std::uint32_t) { return false; });
    sync::reach(sync::failpoint::group_announced);
  }
  return {};
}

}  // namespace bus::registry
