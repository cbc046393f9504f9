#include "streams/keeper.hpp"

#include <spdlog/spdlog.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include <bus/log_files.hpp>

#include "client/keeper_link.hpp"
#include "os/files.hpp"
#include "os/random.hpp"
#include "wire/stream_json.hpp"

namespace bus::streams {

namespace {

error no_such(const std::string& name) {
  return {errc::not_found, 0, "no stream '" + name + "' with a log",
          "this busd keeps none of that name", "bus stream ls"};
}

std::uint64_t least_high_water(const stream_config& config) {
  return 2 * config.ring_bytes / layout::record_align;
}

}  // namespace

keeper::keeper(std::shared_ptr<session_core> session, storage::engine& engine,
               std::string directory)
    : session_(std::move(session)),
      engine_(engine),
      catalog_(engine.disk(), directory),
      directory_(std::move(directory)) {
  keep_spare_files();
}

storage::log_options keeper::options_for(const stream_config& config) {
  storage::log_options options;
  options.segment_bytes = config.segment_bytes;
  if (config.max_bytes != 0)  // a limit works on whole segments
    options.segment_bytes =
        std::clamp<std::uint64_t>(config.max_bytes / 8, 1u << 20, config.segment_bytes);
  options.largest_frame_bytes = engine_.buffers().buffer_bytes();
  options.spill = config.storage == storage_class::spill;
  options.ring_messages = config.ring_bytes / layout::record_align;
  options.syncs_each = config.fsync == fsync_policy::batch;
  options.take_spare = [this](const std::string& directory, std::uint64_t bytes) {
    return engine_.spares().take(directory, bytes);
  };
  return options;
}

void keeper::note_problem(error what) {
  if (std::find(problems_.begin(), problems_.end(), what.message()) != problems_.end()) return;
  spdlog::error("{}", what.message());
  problems_.push_back(what.message());
}

result<void> keeper::start() {
  const std::lock_guard guard(mutex_);
  const auto begin = std::chrono::steady_clock::now();
  result<void> outcome;
  engine_.call([&] {
    outcome = catalog_.prepare();
    if (!outcome) return;
    std::vector<error> problems;
    auto all = catalog_.load(problems);
    if (!all) {
      outcome = std::move(all.error());
      return;
    }
    for (error& problem : problems) note_problem(std::move(problem));
    outcome = check_directory(*all);
    if (!outcome) return;
    for (const definition& made : *all) open_or_hold(made);
    hold_those_of_others();
  });
  recovery_ = std::chrono::steady_clock::now() - begin;
  return outcome;
}

// One at a time, and not while an order is carried out: who calls it has others to serve.
void keeper::tick() {
  const std::unique_lock guard(mutex_, std::try_to_lock);
  if (!guard) return;
  const auto now = std::chrono::steady_clock::now();
  const auto due = std::find_if(streams_.begin(), streams_.end(), [&](const auto& one) {
    return one.second.held && one.second.retry_at <= now;
  });
  if (due == streams_.end()) return;
  const definition made = due->second.made;
  bool opened = false;
  engine_.call([&] { opened = open_or_hold(made); });
  if (opened) spdlog::info("stream {}: its log is kept again", made.config.name);
}

// REQUIRES for what follows: in the engine's thread. One stream's trouble is no other's: what cannot be
// opened keeps its subjects, says why to its publishers, and is tried again.
bool keeper::open_or_hold(const definition& made) {
  const auto begin = std::chrono::steady_clock::now();
  auto opened = catalog_.sync_stream(made.config.name);
  if (opened) opened = restore(made);
  if (opened) return true;
  detach(made.config.name);
  kept& entry = streams_[made.config.name];
  const bool is_news = !entry.held || entry.held->message() != opened.error().message();
  constexpr auto first_wait = std::chrono::seconds(1), longest_wait = std::chrono::seconds(30);
  entry.wait = is_news ? first_wait : std::min(entry.wait * 2, longest_wait);
  if (opened.error().code == errc::no_space) entry.wait = first_wait;
  const auto now = std::chrono::steady_clock::now();
  // A disk that answers slowly is asked rarely: all other streams wait meanwhile.
  entry.retry_at = now + std::max<std::chrono::steady_clock::duration>(entry.wait, 20 * (now - begin));
  entry.made = made;
  entry.subjects.reset();
  entry.held = std::move(opened.error());
  if (entry.held->fix.empty())
    entry.held->fix = entry.held->code == errc::no_space
                          ? "free space in " + directory_ + ": busd tries again by itself"
                          : "see busd's messages; it tries again by itself";
  if (is_news) spdlog::error("{}", entry.held->message());
  if (auto held = hold(made, *entry.held); !held && is_news)
    spdlog::error("{}", held.error().message());
  return false;
}

// The stream as its publishers and readers see it while its log is not kept: the ring that there is, or
// an empty one above everything that the log can have given out; what is on the disk is read as ever.
result<void> keeper::hold(const definition& made, const error& why) {
  const std::string& name = made.config.name;
  const std::string ring_path = session_->directory->stream_path(name);
  auto lock = session_->directory->lock_changes();
  if (!lock) return std::move(lock.error());
  auto facts = client::read_stream_file(ring_path);
  if (facts && facts->stream_id == made.stream_id) {
    if (facts->held && facts->held->fix == why.fix) return {};
    facts->held = why;
    return session_->directory->change_stream(*facts);
  }
  if (!os::surely_missing(ring_path)) return {};  // another stream has the name, and `why` says so
  const std::string path = catalog_.directory_of(name);
  client::birth with = session_->directory->new_birth();
  with.stream_id = made.stream_id;
  with.epoch = made.epoch + 1;
  with.sealed = made.sealed;
  with.log_directory = path;
  with.held = why;
  for (std::uint32_t lane = 0; lane < made.lanes; ++lane) {
    auto seen = storage::lane_log::look(engine_.disk(), catalog_.lane_directory_of(name, lane),
                                        {made.stream_id, made.epoch, lane});
    if (!seen) {
      with.without_lanes = true;
      break;
    }
    with.first_seqs.push_back(seen->next_epoch_seq);
    with.logged_seqs.push_back(seen->last_seq);
  }
  auto added = session_->directory->add_stream(made.config, with);
  if (!added || with.without_lanes) return added;
  add_rings(made, with.first_seqs);
  log::subjects_found found;
  if (log::read_subjects(engine_.disk(), log::subjects_path(path), made.stream_id, found) != 0)
    return {};
  std::vector<log::known_subject> subjects;
  for (std::uint64_t id = 0; id < found.prefix_count; ++id) subjects.push_back(*found.by_id[id]);
  return intern(made, subjects);
}

// Those beyond the first of a stream with a lane per publisher.
void keeper::add_rings(const definition& made, const std::vector<std::uint64_t>& first_seqs) {
  for (std::uint32_t lane = 1; made.config.mode == lane_mode::per_publisher && lane < made.lanes;
       ++lane) {
    const auto now = client::read_stream_file(session_->directory->stream_path(made.config.name));
    if (now) (void)session_->directory->add_lane(*now, lane, first_seqs[lane]);
  }
}

// Under the ids that the log knows them by.
result<void> keeper::intern(const definition& made, const std::vector<log::known_subject>& subjects) {
  auto handle = session_->stream(made.config.name);
  if (!handle) return std::move(handle.error());
  for (std::uint64_t id = 0; id < subjects.size(); ++id) {
    const auto& subject = subjects[id];
    auto interned = (*handle)->intern(subject.text, session_->me->lock_word(), *session_->peers);
    if (!interned) return std::move(interned.error());
    if (!*interned || (*interned)->id != id)
      return error{errc::corrupt, 0, "cannot open the stream '" + made.config.name + "'",
                   "its subjects are not what they were: one is there twice",
                   "put " + log::subjects_path(catalog_.directory_of(made.config.name)) +
                       " back from a backup: nothing was changed"};
    if (subject.type != 0) (*handle)->claim_type(static_cast<std::uint32_t>(id), subject.type);
  }
  return {};
}

// Where busd kept the logs of the bus before, by the links in shared memory.
std::vector<std::pair<client::stream_facts, std::string>> keeper::streams_with_logs() {
  std::vector<std::pair<client::stream_facts, std::string>> all;
  const auto names = session_->directory->list_streams();
  if (!names) return all;
  for (const std::string& name : *names) {
    auto facts = client::read_stream_file(session_->directory->stream_path(name));
    if (facts && facts->config.storage != storage_class::memory)
      all.emplace_back(std::move(*facts),
                       os::link_target(session_->directory->stream_path(name) + "/log"));
  }
  return all;
}

// A directory that has none of the logs of this bus, while another one has: a mistake in --data would
// stop every publisher that needs a log.
result<void> keeper::check_directory(const std::vector<definition>& ours) {
  const auto there = streams_with_logs();
  if (there.empty()) return {};
  for (const auto& [facts, link] : there)
    if (std::any_of(ours.begin(), ours.end(),
                    [&](const definition& one) { return one.stream_id == facts.stream_id; }))
      return {};
  for (const auto& [facts, link] : there)
    if (auto other = catalog_.read(link); other && other->stream_id == facts.stream_id)
      return error{errc::conflict, 0, "cannot keep the bus '" + session_->address.name + "' in " + directory_,
                   "none of its " + std::to_string(there.size()) +
                       " streams with a log has it there: that of '" + facts.config.name +
                       "' is in " + link,
                   client::keeper_command(session_->address.name, link)};
  return {};
}

void keeper::hold_those_of_others() {
  for (auto& [facts, link] : streams_with_logs()) {
    const std::string& name = facts.config.name;
    if (streams_.contains(name)) continue;
    const error why{errc::unavailable, 0, "no busd keeps the log of stream '" + name + "'",
                    "this one keeps " + directory_ + ", and that log is in " + link,
                    client::keeper_command(session_->address.name, link)};
    note_problem(why);
    auto lock = session_->directory->lock_changes();
    facts.held = why;
    if (lock) (void)session_->directory->change_stream(facts);
  }
}

result<std::unique_ptr<storage::lane_log>> keeper::open_log(const definition& made,
                                                            std::uint32_t lane,
                                                            storage::recovery_report& report) {
  return storage::lane_log::open(engine_.disk(), catalog_.lane_directory_of(made.config.name, lane),
                                 {made.stream_id, made.epoch, lane}, options_for(made.config),
                                 report);
}

void keeper::tell_recovery(const std::string& name, std::uint32_t lane, const storage::lane_log& log,
                           const storage::recovery_report& report) {
  spdlog::info(
      "stream {} lane {}: sequences {} to {}, {} segments, {} bytes read, {} records "
      "written again, {} bytes of a torn end cut",
      name, lane, log.first_seq(), log.next_seq() - 1, log.segments(), report.bytes_read,
      report.rewritten, report.cut_bytes);
  if (report.unreadable_bytes != 0)
    spdlog::error(
        "stream {} lane {}: the disk cannot read {} bytes of the last segment; it stays as it is",
        name, lane, report.unreadable_bytes);
  if (report.state_damaged || report.state_rebuilt || report.bound_damaged)
    note_problem({errc::corrupt, 0,
                  "the state of stream '" + name + "' lane " + std::to_string(lane) +
                      " was damaged in " + log.directory(),
                  report.state_rebuilt ? "it was made again from the segments: what was missing at "
                                         "the end of the log before cannot be told"
                                       : "one copy of it was whole, and counts",
                  "look at the disk (dmesg)"});
  if (report.damages.empty()) return;
  std::uint64_t missing = 0;
  for (const log::damage& damage : report.damages) {
    missing += damage.missing;
    if (damage.missing != 0)
      spdlog::error("stream {} lane {}: {} messages from sequence {} on are missing", name, lane,
                    damage.missing, damage.first_seq);
    else
      spdlog::error("stream {} lane {}: {} bytes at {} are damaged, near sequence {}", name, lane,
                    damage.bytes, damage.offset, damage.first_seq);
  }
  note_problem({errc::corrupt, 0,
                "the log of stream '" + name + "' lane " + std::to_string(lane) + " is damaged",
                std::to_string(missing) + " messages are missing, in " +
                    std::to_string(report.damages.size()) + " places of " + log.directory(),
                "bus stream verify " + name + " tells where; everything else is read as before"});
}

// While shared memory is there it knows the subjects, too.
std::optional<log::known_subject> keeper::subject_of_ring(const std::string& name, bool is_there,
                                                          std::uint32_t id) {
  if (!is_there) return std::nullopt;
  auto handle = session_->stream(name);
  if (!handle) return std::nullopt;
  const auto text = (*handle)->subject_text(id);
  if (!text || text->empty()) return std::nullopt;
  return log::known_subject{std::string(*text), (*handle)->subject_type(id)};
}

result<void> keeper::restore(const definition& found) {
  definition made = found;
  const std::string path = catalog_.directory_of(made.config.name);
  const std::string ring_path = session_->directory->stream_path(made.config.name);
  auto facts = client::read_stream_file(ring_path);
  // Lost only when it is surely not there: what cannot be looked at just now still is.
  if (!facts && !os::surely_missing(ring_path)) return facts.error();
  bool is_there = facts && facts->stream_id == made.stream_id;
  if (facts && !is_there)
    return error{errc::conflict, 0, "cannot open the stream '" + made.config.name + "' of " + path,
                 "the bus has another stream of that name",
                 "record what that one has (bus record), remove it, and start busd again"};
  if (is_there && facts->held && !os::exists(client::lane_path(ring_path, 0))) {
    // Held without rings, because nothing could be said about its log. Nothing was published there.
    auto lock = session_->directory->lock_changes();
    if (!lock) return std::move(lock.error());
    if (auto removed = session_->directory->remove_stream(made.config.name, {}); !removed)
      return removed;
    is_there = false;
  }
  std::vector<std::unique_ptr<storage::lane_log>> logs;
  std::vector<storage::recovery_report> reports(made.lanes);
  std::uint64_t subjects_needed = 0;
  for (std::uint32_t lane = 0; lane < made.lanes; ++lane) {
    auto opened = open_log(made, lane, reports[lane]);
    if (!opened) return std::move(opened.error());
    tell_recovery(made.config.name, lane, **opened, reports[lane]);
    subjects_needed = std::max(subjects_needed, (*opened)->subjects());
    logs.push_back(std::move(*opened));
  }
  std::string mended;
  auto subjects = storage::subject_log::open(
      engine_.disk(), path, made.stream_id,
      made.config.storage == storage_class::spill ? 0 : subjects_needed,
      [&](std::uint32_t id) { return subject_of_ring(made.config.name, is_there, id); }, mended);
  if (!subjects) return std::move(subjects.error());
  if (!mended.empty())
    note_problem({errc::corrupt, 0, "the subjects of stream '" + made.config.name + "' were damaged",
                  mended, "look at the disk (dmesg); nothing is missing"});
  for (auto& log : logs) log->note_subjects(subjects->count());
  // Shared memory was lost, and with it whatever was not on disk: a new epoch, above every sequence
  // that anybody may have seen. The ring may have been made already, when the log could not be opened.
  const bool is_new_epoch = !is_there || (facts->held && made.epoch < facts->epoch);
  if (is_new_epoch) {
    // What an attempt before this one began is gone on with. An old stream.json may know less than the
    // logs do.
    std::uint64_t& begun_epoch = streams_[made.config.name].begun_epoch;
    for (const auto& log : logs) made.epoch = std::max(made.epoch, log->epoch());
    if (begun_epoch == 0) begun_epoch = made.epoch + 1;
    made.epoch = begun_epoch;
    auto stored = catalog_.store(made);
    if (!stored) return stored;
    for (std::uint32_t lane = 0; lane < made.lanes; ++lane) {
      auto& log = logs[lane];
      if (log->epoch() == made.epoch) continue;  // begun before, when something else failed
      // A ring that was made while the log could not be opened begins above everything.
      std::uint64_t least = 0;
      if (is_there)
        if (auto handle = session_->stream(made.config.name))
          if (auto map = (*handle)->lane(lane, false))
            least = sync::load_acquire((*map)->header().durability.first_seq);
      auto begun = log->begin_epoch(made.epoch, least);
      if (begun) begun = log->raise_high_water(log->next_seq() + least_high_water(made.config), 0);
      if (!begun) return begun;
    }
  }
  if (!is_there) {
    client::birth with = session_->directory->new_birth();
    with.stream_id = made.stream_id;
    with.epoch = made.epoch;
    with.sealed = made.sealed;
    with.log_directory = path;
    // Nobody publishes before its subjects have their ids.
    with.held = error{errc::unavailable, 0, "cannot publish to the stream '" + made.config.name + "' yet",
                      "busd opens its log", "try again"};
    for (const auto& log : logs) with.first_seqs.push_back(log->next_seq());
    auto lock = session_->directory->lock_changes();
    if (!lock) return std::move(lock.error());
    auto added = session_->directory->add_stream(made.config, with);
    if (!added) return added;
    add_rings(made, with.first_seqs);
    spdlog::info("stream {}: made again in shared memory, epoch {}", made.config.name, made.epoch);
  } else {
    // busd may keep its files elsewhere now.
    auto linked = os::make_link(ring_path + "/log", path);
    if (!linked) return linked;
    // One that was killed may have changed the log's definition, and not yet the ring's.
    if (facts->sealed != made.sealed || wire::to_json(facts->config) != wire::to_json(made.config))
      if (auto changed = change(made); !changed) note_problem(std::move(changed.error()));
    // Or have made the log of a lane, and not yet its ring.
    auto handle = session_->stream(made.config.name);
    if (!handle) return std::move(handle.error());
    for (std::uint32_t lane = (*handle)->lane_count(); lane < made.lanes; ++lane) {
      auto lock = session_->directory->lock_changes();
      if (!lock) return std::move(lock.error());
      auto added = session_->directory->add_lane(*facts, lane, logs[lane]->next_seq());
      if (!added && added.error().code != errc::conflict) return added;
    }
  }
  // Subjects are interned in an existing ring as well: its creator may have died before it did so.
  if (auto interned = intern(made, subjects->known()); !interned) return interned;
  kept& entry = streams_[made.config.name];
  entry.made = made;
  entry.subjects = std::make_shared<storage::subject_log>(std::move(*subjects));
  // All of them are ready before the first is written.
  std::vector<std::unique_ptr<storage::lane_logger>> ready;
  for (std::uint32_t lane = 0; lane < made.lanes; ++lane) {
    auto logger = prepare(entry, lane, std::move(logs[lane]), std::move(reports[lane]));
    if (!logger) return std::move(logger.error());
    ready.push_back(std::move(*logger));
  }
  if (!is_there || facts->held) {
    auto lock = session_->directory->lock_changes();
    if (!lock) return std::move(lock.error());
    facts = client::read_stream_file(ring_path);
    if (!facts) return facts.error();
    facts->held.reset();
    if (auto changed = session_->directory->change_stream(*facts); !changed) return changed;
  }
  entry.held.reset();
  entry.begun_epoch = 0;
  for (auto& logger : ready) engine_.attach(std::move(logger));
  return {};
}

result<std::unique_ptr<storage::lane_logger>> keeper::prepare(
    kept& stream, std::uint32_t lane, std::unique_ptr<storage::lane_log> log,
    storage::recovery_report report) {
  auto handle = session_->stream(stream.made.config.name);
  if (!handle) return std::move(handle.error());
  auto map = (*handle)->lane(lane, true);
  if (!map) return std::move(map.error());
  if (!report.damages.empty() || report.rewritten != 0)
    spdlog::info("stream {} lane {}: continues at sequence {}", stream.made.config.name, lane,
                 log->next_seq());
  auto logger = std::make_unique<storage::lane_logger>(
      *session_, *handle, std::move(*map), std::move(log), stream.subjects, engine_.buffers(),
      engine_.worker(), engine_.next_token());
  logger->recovered = std::move(report);
  auto taken = logger->take_over();
  if (!taken) return std::move(taken.error());
  return logger;
}

void keeper::detach(const std::string& name) {
  std::erase_if(engine_.lanes(), [&](const auto& lane) {
    if (lane->stream().name() != name) return false;
    engine_.spares().forget(lane->log().directory());
    engine_.worker().forget(lane->log().directory());
    return true;
  });
}

result<void> keeper::add_stream(const stream_config& config) {
  const std::lock_guard guard(mutex_);
  if (auto checked = client::check_config(config); !checked) return checked;
  if (2 * (config.max_message_bytes + 64 * 1024) > 2 * engine_.buffers().buffer_bytes())
    return error{errc::invalid_argument, 0, "cannot add the stream '" + config.name + "'",
                 "busd writes at most " + std::to_string(engine_.buffers().buffer_bytes()) +
                     " bytes at once",
                 "use a smaller --max-message-bytes, or set buffer_bytes of busd higher"};
  result<void> outcome;
  engine_.call([&] {
    outcome = [&]() -> result<void> {
      auto possible = check_resources(config.name, client::lanes_at_birth(config));
      if (!possible) return possible;
      definition made;
      made.config = config;
      made.stream_id = os::random_id();
      made.lanes = client::lanes_at_birth(config);
      {
        auto lock = session_->directory->lock_changes();
        if (!lock) return std::move(lock.error());
        auto free_to = session_->directory->check_new_stream(config);
        if (!free_to) return free_to;
        auto added_log = catalog_.add(made, least_high_water(config), options_for(config));
        if (!added_log) return added_log;
        client::birth with = session_->directory->new_birth();
        with.stream_id = made.stream_id;
        with.log_directory = catalog_.directory_of(config.name);
        auto added = session_->directory->add_stream(config, with);
        if (!added) {
          (void)catalog_.remove(config.name);
          return added;
        }
      }
      auto opened = restore(made);
      if (!opened) take_back(config.name, made.stream_id);
      return opened;
    }();
  });
  if (outcome)
    spdlog::info("stream {}: added, storage {}", config.name, storage_name(config.storage));
  return outcome;
}

result<void> keeper::edit_stream(const stream_config& config) {
  const std::lock_guard guard(mutex_);
  const auto found = streams_.find(config.name);
  if (found == streams_.end()) return no_such(config.name);
  if (auto checked = client::check_config(config); !checked) return checked;
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
                 "these are chosen when it is made: " + fixed,
                 "make another stream and copy it: bus record, bus replay"};
  definition changed = found->second.made;
  changed.config = config;
  result<void> outcome;
  engine_.call([&] {
    outcome = change(changed);
    if (!outcome) return;
    for (auto& lane : engine_.lanes())
      if (lane->stream().name() == config.name) lane->set_config(config);
    found->second.made = changed;
  });
  return outcome;
}

// Descriptors and space for a new stream, before anything of it is there.
result<void> keeper::check_resources(const std::string& name, std::uint32_t lanes) {
  const error full{errc::no_space, 0, "cannot add the stream '" + name + "'",
                   "the disk of " + directory_ + " is too full (--disk-block)",
                   "free space there, or lower the limits of the streams (bus stream edit)"};
  if (engine_.is_full()) return full;
  std::vector<os::fd> probes;
  for (std::uint32_t i = 0; i < 2 * lanes + 8; ++i) {
    probes.push_back(os::open_nothing());
    if (!probes.back())
      return error{errc::no_space, EMFILE, "cannot add the stream '" + name + "'",
                   "busd has no file descriptors left",
                   "start busd with a larger limit (ulimit -n, LimitNOFILE of its unit)"};
  }
  return {};
}

// A stream that was added, and could not be opened: as if it had never been. Needs no descriptor that
// was not kept for this.
void keeper::take_back(const std::string& name, std::uint64_t stream_id) {
  spare_files_.clear();
  detach(name);
  streams_.erase(name);
  if (auto lock = session_->directory->lock_changes()) {
    // Another stream may have the name by now.
    const auto facts = client::read_stream_file(session_->directory->stream_path(name));
    if (facts && facts->stream_id == stream_id)
      (void)session_->directory->remove_stream(name, {});
  }
  if (auto removed = catalog_.remove(name); !removed) note_problem(std::move(removed.error()));
  keep_spare_files();
}

void keeper::keep_spare_files() {
  constexpr std::size_t spares = 8;
  while (spare_files_.size() < spares) {
    spare_files_.push_back(os::open_nothing());
    if (spare_files_.back()) continue;
    spare_files_.pop_back();
    return;
  }
}

// On disk, then in shared memory: what dies in between is made good at the next start. What fails there
// is taken back.
result<void> keeper::change(const definition& to) {
  auto lock = session_->directory->lock_changes();
  if (!lock) return std::move(lock.error());
  auto facts = client::read_stream_file(session_->directory->stream_path(to.config.name));
  if (!facts) return std::move(facts.error());
  auto before = catalog_.read(catalog_.directory_of(to.config.name));
  auto stored = catalog_.store(to);
  if (!stored) {
    if (before) (void)catalog_.store(*before);
    return stored;
  }
  facts->config = to.config;
  facts->sealed = to.sealed;
  auto changed = session_->directory->change_stream(*facts);
  if (!changed && before) {
    spare_files_.clear();
    (void)catalog_.store(*before);
    keep_spare_files();
  }
  return changed;
}

// Removes the ring of a stream whose log is gone, because a removal was interrupted or somebody deleted
// the files.
result<void> keeper::remove_ring(const std::string& name) {
  auto lock = session_->directory->lock_changes();
  if (!lock) return std::move(lock.error());
  const std::string ring_path = session_->directory->stream_path(name);
  const auto facts = client::read_stream_file(ring_path);
  const std::string path = catalog_.directory_of(name);
  if (!facts || facts->config.storage == storage_class::memory ||
      os::link_target(ring_path + "/log") != path || !os::surely_missing(path))
    return no_such(name);
  auto removed = session_->directory->remove_stream(name, {});
  if (removed) spdlog::info("stream {}: removed; it had no log", name);
  return removed;
}

result<void> keeper::remove_stream(const std::string& name) {
  const std::lock_guard guard(mutex_);
  const auto found = streams_.find(name);
  if (found == streams_.end()) return remove_ring(name);
  result<void> outcome;
  engine_.call([&] {
    auto lock = session_->directory->lock_changes();
    if (!lock) {
      outcome = std::move(lock.error());
      return;
    }
    // The log first: a stream without a ring is made again, one without a log would lose its messages.
    outcome = catalog_.set_aside(name);
    if (!outcome && outcome.error().code != errc::not_found) return;
    outcome = session_->directory->remove_stream(name, {});
    if (!outcome && outcome.error().code != errc::not_found) {
      if (auto back = catalog_.put_back(name); !back) note_problem(std::move(back.error()));
      return;
    }
    outcome = {};
    detach(name);
    catalog_.erase_aside(name);
    streams_.erase(found);
  });
  if (outcome) spdlog::info("stream {}: removed", name);
  return outcome;
}

result<void> keeper::purge_stream(const std::string& name, std::uint64_t below) {
  const std::lock_guard guard(mutex_);
  const auto found = streams_.find(name);
  if (found == streams_.end()) return no_such(name);
  if (found->second.held) return *found->second.held;
  result<void> outcome;
  engine_.call([&] {
    for (auto& lane : engine_.lanes()) {
      if (lane->stream().name() != name) continue;
      auto purged = lane->purge(below);
      if (!purged) outcome = std::move(purged);
    }
  });
  if (outcome) spdlog::info("stream {}: purged", name);
  return outcome;
}

result<void> keeper::seal_stream(const std::string& name, bool sealed) {
  const std::lock_guard guard(mutex_);
  const auto found = streams_.find(name);
  if (found == streams_.end()) return no_such(name);
  definition changed = found->second.made;
  changed.sealed = sealed;
  result<void> outcome;
  engine_.call([&] {
    outcome = change(changed);
    if (outcome) found->second.made = changed;
  });
  return outcome;
}

result<backup_counts> keeper::restore_stream(const std::string& name, const std::string& from,
                                             bool damaged_too) {
  const std::lock_guard guard(mutex_);
  if (!from.starts_with("/"))
    return error{errc::invalid_argument, 0, "cannot restore from '" + from + "'",
                 "busd needs a path from the root", "give an absolute path"};
  // What is read here is a user's: it may take its time, and nothing else waits for it.
  auto counts = check_backup(from);
  if (!counts) return counts;
  if (!counts->wrong.empty() && !damaged_too)
    return error{errc::corrupt, 0, "cannot restore from " + from,
                 std::to_string(counts->found) + " of " + std::to_string(counts->announced) +
                     " messages can be read: " + counts->wrong.front() +
                     (counts->wrong.size() > 1
                          ? " (and " + std::to_string(counts->wrong.size() - 1) + " more)"
                          : ""),
                 "use another backup, or take what there is: bus stream restore --damaged"};
  definition made;
  std::string building;
  result<void> outcome;
  engine_.call([&] {
    auto found = catalog_.read(from);
    if (!found) {
      outcome = std::move(found.error());
      return;
    }
    made = std::move(*found);
    made.config.name = name;
    // Its messages are a copy: a position in the original must never mean one in here.
    made.stream_id = os::random_id();
    auto lock = session_->directory->lock_changes();
    outcome = lock ? session_->directory->check_new_stream(made.config)
                   : result<void>(std::move(lock.error()));
    building = catalog_.building_for(made);
  });
  if (!outcome) return std::move(outcome.error());
  // The copy takes its time: nobody waits for it meanwhile.
  auto copied = copy_log(from, building);
  if (!copied) return std::move(copied.error());
  counts->found = copied->messages();
  engine_.call([&] {
    {
      auto lock = session_->directory->lock_changes();
      outcome = lock ? session_->directory->check_new_stream(made.config)  // while it was copied
                     : result<void>(std::move(lock.error()));
    }
    if (outcome) outcome = check_resources(name, made.lanes);
    if (outcome) outcome = catalog_.adopt(building, made);
    if (!outcome) return catalog_.forget(building);
    outcome = restore(made);
    if (!outcome) take_back(name, made.stream_id);
  });
  if (!outcome) return std::move(outcome.error());
  spdlog::info("stream {}: restored from {}, {} of {} messages", name, from, counts->found,
               counts->announced);
  return counts;
}

result<void> keeper::add_lane(const std::string& name, std::uint32_t lane) {
  const std::lock_guard guard(mutex_);
  const auto found = streams_.find(name);
  if (found == streams_.end()) return no_such(name);
  kept& stream = found->second;
  if (stream.held) return *stream.held;
  if (lane != stream.made.lanes)
    return lane < stream.made.lanes
               ? error{errc::conflict, 0, "cannot add a lane", "it is there", ""}
               : error{errc::invalid_argument, 0, "cannot add a lane", "there is one before it",
                       ""};
  if (lane >= stream.made.config.lanes)
    return error{errc::invalid_argument, 0, "cannot add a lane to the stream '" + name + "'",
                 "it has all " + std::to_string(stream.made.config.lanes), ""};
  result<void> outcome;
  engine_.call([&] {
    outcome = [&]() -> result<void> {
      auto possible = check_resources(name, 1);
      if (!possible) return possible;
      definition changed = stream.made;
      changed.lanes = lane + 1;
      auto log =
          catalog_.add_lane(changed, least_high_water(changed.config), options_for(changed.config));
      if (!log) return std::move(log.error());
      auto lock = session_->directory->lock_changes();
      if (!lock) return std::move(lock.error());
      const auto facts = client::read_stream_file(session_->directory->stream_path(name));
      if (!facts) return facts.error();
      auto added = session_->directory->add_lane(*facts, lane);
      if (!added && added.error().code != errc::conflict) return added;
      stream.made = changed;
      auto logger = prepare(stream, lane, std::move(*log), {});
      if (!logger) return std::move(logger.error());
      engine_.attach(std::move(*logger));
      return {};
    }();
    // The lane may be there without a log: nothing is published until it is opened.
    if (!outcome && stream.made.lanes == lane + 1) {
      detach(name);  // its logs have one writer
      (void)open_or_hold(definition(stream.made));
    }
  });
  return outcome;
}

keeper_info keeper::status() {
  const std::lock_guard guard(mutex_);
  keeper_info info;
  info.pid = ::getpid();
  info.version = BUS_VERSION;
  info.data_directory = directory_;
  info.started = started_;
  info.recovery = recovery_;
  info.problems = problems_;
  for (const auto& [name, entry] : streams_)
    if (entry.held) info.problems.push_back(entry.held->message());
  engine_.call([&] {
    info.disk = engine_.disk().name();
    info.disk_total_bytes = engine_.space().total_bytes;
    info.disk_free_bytes = engine_.space().free_bytes;
    for (const auto& lane : engine_.lanes()) {
      const auto& log = lane->log();
      log_info one;
      one.stream = lane->stream().name();
      one.lane = lane->lane().index();
      one.health = lane->health() == layout::log_health::good   ? "good"
                   : lane->health() == layout::log_health::full ? "full"
                                                                : "failed";
      one.first_sequence = log.first_seq();
      one.written_sequence = log.written_seq();
      one.durable_sequence = log.durable_seq();
      one.segments = log.segments();
      one.bytes = log.bytes_on_disk();
      one.bytes_written = lane->bytes_written();
      one.commits = lane->commits();
      one.recovery_bytes_read = lane->recovered.bytes_read;
      one.recovery_rewritten = lane->recovered.rewritten;
      one.damages = lane->recovered.damages.size();
      info.logs.push_back(std::move(one));
    }
  });
  return info;
}

}  // namespace bus::streams
