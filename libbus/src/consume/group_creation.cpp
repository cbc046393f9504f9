#include <algorithm>
#include <climits>

#include "config/check.hpp"
#include "consume/group_control.hpp"
#include "os/files.hpp"
#include "os/futex.hpp"
#include "registry/reader_table.hpp"

namespace bus::consume {

result<void> create_group(session_core& session, registry::stream_handle& stream,
                          const group_config& config) {
  auto checked = config::check_group(config, stream.facts().config);
  if (!checked) return checked;
  if (config.deliver.at == start::kind::from_last_per_subject)
    return error{errc::unsupported, 0, "cannot create the group '" + config.name + "'",
                 "deliver=last_per_subject is for subscribers", "use all, new, last or a sequence"};
  auto lock = session.directory->lock_changes();
  if (!lock) return std::move(lock.error());
  if (os::exists(registry::group_path(stream.directory(), config.name)))
    return error{errc::conflict, 0, "cannot create the group '" + config.name + "'",
                 "it already exists", "bus group info " + stream.name() + " " + config.name};
  if (config.dead_letters) {
    stream_config dead_letters;
    dead_letters.name = dead_letter_stream(stream.name(), config.name);
    dead_letters.subjects = {std::string(registry::dead_letter_subjects) + stream.name() + "." +
                             config.name};
    dead_letters.overflow = overflow::drop_oldest;  // for readers; nothing is overwritten
    dead_letters.max_message_bytes = stream.facts().config.max_message_bytes;
    dead_letters.max_subjects = 1024;
    dead_letters.max_readers = 64;
    dead_letters.ring_bytes = 8ull << 20;
    while (dead_letters.ring_bytes / layout::largest_record_share <
           dead_letters.max_message_bytes + layout::header_area_max_bytes + 4096)
      dead_letters.ring_bytes *= 2;
    registry::create_params with = session.directory->new_create_params();
    with.sealed = true;  // nobody but the group writes there
    auto made = session.directory->add_stream(dead_letters, with);
    if (!made && made.error().code != errc::conflict) return made;
    auto opened = session.stream(dead_letters.name);
    if (!opened) return std::move(opened.error());
    auto interned =
        (*opened)->intern(dead_letters.subjects.front(), session.me->lock_word(), *session.peers);
    if (!interned) return std::move(interned.error());
  }
  return registry::create_group_file(stream.directory(), stream.facts(), config,
                                     session.directory->bus_id());
}

namespace {

// Of groups whose file cannot be opened, or is gone: nobody would ever let publishers go on.
void withdraw_lost_groups(registry::stream_handle& stream) {
  const auto names = registry::list_groups(stream.directory());
  if (!names) return;
  std::vector<std::uint64_t> known;
  for (const std::string& name : *names)
    if (auto map =
            registry::group_map::open(stream.directory(), stream.facts(), name, os::tick_clock()))
      known.push_back((*map)->reader_entry());
  for (std::uint32_t lane = 0; lane < stream.lane_count(); ++lane) {
    const auto opened = stream.lane(lane, false);
    if (!opened) continue;
    for (std::uint32_t i = 0; i < (*opened)->reader_entries(); ++i) {
      const std::uint64_t seen = sync::load_acquire((*opened)->reader_entry(i));
      if (layout::is_group_reader(seen) && std::ranges::find(known, seen) == known.end())
        sync::replace((*opened)->reader_entry(i), seen, 0);
    }
  }
}

}  // namespace

result<void> remove_group(session_core& session, registry::stream_handle& stream,
                          std::string_view name) {
  auto lock = session.directory->lock_changes();
  if (!lock) return std::move(lock.error());
  auto map = registry::group_map::open(stream.directory(), stream.facts(), name,
                                       session.directory->clock());
  if (!map && map.error().code == errc::not_found) return std::move(map.error());
  os::remove_file(registry::group_path(stream.directory(), name));
  if (map) {
    auto& header = (*map)->header();
    sync::store_release(header.closed, 1);
    for (std::uint32_t lane = 0; lane < stream.lane_count(); ++lane)
      if (auto opened = stream.lane(lane, false)) {
        registry::withdraw_reader(**opened, (*map)->reader_entry());
        auto& pin = (*map)->pin(lane);
        sync::store_release(pin.state, ring::pin_free);
        sync::bump_release(pin.tick);
        os::futex_wake(os::futex_half(pin.tick), INT_MAX);
      }
    sync::add_release(header.bell, 1);
    os::futex_wake(os::futex_half(header.bell), INT_MAX);
  } else {
    withdraw_lost_groups(stream);
  }
  const std::string dead_letters = dead_letter_stream(stream.name(), name);
  if (os::exists(session.directory->stream_path(dead_letters)))
    return session.directory->remove_stream(dead_letters);
  return {};
}

}  // namespace bus::consume
