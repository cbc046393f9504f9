#include "streams/keeper.hpp"

#include <spdlog/spdlog.h>
#include <unistd.h>

#include <bus/version.hpp>

#include "config/check.hpp"
#include "os/files.hpp"
#include "os/random.hpp"

namespace bus::streams {

namespace {

error no_such(const std::string& name) {
  return {errc::not_found, 0, "no stream '" + name + "' with a log",
          "this busd keeps no stream of that name", "bus stream ls"};
}

const char* name_of(layout::log_health health) {
  return health == layout::log_health::good   ? "good"
         : health == layout::log_health::full ? "full"
                                              : "failed";
}

}  // namespace

keeper::keeper(std::shared_ptr<session_core> session, storage::engine& engine,
               std::string directory)
    : session_(session),
      engine_(engine),
      directory_(directory),
      opener_(std::move(session), engine, std::move(directory)),
      admin_([this] { return between(); }) {}

result<void> keeper::order(const std::function<result<void>()>& what) {
  result<void> outcome;
  const bool done = admin_.run([&] {
    outcome = what();
    note_known();
  });
  if (!done)
    return error{errc::closed, 0, "busd cannot carry out the request", "it is stopping",
                 "start busd again"};
  return outcome;
}

admin::clock::time_point keeper::between() {
  const auto next = opener_.try_again();
  note_known();
  return next;
}

void keeper::note_known() {
  known now;
  now.recovery = recovery_;
  now.problems = opener_.problems();
  for (const auto& [name, entry] : opener_.streams()) {
    if (entry.held) now.problems.push_back(entry.held->message());
    now.logs.insert(now.logs.end(), entry.logs.begin(), entry.logs.end());
  }
  const std::lock_guard guard(mutex_);
  std::swap(known_, now);
}

result<void> keeper::start() {
  return order([&] {
    const auto begin = std::chrono::steady_clock::now();
    auto outcome = opener_.start();
    recovery_ = std::chrono::steady_clock::now() - begin;
    return outcome;
  });
}

result<void> keeper::add_stream(const stream_config& config) {
  if (auto checked = config::check_config(config); !checked) return checked;
  if (config.max_message_bytes + 64 * 1024 > engine_.buffers().buffer_bytes())
    return error{errc::invalid_argument, 0, "cannot add the stream '" + config.name + "'",
                 "the buffers of busd hold at most " +
                     std::to_string(engine_.buffers().buffer_bytes()) + " bytes",
                 "use a smaller --max-message-bytes, or set buffer_bytes of busd higher"};
  auto outcome = order([&] { return add(config); });
  if (outcome)
    spdlog::info("stream {}: added, storage {}", config.name, storage_name(config.storage));
  return outcome;
}

// The functions without _stream in their names run in the admin's thread.
result<void> keeper::add(const stream_config& config) {
  auto possible = opener_.check_resources(config.name, registry::lanes_when_created(config));
  if (!possible) return possible;
  definition made;
  made.config = config;
  made.stream_id = os::random_id();
  made.lanes = registry::lanes_when_created(config);
  {
    auto lock = session_->directory->lock_changes();
    if (!lock) return std::move(lock.error());
    auto free_to = session_->directory->check_new_stream(config);
    if (!free_to) return free_to;
    auto added_log =
        opener_.logs().add(made, least_high_water(config), opener_.options_for(config));
    if (!added_log) return added_log;
    registry::create_params with = session_->directory->new_create_params();
    with.stream_id = made.stream_id;
    with.log_directory = opener_.logs().directory_of(config.name);
    auto added = session_->directory->add_stream(config, with);
    if (!added) {
      (void)opener_.logs().remove(config.name);
      return added;
    }
  }
  auto opened = opener_.open(made);
  if (!opened) opener_.take_back(config.name, made.stream_id);
  return opened;
}

result<void> keeper::edit_stream(const stream_config& config) {
  return order([&] { return edit(config); });
}

result<void> keeper::edit(const stream_config& config) {
  const auto found = opener_.streams().find(config.name);
  if (found == opener_.streams().end()) return no_such(config.name);
  if (auto checked = config::check_config(config); !checked) return checked;
  const stream_config& there = found->second.made.config;
  std::string fixed;
  const auto same = [&](bool yes, const char* field) {
    if (!yes) fixed += (fixed.empty() ? "" : ", ") + std::string(field);
  };
  same(there.subjects == config.subjects, "subjects");
  same(there.overflow == config.overflow, "overflow");
  same(there.mode == config.mode && there.lanes == config.lanes, "lanes");
  same(there.ring_bytes == config.ring_bytes, "ring_bytes");
  same(there.max_message_bytes == config.max_message_bytes, "max_message_bytes");
  same(there.max_subjects == config.max_subjects, "max_subjects");
  same(there.max_readers == config.max_readers, "max_readers");
  same(there.storage == config.storage, "storage");
  same(there.segment_bytes == config.segment_bytes, "segment_bytes");
  if (!fixed.empty())
    return error{errc::invalid_argument, 0, "cannot edit the stream '" + config.name + "'",
                 "these can only be set when it is created: " + fixed,
                 "create another stream and copy the messages: bus record, bus replay"};
  definition changed = found->second.made;
  changed.config = config;
  storage::engine::loggers lanes;
  result<void> outcome;
  // fsync=batch promises that everything in the log is synced.
  if (there.fsync != fsync_policy::batch && config.fsync == fsync_policy::batch) {
    lanes = engine_.detach(config.name);
    for (auto& lane : lanes)
      if (outcome) outcome = lane->sync();
  }
  if (outcome) outcome = opener_.change(changed);
  if (outcome) {
    found->second.made = changed;
    if (lanes.empty()) lanes = engine_.detach(config.name);
    for (auto& lane : lanes) lane->set_config(config);
  }
  engine_.attach(std::move(lanes));
  return outcome;
}

result<void> keeper::remove_stream(const std::string& name) {
  std::string aside;
  auto outcome = order([&] { return remove(name, aside); });
  // The space is free when this returns, unless the log is very large. Other orders continue
  // meanwhile.
  if (outcome && !aside.empty()) engine_.closer().remove(aside, std::chrono::seconds(2));
  return outcome;
}

// Removes the ring of a stream whose log was lost: its removal was interrupted, or its files were
// deleted.
result<void> keeper::remove_ring(const std::string& name) {
  auto lock = session_->directory->lock_changes();
  if (!lock) return std::move(lock.error());
  const std::string ring_path = session_->directory->stream_path(name);
  const auto facts = registry::read_stream_file(ring_path);
  const std::string path = opener_.logs().directory_of(name);
  if (!facts || facts->config.storage == storage_class::memory ||
      os::link_target(ring_path + "/log") != path || !os::surely_missing(path))
    return no_such(name);
  auto removed = session_->directory->remove_stream(name);
  if (removed) spdlog::info("stream {}: removed; its log was missing", name);
  return removed;
}

result<void> keeper::remove(const std::string& name, std::string& aside) {
  const auto found = opener_.streams().find(name);
  if (found == opener_.streams().end()) return remove_ring(name);
  storage::engine::loggers lanes;
  {
    auto lock = session_->directory->lock_changes();
    if (!lock) return std::move(lock.error());
    lanes = engine_.detach(name);  // from here on nothing is written below the stream's name
    // The log first: a stream without a ring is recreated, one without a log would lose its
    // messages.
    auto outcome = opener_.logs().set_aside(name);
    if (!outcome && outcome.error().code != errc::not_found) {
      engine_.attach(std::move(lanes));
      return outcome;
    }
    outcome = session_->directory->remove_stream(name);
    if (!outcome && outcome.error().code != errc::not_found) {
      if (auto back = opener_.logs().put_back(name); back)
        engine_.attach(std::move(lanes));
      else
        opener_.note_problem(std::move(back.error()));
      return outcome;
    }
  }
  // Outside the lock: this takes longer the larger the log is, and others may change the bus.
  opener_.streams().erase(found);
  note_known();
  opener_.let_go(std::move(lanes));
  aside = opener_.logs().let_go_of_aside(name);
  spdlog::info("stream {}: removed", name);
  return {};
}

result<void> keeper::purge_stream(const std::string& name, std::uint64_t below) {
  auto outcome = order([&] { return purge(name, below); });
  if (outcome) spdlog::info("stream {}: purged", name);
  return outcome;
}

result<void> keeper::purge(const std::string& name, std::uint64_t below) {
  const auto found = opener_.streams().find(name);
  if (found == opener_.streams().end()) return no_such(name);
  if (found->second.held) return *found->second.held;
  result<void> outcome;
  auto lanes = engine_.detach(name);
  for (auto& lane : lanes) {
    auto purged = lane->purge(below);
    if (!purged) outcome = std::move(purged);
  }
  engine_.attach(std::move(lanes));
  return outcome;
}

result<void> keeper::seal_stream(const std::string& name, bool sealed) {
  return order([&] { return seal(name, sealed); });
}

result<void> keeper::seal(const std::string& name, bool sealed) {
  const auto found = opener_.streams().find(name);
  if (found == opener_.streams().end()) return no_such(name);
  definition changed = found->second.made;
  changed.sealed = sealed;
  auto outcome = opener_.change(changed);
  if (outcome) found->second.made = changed;
  return outcome;
}

result<void> keeper::check_free(const stream_config& config) {
  auto lock = session_->directory->lock_changes();
  if (!lock) return std::move(lock.error());
  return session_->directory->check_new_stream(config);
}

// The backup is a user's: reading it may take long, or never end. It is read in the caller's
// thread, so that only the caller waits.
result<backup_counts> keeper::restore_stream(const std::string& name, const std::string& from,
                                             bool damaged_too) {
  if (!from.starts_with("/"))
    return error{errc::invalid_argument, 0, "cannot restore from '" + from + "'",
                 "the path is relative", "give an absolute path"};
  auto counts = check_backup(from);
  if (!counts) return counts;
  if (!counts->wrong.empty() && !damaged_too)
    return error{errc::corrupt, 0, "cannot restore from " + from,
                 std::to_string(counts->found) + " of " + std::to_string(counts->announced) +
                     " messages can be read: " + counts->wrong.front() +
                     (counts->wrong.size() > 1
                          ? " (and " + std::to_string(counts->wrong.size() - 1) + " more)"
                          : ""),
                 "use another backup, or restore what can be read: bus stream restore --damaged"};
  auto found = opener_.logs().read(from);
  if (!found) return std::move(found.error());
  definition made = std::move(*found);
  made.config.name = name;
  // The messages are a copy: a position in the original must never mean one in the copy.
  made.stream_id = os::random_id();
  if (auto free_to = order([&] { return check_free(made.config); }); !free_to)
    return std::move(free_to.error());
  const std::string building = opener_.logs().building_for(made);
  auto copied = copy_log(from, building);
  if (!copied) return std::move(copied.error());
  counts->found = copied->messages();
  if (auto owned = opener_.logs().make_own(building, made); !owned) return std::move(owned.error());
  auto outcome = order([&] { return open_restored(building, made); });
  if (!outcome) {
    opener_.logs().forget(building);  // does nothing if it has its name already
    return std::move(outcome.error());
  }
  spdlog::info("stream {}: restored from {}, {} of {} messages", name, from, counts->found,
               counts->announced);
  return counts;
}

result<void> keeper::open_restored(const std::string& building, const definition& made) {
  auto outcome = check_free(made.config);  // again: another stream may have been added since
  if (outcome) outcome = opener_.check_resources(made.config.name, made.lanes);
  if (outcome) outcome = opener_.logs().adopt(building, made);
  if (!outcome) return outcome;
  outcome = opener_.open(made);
  if (!outcome) opener_.take_back(made.config.name, made.stream_id);
  return outcome;
}

result<void> keeper::add_lane(const std::string& name, std::uint32_t lane) {
  return order([&] { return add_one_lane(name, lane); });
}

result<void> keeper::add_one_lane(const std::string& name, std::uint32_t lane) {
  const auto found = opener_.streams().find(name);
  if (found == opener_.streams().end()) return no_such(name);
  opener::kept_stream& stream = found->second;
  if (stream.held) return *stream.held;
  if (lane != stream.made.lanes)
    return lane < stream.made.lanes
               ? error{errc::conflict, 0, "cannot add a lane", "the lane exists", ""}
               : error{errc::invalid_argument, 0, "cannot add a lane",
                       "a lane before it is missing", ""};
  if (lane >= stream.made.config.lanes)
    return error{errc::invalid_argument, 0, "cannot add a lane to the stream '" + name + "'",
                 "it has all " + std::to_string(stream.made.config.lanes) + " lanes", ""};
  const auto outcome = [&]() -> result<void> {
    auto possible = opener_.check_resources(name, 1);
    if (!possible) return possible;
    definition changed = stream.made;
    changed.lanes = lane + 1;
    auto log = opener_.logs().add_lane(changed, least_high_water(changed.config),
                                       opener_.options_for(changed.config));
    if (!log) return std::move(log.error());
    {
      auto lock = session_->directory->lock_changes();
      if (!lock) return std::move(lock.error());
      const auto facts = registry::read_stream_file(session_->directory->stream_path(name));
      if (!facts) return facts.error();
      auto added = session_->directory->add_lane(*facts, lane);
      if (!added && added.error().code != errc::conflict) return added;
    }
    stream.made = changed;
    return opener_.open_lane(stream, lane, std::move(*log));
  }();
  // The lane may exist without a log: nothing is published to it until the log is opened.
  if (!outcome && stream.made.lanes == lane + 1) {
    opener_.let_go(name);  // a log has one writer
    (void)opener_.open_or_hold(definition(stream.made));
  }
  return outcome;
}

keeper_info keeper::status() {
  known now;
  {
    const std::lock_guard guard(mutex_);
    now = known_;
  }
  keeper_info info;
  info.pid = ::getpid();
  info.version = BUS_VERSION;
  info.data_directory = directory_;
  info.started = started_;
  info.recovery = now.recovery;
  info.problems = std::move(now.problems);
  info.disk = engine_.disk().name();
  const auto space = engine_.space();
  info.disk_total_bytes = space.total_bytes;
  info.disk_free_bytes = space.free_bytes;
  for (const auto& facts : now.logs) {
    log_info one;
    one.stream = facts->stream;
    one.lane = facts->lane;
    one.health = name_of(facts->health);
    one.first_sequence = facts->first_seq;
    one.written_sequence = facts->written_seq;
    one.durable_sequence = facts->durable_seq;
    one.segments = facts->segments;
    one.bytes = facts->bytes;
    one.bytes_written = facts->bytes_written;
    one.commits = facts->commits;
    one.recovery_bytes_read = facts->recovery_bytes_read;
    one.recovery_rewritten = facts->recovery_rewritten;
    one.damages = facts->damages;
    info.logs.push_back(std::move(one));
  }
  return info;
}

}  // namespace bus::streams
