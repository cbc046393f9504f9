#include <bus/session.hpp>
#include <bus/version.hpp>

#include <algorithm>

#include "config/check.hpp"
#include "consume/consumer_core.hpp"
#include "consume/group_control.hpp"
#include "inspect/group_view.hpp"
#include "inspect/statistics.hpp"
#include "layout/group.hpp"
#include "os/random.hpp"
#include "publish/publisher_core.hpp"
#include "registry/keeper_link.hpp"
#include "registry/lane_problems.hpp"
#include "registry/session_core.hpp"
#include "subscribe/subscriber_core.hpp"
#include "sync/failpoint.hpp"
#include "sync/words.hpp"
#include "wire/keeper_status.hpp"
#include "wire/stream_json.hpp"

namespace bus {

result<session> session::open(session_options options) {
  auto core = session_core::open(options);
  if (!core) return std::move(core.error());
  (*core)->release_idle_group = &consume::release_idle_group;
  return session(std::move(*core));
}

session::session(std::shared_ptr<session_core> core) noexcept : core_(std::move(core)) {}
session::session(session&&) noexcept = default;
session& session::operator=(session&&) noexcept = default;
session::~session() = default;

std::string_view session::name() const noexcept { return core_->address.name; }
std::string_view session::directory() const noexcept { return core_->directory->path(); }

result<bus::publisher> session::publisher(std::string_view subject, publisher_options options) {
  if (!core_->guard.same_process()) return core_->forked_error();
  if (!core_->me) return core_->guest_error();
  auto core = publisher_core::make(core_, subject, std::move(options));
  if (!core) return std::move(core.error());
  return bus::publisher(std::move(*core));
}

result<subscriber> session::subscribe(std::span<const std::string_view> patterns,
                                      subscriber_options options) {
  if (!core_->guard.same_process()) return core_->forked_error();
  if (!core_->me) return core_->guest_error();
  auto core = subscriber_core::make(core_, patterns, std::move(options));
  if (!core) return std::move(core.error());
  return subscriber(std::move(*core));
}

result<bus::consumer> session::consume(std::string_view subject, consumer_options options) {
  if (!core_->guard.same_process()) return core_->forked_error();
  if (!core_->me) return core_->guest_error();
  auto core = consumer_core::make(core_, subject, std::move(options));
  if (!core) return std::move(core.error());
  return bus::consumer(std::move(*core));
}

result<void> session::add_group(const group_config& config) {
  if (!core_->guard.same_process()) return core_->forked_error();
  if (!core_->me) return core_->guest_error();
  auto stream = core_->stream(config.stream);
  if (!stream) return std::move(stream.error());
  auto made = consume::create_group(*core_, **stream, config);
  if (!made) return made;
  // Entered at once: what is published from now on is for it.
  auto opened = consume::group_handle::open(*core_, *stream, config.name);
  if (!opened) return std::move(opened.error());
  return {};
}

result<void> session::remove_group(std::string_view stream, std::string_view group) {
  if (!core_->guard.same_process()) return core_->forked_error();
  auto handle = core_->stream(std::string(stream));
  if (!handle) return std::move(handle.error());
  auto removed = consume::remove_group(*core_, **handle, group);
  handle->reset();
  (void)core_->streams();
  core_->directory->fill_reserve();
  return removed;
}

namespace {

// Opens the group to change it.
template <class Act>
auto with_group(const std::shared_ptr<session_core>& core, std::string_view stream,
                std::string_view group, Act&& act)
    -> decltype(act(std::declval<consume::group_handle&>())) {
  if (!core->guard.same_process()) return core->forked_error();
  auto opened = consume::open_group(*core, stream, group);
  if (!opened) return std::move(opened.error());
  return act(**opened);
}

// Opens the group to look at it.
template <class Look>
auto view_group(const std::shared_ptr<session_core>& core, std::string_view stream,
                std::string_view group, Look&& look)
    -> result<std::decay_t<decltype(look(std::declval<inspect::group_view&>()))>> {
  if (!core->guard.same_process()) return core->forked_error();
  auto opened = inspect::group_view::open(*core, stream, group);
  if (!opened) return std::move(opened.error());
  return look(**opened);
}

}  // namespace

result<void> session::pause_group(std::string_view stream, std::string_view group,
                                  std::optional<std::chrono::nanoseconds> time) {
  return with_group(core_, stream, group, [&](auto& g) { return consume::pause_group(g, time); });
}
result<void> session::resume_group(std::string_view stream, std::string_view group) {
  return with_group(core_, stream, group, [&](auto& g) { return consume::resume_group(g); });
}
result<std::uint32_t> session::repair_group(std::string_view stream, std::string_view group) {
  if (core_->guard.same_process() && !core_->me) return core_->guest_error();
  return with_group(core_, stream, group, [&](auto& g) { return consume::repair_group(g); });
}
result<std::uint64_t> session::drop_dead_letters(std::string_view stream, std::string_view group,
                                                 std::uint64_t sequence) {
  if (core_->guard.same_process() && !core_->me) return core_->guest_error();
  return with_group(core_, stream, group,
                    [&](auto& g) { return consume::drop_dead_letters(g, sequence); });
}

result<group_info> session::group(std::string_view stream, std::string_view group) const {
  return view_group(core_, stream, group, [](auto& g) { return g.describe(); });
}
result<std::vector<pending_message>> session::pending(std::string_view stream,
                                                      std::string_view group,
                                                      std::size_t max) const {
  if (!core_->guard.same_process()) return core_->forked_error();
  auto opened = inspect::group_view::open(*core_, stream, group);
  if (!opened) return std::move(opened.error());
  return (*opened)->pending(max);
}
result<std::vector<peeked_message>> session::peek(std::string_view stream, std::string_view group,
                                                  std::size_t max) const {
  return view_group(core_, stream, group, [&](auto& g) { return g.peek(max); });
}
result<std::vector<dead_letter>> session::dead_letters(std::string_view stream,
                                                       std::string_view group, std::uint64_t from,
                                                       std::size_t max) const {
  if (!core_->guard.same_process()) return core_->forked_error();
  auto opened = inspect::group_view::open(*core_, stream, group);
  if (!opened) return std::move(opened.error());
  return (*opened)->dead_letters(from, max);
}

result<std::vector<group_info>> session::groups(std::string_view stream) const {
  if (!core_->guard.same_process()) return core_->forked_error();
  std::vector<group_info> all;
  bool found = stream.empty();
  for (const auto& handle : core_->streams()) {
    if (!stream.empty() && handle->name() != stream) continue;
    found = true;
    auto names = registry::list_groups(handle->directory());
    if (!names) return std::move(names.error());
    for (const std::string& name : *names) {
      auto info = group(handle->name(), name);
      if (!info && info.error().code == errc::not_found) continue;  // removed this moment
      if (!info) {  // one that is broken hides no other
        group_info broken;
        broken.config.stream = handle->name();
        broken.config.name = name;
        broken.damaged = true;
        broken.why = {info.error().message()};
        all.push_back(std::move(broken));
        continue;
      }
      all.push_back(std::move(*info));
    }
  }
  if (!found)
    return error{errc::not_found, 0, "no stream '" + std::string(stream) + "'",
                 "this bus has no stream of that name", "bus stream ls"};
  return all;
}

result<void> session::add_stream(const stream_config& config) {
  if (!core_->guard.same_process()) return core_->forked_error();
  auto made = core_->add_stream(config);
  if (made || made.error().code != errc::conflict) return made;
  auto existing = core_->stream(config.name);
  if (!existing) return made;
  const stream_config& there = (*existing)->facts().config;
  std::string differences;
  const auto differs = [&](bool yes, const char* field) {
    if (yes) differences += (differences.empty() ? "" : ", ") + std::string(field);
  };
  differs(there.subjects != config.subjects, "subjects");
  differs(there.overflow != config.overflow, "overflow");
  differs(there.mode != config.mode || there.lanes != config.lanes, "lanes");
  differs(there.ring_bytes != config.ring_bytes, "ring_bytes");
  differs(there.max_message_bytes != config.max_message_bytes, "max_message_bytes");
  differs(there.send_timeout != config.send_timeout, "send_timeout");
  differs(there.max_subjects != config.max_subjects, "max_subjects");
  differs(there.max_readers != config.max_readers, "max_readers");
  differs(there.ephemeral != config.ephemeral, "ephemeral");
  differs(there.storage != config.storage, "storage");
  if (there.storage != storage_class::memory) {
    differs(there.fsync != config.fsync, "fsync");
    differs(there.fsync_interval != config.fsync_interval, "fsync_interval");
    differs(there.segment_bytes != config.segment_bytes, "segment_bytes");
    differs(there.max_age != config.max_age, "max_age");
    differs(there.max_bytes != config.max_bytes, "max_bytes");
    differs(there.max_messages != config.max_messages, "max_messages");
    differs(there.max_messages_per_subject != config.max_messages_per_subject,
            "max_messages_per_subject");
    differs(there.compress != config.compress, "compress");
  }
  if (differences.empty()) return {};
  made.error().why = "it already exists and differs in " + differences;
  return made;
}

result<void> session::remove_stream(std::string_view name) {
  if (!core_->guard.same_process()) return core_->forked_error();
  return core_->remove_stream(name);
}

result<unsigned> session::repair_stream(std::string_view name) {
  if (!core_->guard.same_process()) return core_->forked_error();
  if (!core_->me) return core_->guest_error();
  auto stream = core_->stream(std::string(name));
  if (!stream) return std::move(stream.error());
  return registry::repair_lanes(*core_, **stream);
}

std::vector<error> session::troubles() const {
  return core_->guard.same_process() ? registry::find_lane_problems(*core_) : std::vector<error>();
}

result<void> session::edit_stream(const stream_config& config) {
  if (!core_->guard.same_process()) return core_->forked_error();
  return core_->request_from_keeper({{"do", "edit_stream"}, {"stream", wire::to_json(config)}});
}

result<void> session::purge_stream(std::string_view name, std::uint64_t below) {
  if (!core_->guard.same_process()) return core_->forked_error();
  return core_->request_from_keeper({{"do", "purge_stream"}, {"name", name}, {"below", below}});
}

result<void> session::seal_stream(std::string_view name, bool sealed) {
  if (!core_->guard.same_process()) return core_->forked_error();
  return core_->request_from_keeper({{"do", "seal_stream"}, {"name", name}, {"sealed", sealed}});
}

result<backup_counts> session::restore_stream(std::string_view name, std::string_view directory,
                                              bool damaged_too) {
  if (!core_->guard.same_process()) return core_->forked_error();
  auto answer = core_->ask_keeper(
      {{"do", "restore_stream"}, {"name", name}, {"from", directory}, {"damaged", damaged_too}});
  if (!answer) return std::move(answer.error());
  backup_counts counts;
  counts.found = wire::number_of(*answer, "messages").value_or(0);
  counts.announced = wire::number_of(*answer, "announced").value_or(0);
  return counts;
}

result<keeper_info> session::keeper() const {
  if (!core_->guard.same_process()) return core_->forked_error();
  auto answer = core_->ask_keeper({{"do", "status"}});
  if (!answer) return std::move(answer.error());
  return wire::keeper_from_json(*answer);
}

result<stream_info> session::stream(std::string_view name) const {
  if (!core_->guard.same_process()) return core_->forked_error();
  auto handle = core_->stream(std::string(name));
  if (!handle) return std::move(handle.error());
  return inspect::describe_stream(*core_, **handle);
}

result<std::vector<stream_info>> session::streams() const {
  if (!core_->guard.same_process()) return core_->forked_error();
  if (core_->directory->removed()) return core_->directory->removed_error();
  std::vector<stream_info> all;
  for (auto& handle : core_->streams()) {
    auto info = inspect::describe_stream(*core_, *handle);
    if (info) all.push_back(std::move(*info));
  }
  return all;
}

std::vector<error> session::broken_streams() const {
  std::vector<error> broken;
  if (!core_->guard.same_process()) return broken;
  for (auto& handle : core_->streams(&broken)) {
    auto info = inspect::describe_stream(*core_, *handle);
    if (info || !os::exists(handle->directory() + "/stream")) continue;  // removed this moment
    broken.push_back(std::move(info.error()));
    if (broken.back().fix.empty())
      broken.back().fix = "find out what deletes its files; then add it again under another name";
  }
  return broken;
}

result<std::vector<process_info>> session::processes() const {
  if (!core_->guard.same_process()) return core_->forked_error();
  return inspect::describe_processes(*core_);
}

const char* library_version() noexcept { return BUS_VERSION; }

result<std::string> root_of(std::string_view url) {
  auto address = registry::parse_url(url);
  if (!address) return std::move(address.error());
  return address->root.empty() ? os::bus_root() : std::move(address->root);
}

std::vector<std::string> list_buses(std::string_view root) {
  std::vector<std::string> names;
  const std::string mine = "bus-" + std::to_string(os::user_id()) + ".";
  const std::string at = root.empty() ? os::bus_root() : std::string(root);
  if (const auto found = os::list_directory(at)) {
    for (const std::string& name : *found) {
      if (!name.starts_with(mine) || !config::name_flaw(name.substr(mine.size())).empty()) continue;
      // What another user made under such a name is not ours.
      std::uint32_t owner = 0;
      unsigned mode = 0;
      if (os::directory_owner(at + "/" + name, owner, mode) && owner == os::user_id())
        names.push_back(name.substr(mine.size()));
    }
  }
  std::sort(names.begin(), names.end());
  return names;
}

result<void> remove_bus(std::string_view url, bool force) {
  auto address = registry::parse_url(url);
  if (!address) return std::move(address.error());
  const std::string path = address->directory();
  if (!os::exists(path))
    return error{errc::not_found, 0, "no bus '" + address->name + "'", path + " does not exist",
                 "bus ls"};
  // Nothing of another user's is written to, or followed.
  if (auto checked = registry::check_parents(*address); !checked) return checked;
  auto lock = os::file_lock::take(path + "/lock", 0600, std::chrono::seconds(5));
  if (!lock) return std::move(lock.error());
  registry::process_table peers(path + "/processes", os::self(), 0);
  if (!force) {
    for (const std::uint32_t id : peers.ids()) {
      if (peers.state(id) == sync::life_state::alive)
        return error{errc::busy, 0, "cannot remove the bus '" + address->name + "'",
                     peers.describe(id) + " is using it",
                     "end its processes (bus ps), or use --force"};
    }
  }
  const auto mapped = registry::bus_directory::look(*address);  // not when it is broken
  // Out of the way first: an opener sees all of it or nothing.
  const std::string aside = path + ".removed." + std::to_string(os::random_id());
  auto renamed = os::rename_path(path, aside);
  if (!renamed) return renamed;
  if (mapped) (*mapped)->announce_removal(aside);
  os::remove_tree(aside);
  return {};
}

}  // namespace bus
