#include "streams/opener.hpp"

#include <spdlog/spdlog.h>

#include <algorithm>

#include "os/files.hpp"
#include "registry/keeper_link.hpp"
#include "wire/stream_json.hpp"

namespace bus::streams {

std::uint64_t least_high_water(const stream_config& config) noexcept {
  return 2 * config.ring_bytes / layout::record_align;
}

opener::opener(std::shared_ptr<session_core> session, storage::engine& engine,
               std::string directory)
    : session_(std::move(session)),
      engine_(engine),
      catalog_(engine.disk(), directory),
      directory_(std::move(directory)) {
  keep_spare_files();
}

storage::log_options opener::options_for(const stream_config& config) {
  storage::log_options options;
  options.segment_bytes = config.segment_bytes;
  if (config.max_bytes != 0)  // retention removes whole segments
    options.segment_bytes =
        std::clamp<std::uint64_t>(config.max_bytes / 8, 1u << 20, config.segment_bytes);
  options.largest_frame_bytes = engine_.buffers().buffer_bytes();
  options.spill = config.storage == storage_class::spill;
  options.ring_messages = config.ring_bytes / layout::record_align;
  options.syncs_each = config.fsync == fsync_policy::batch;
  // Safe: the engine outlives the logs and this object.
  options.take_spare = [&engine = engine_](const std::string& directory, std::uint64_t bytes) {
    return engine.spares().take(directory, bytes);
  };
  options.prepare_spare = [&engine = engine_](const std::string& directory, std::uint64_t bytes,
                                              bool zeroed, bool now) {
    return engine.spares().prepare(directory, bytes, zeroed, now);
  };
  options.close_later = [&engine = engine_](log::disk_file file) {
    return engine.closer().close(file);
  };
  return options;
}

void opener::note_problem(error what) {
  if (std::find(problems_.begin(), problems_.end(), what.message()) != problems_.end()) return;
  spdlog::error("{}", what.message());
  problems_.push_back(what.message());
}

result<void> opener::start() {
  auto prepared = catalog_.prepare();
  if (!prepared) return prepared;
  std::vector<error> problems;
  auto all = catalog_.load(problems);
  if (!all) return std::move(all.error());
  for (error& problem : problems) note_problem(std::move(problem));
  auto checked = check_directory(*all);
  if (!checked) return checked;
  for (const definition& made : *all) open_or_hold(made);
  hold_unkept_streams();
  return {};
}

opener::clock::time_point opener::try_again() {
  auto next = streams_.end();
  for (auto one = streams_.begin(); one != streams_.end(); ++one)
    if (one->second.held &&
        (next == streams_.end() || one->second.retry_at < next->second.retry_at))
      next = one;
  if (next == streams_.end()) return clock::time_point::max();
  if (next->second.retry_at > clock::now()) return next->second.retry_at;
  const definition made = next->second.made;
  if (open_or_hold(made)) spdlog::info("stream {}: its log is open again", made.config.name);
  return clock::now();  // another one may be due
}

bool opener::open_or_hold(const definition& made) {
  const auto begin = clock::now();
  auto opened = catalog_.sync_stream(made.config.name);
  if (opened) opened = open(made);
  if (opened) return true;
  let_go(made.config.name);
  kept_stream& entry = streams_[made.config.name];
  const bool is_new_error = !entry.held || entry.held->message() != opened.error().message();
  constexpr auto first_wait = std::chrono::seconds(1), longest_wait = std::chrono::seconds(30);
  entry.wait = is_new_error ? first_wait : std::min(entry.wait * 2, longest_wait);
  if (opened.error().code == errc::no_space) entry.wait = first_wait;
  const auto now = clock::now();
  // A disk that is slow to answer is tried rarely, because all other orders wait meanwhile.
  entry.retry_at = now + std::max<clock::duration>(entry.wait, 20 * (now - begin));
  entry.made = made;
  entry.subjects.reset();
  entry.held = std::move(opened.error());
  if (entry.held->fix.empty())
    entry.held->fix = entry.held->code == errc::no_space
                          ? "free space in " + directory_ + ": busd tries again automatically"
                          : "see the log of busd, which tries again automatically";
  if (is_new_error) spdlog::error("{}", entry.held->message());
  if (auto held = hold(made, *entry.held); !held && is_new_error)
    spdlog::error("{}", held.error().message());
  return false;
}

// Sets up what publishers and readers see while a log is not kept: the existing ring, or an empty
// one that starts above every sequence that the log can have given out. What is on disk can be read
// as before.
result<void> opener::hold(const definition& made, const error& why) {
  const std::string& name = made.config.name;
  const std::string ring_path = session_->directory->stream_path(name);
  auto lock = session_->directory->lock_changes();
  if (!lock) return std::move(lock.error());
  auto facts = registry::read_stream_file(ring_path);
  if (facts && facts->stream_id == made.stream_id) {
    if (facts->held && facts->held->fix == why.fix) return {};
    facts->held = why;
    return session_->directory->change_stream(*facts);
  }
  if (!os::surely_missing(ring_path)) return {};  // another stream has the name, and `why` says so
  const std::string path = catalog_.directory_of(name);
  registry::create_params with = session_->directory->new_create_params();
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

// Adds the rings after the first of a stream with a lane per publisher.
void opener::add_rings(const definition& made, const std::vector<std::uint64_t>& first_seqs) {
  for (std::uint32_t lane = 1; made.config.mode == lane_mode::per_publisher && lane < made.lanes;
       ++lane) {
    const auto now = registry::read_stream_file(session_->directory->stream_path(made.config.name));
    if (now) (void)session_->directory->add_lane(*now, lane, first_seqs[lane]);
  }
}

// Interns the subjects under the ids that the log uses.
result<void> opener::intern(const definition& made,
                            const std::vector<log::known_subject>& subjects) {
  auto handle = session_->stream(made.config.name);
  if (!handle) return std::move(handle.error());
  for (std::uint64_t id = 0; id < subjects.size(); ++id) {
    const auto& subject = subjects[id];
    auto interned = (*handle)->intern(subject.text, session_->me->lock_word(), *session_->peers);
    if (!interned) return std::move(interned.error());
    if (!*interned || (*interned)->id != id)
      return error{errc::corrupt, 0, "cannot open the stream '" + made.config.name + "'",
                   "its subjects have changed: one occurs twice",
                   "restore " + log::subjects_path(catalog_.directory_of(made.config.name)) +
                       " from a backup: nothing was changed"};
    if (subject.type != 0) (*handle)->claim_type(static_cast<std::uint32_t>(id), subject.type);
  }
  return {};
}

// Where busd kept the logs of the bus before, according to the links in shared memory.
std::vector<std::pair<registry::stream_facts, std::string>> opener::streams_with_logs() {
  std::vector<std::pair<registry::stream_facts, std::string>> all;
  const auto names = session_->directory->list_streams();
  if (!names) return all;
  for (const std::string& name : *names) {
    auto facts = registry::read_stream_file(session_->directory->stream_path(name));
    if (facts && facts->config.storage != storage_class::memory)
      all.emplace_back(std::move(*facts),
                       os::link_target(session_->directory->stream_path(name) + "/log"));
  }
  return all;
}

// Fails if this directory has none of the logs of this bus and another has one: a wrong --data
// would stop every publisher that needs a log.
result<void> opener::check_directory(const std::vector<definition>& ours) {
  const auto there = streams_with_logs();
  if (there.empty()) return {};
  for (const auto& one : there)
    if (std::any_of(ours.begin(), ours.end(), [id = one.first.stream_id](const definition& mine) {
          return mine.stream_id == id;
        }))
      return {};
  for (const auto& [facts, link] : there)
    if (auto other = catalog_.read(link); other && other->stream_id == facts.stream_id)
      return error{errc::conflict, 0,
                   "cannot keep the bus '" + session_->address.name + "' in " + directory_,
                   "none of its " + std::to_string(there.size()) +
                       " streams with a log has its log there: the log of '" + facts.config.name +
                       "' is in " + link,
                   registry::keeper_command(session_->address.name, link)};
  return {};
}

void opener::hold_unkept_streams() {
  for (auto& [facts, link] : streams_with_logs()) {
    const std::string& name = facts.config.name;
    if (streams_.contains(name)) continue;
    const error why{errc::unavailable, 0, "no busd keeps the log of stream '" + name + "'",
                    "this busd keeps " + directory_ + ", and the log is in " + link,
                    registry::keeper_command(session_->address.name, link)};
    note_problem(why);
    auto lock = session_->directory->lock_changes();
    facts.held = why;
    if (lock) (void)session_->directory->change_stream(facts);
  }
}

result<std::unique_ptr<storage::lane_log>> opener::open_log(const definition& made,
                                                            std::uint32_t lane,
                                                            storage::recovery_report& report) {
  return storage::lane_log::open(engine_.disk(), catalog_.lane_directory_of(made.config.name, lane),
                                 {made.stream_id, made.epoch, lane}, options_for(made.config),
                                 report);
}

void opener::report_recovery(const std::string& name, std::uint32_t lane,
                             const storage::lane_log& log, const storage::recovery_report& report) {
  spdlog::info(
      "stream {} lane {}: sequences {} to {}, {} segments, {} bytes read, {} records rewritten, {} "
      "bytes of a torn write cut off",
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
                  report.state_rebuilt ? "it was rebuilt from the segments: whether messages at "
                                         "the end of the log are missing is unknown"
                                       : "one intact copy of it was used",
                  "check the disk (dmesg)"});
  if (report.damages.empty()) return;
  std::uint64_t missing = 0;
  for (const log::damage& damage : report.damages) {
    missing += damage.missing;
    if (damage.missing != 0)
      spdlog::error("stream {} lane {}: {} messages are missing, from sequence {}", name, lane,
                    damage.missing, damage.first_seq);
    else
      spdlog::error("stream {} lane {}: {} bytes at {} are damaged, near sequence {}", name, lane,
                    damage.bytes, damage.offset, damage.first_seq);
  }
  note_problem({errc::corrupt, 0,
                "the log of stream '" + name + "' lane " + std::to_string(lane) + " is damaged",
                std::to_string(missing) + " messages are missing; " +
                    std::to_string(report.damages.size()) + " damaged parts in " + log.directory(),
                "bus stream verify " + name + " shows where; the rest can be read as before"});
}

// Shared memory, while it exists, has the subjects too.
std::optional<log::known_subject> opener::subject_of_ring(const std::string& name, bool is_there,
                                                          std::uint32_t id) {
  if (!is_there) return std::nullopt;
  auto handle = session_->stream(name);
  if (!handle) return std::nullopt;
  const auto text = (*handle)->subject_text(id);
  if (!text || text->empty()) return std::nullopt;
  return log::known_subject{std::string(*text), (*handle)->subject_type(id)};
}

result<void> opener::open(const definition& found) {
  definition made = found;
  const std::string path = catalog_.directory_of(made.config.name);
  const std::string ring_path = session_->directory->stream_path(made.config.name);
  auto facts = registry::read_stream_file(ring_path);
  // The ring is lost only if it surely does not exist, not if it cannot be read just now.
  if (!facts && !os::surely_missing(ring_path)) return facts.error();
  bool is_there = facts && facts->stream_id == made.stream_id;
  if (facts && !is_there)
    return error{errc::conflict, 0, "cannot open the stream '" + made.config.name + "' of " + path,
                 "the bus has another stream of that name",
                 "record its messages (bus record), remove it, and start busd again"};
  if (is_there && facts->held && !os::exists(registry::lane_path(ring_path, 0))) {
    // Held without rings, because its log could not be read. Nothing was published there.
    auto lock = session_->directory->lock_changes();
    if (!lock) return std::move(lock.error());
    if (auto removed = session_->directory->remove_stream(made.config.name); !removed)
      return removed;
    is_there = false;
  }
  std::vector<std::unique_ptr<storage::lane_log>> logs;
  std::vector<storage::recovery_report> reports(made.lanes);
  std::uint64_t subjects_needed = 0;
  for (std::uint32_t lane = 0; lane < made.lanes; ++lane) {
    auto opened = open_log(made, lane, reports[lane]);
    if (!opened) return std::move(opened.error());
    report_recovery(made.config.name, lane, **opened, reports[lane]);
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
    note_problem({errc::corrupt, 0,
                  "the subjects of stream '" + made.config.name + "' were damaged", mended,
                  "check the disk (dmesg); nothing is missing"});
  for (auto& log : logs) log->note_subjects(subjects->count());
  // Shared memory was lost, with everything that was not on disk: a new epoch begins above every
  // sequence that a process may have seen. The ring may already have been made by hold(), when the
  // log could not be opened.
  const bool is_new_epoch = !is_there || (facts->held && made.epoch < facts->epoch);
  if (is_new_epoch) {
    // Continues an epoch that an earlier attempt began. An old stream.json may have a lower epoch
    // than the logs.
    std::uint64_t& begun_epoch = streams_[made.config.name].begun_epoch;
    for (const auto& log : logs) made.epoch = std::max(made.epoch, log->epoch());
    if (begun_epoch == 0) begun_epoch = made.epoch + 1;
    made.epoch = begun_epoch;
    auto stored = catalog_.store(made);
    if (!stored) return stored;
    for (std::uint32_t lane = 0; lane < made.lanes; ++lane) {
      auto& log = logs[lane];
      // A ring that hold() made begins above every sequence of the log.
      std::uint64_t least = 0;
      if (is_there)
        if (auto handle = session_->stream(made.config.name))
          if (auto map = (*handle)->lane(lane, false))
            least = sync::load_acquire((*map)->header().durability.first_seq);
      // This log began the epoch before something else failed.
      if (log->epoch() == made.epoch && least <= log->next_seq()) continue;
      auto begun = log->begin_epoch(made.epoch, least);
      if (begun) begun = log->raise_high_water(log->next_seq() + least_high_water(made.config), 0);
      if (!begun) return begun;
    }
  }
  if (!is_there) {
    registry::create_params with = session_->directory->new_create_params();
    with.stream_id = made.stream_id;
    with.epoch = made.epoch;
    with.sealed = made.sealed;
    with.log_directory = path;
    // Nothing is published before the subjects have their ids.
    with.held =
        error{errc::unavailable, 0, "cannot publish to the stream '" + made.config.name + "' yet",
              "busd is opening its log", "try again"};
    for (const auto& log : logs) with.first_seqs.push_back(log->next_seq());
    auto lock = session_->directory->lock_changes();
    if (!lock) return std::move(lock.error());
    auto added = session_->directory->add_stream(made.config, with);
    if (!added) return added;
    add_rings(made, with.first_seqs);
    spdlog::info("stream {}: recreated in shared memory, epoch {}", made.config.name, made.epoch);
  } else {
    // The data directory may have changed.
    auto linked = os::make_link(ring_path + "/log", path);
    if (!linked) return linked;
    // busd may have been killed after it changed the log's definition and before the ring's.
    if (facts->sealed != made.sealed || wire::to_json(facts->config) != wire::to_json(made.config))
      if (auto changed = change(made); !changed) note_problem(std::move(changed.error()));
    // Or after it made the log of a lane and before its ring.
    auto handle = session_->stream(made.config.name);
    if (!handle) return std::move(handle.error());
    for (std::uint32_t lane = (*handle)->lane_count(); lane < made.lanes; ++lane) {
      auto lock = session_->directory->lock_changes();
      if (!lock) return std::move(lock.error());
      auto added = session_->directory->add_lane(*facts, lane, logs[lane]->next_seq());
      if (!added && added.error().code != errc::conflict) return added;
    }
  }
  // Also in an existing ring: its creator may have died before it interned them.
  if (auto interned = intern(made, subjects->known()); !interned) return interned;
  kept_stream& entry = streams_[made.config.name];
  entry.made = made;
  entry.subjects = std::make_shared<storage::subject_log>(std::move(*subjects));
  auto now = registry::read_stream_file(ring_path);
  if (!now) return std::move(now.error());
  entry.handle = registry::stream_handle::make(ring_path, *now, nullptr);
  if (auto able = entry.handle->prepare_reading(); !able) return able;
  // All loggers are ready before the engine gets the first.
  storage::engine::loggers ready;
  for (std::uint32_t lane = 0; lane < made.lanes; ++lane) {
    auto logger = prepare(entry, lane, std::move(logs[lane]), reports[lane]);
    if (!logger) return std::move(logger.error());
    ready.push_back(std::move(*logger));
  }
  if (!is_there || facts->held) {
    auto lock = session_->directory->lock_changes();
    if (!lock) return std::move(lock.error());
    facts = registry::read_stream_file(ring_path);
    if (!facts) return facts.error();
    facts->held.reset();
    if (auto changed = session_->directory->change_stream(*facts); !changed) return changed;
  }
  entry.held.reset();
  entry.begun_epoch = 0;
  entry.logs.clear();
  for (const auto& logger : ready) entry.logs.push_back(logger->facts());
  engine_.attach(std::move(ready));
  return {};
}

// The ring is mapped here and not through the handle, which would hold its lock meanwhile.
result<std::unique_ptr<storage::lane_logger>> opener::prepare(
    kept_stream& stream, std::uint32_t lane, std::unique_ptr<storage::lane_log> log,
    const storage::recovery_report& report) {
  auto map =
      registry::lane_map::open(stream.handle->directory(), stream.handle->facts(), lane, true);
  if (!map) return std::move(map.error());
  if (!report.damages.empty() || report.rewritten != 0)
    spdlog::info("stream {} lane {}: continues at sequence {}", stream.made.config.name, lane,
                 log->next_seq());
  auto logger = std::make_unique<storage::lane_logger>(
      *session_, stream.handle, std::move(*map), std::move(log), stream.subjects, engine_.peers(),
      engine_.buffers(), engine_.worker(), engine_.next_token());
  storage::lane_facts& facts = *logger->facts();
  facts.recovery_bytes_read = report.bytes_read;
  facts.recovery_rewritten = report.rewritten;
  facts.damages = report.damages.size();
  auto taken = logger->take_over();
  if (!taken) return std::move(taken.error());
  return logger;
}

result<void> opener::open_lane(kept_stream& stream, std::uint32_t lane,
                               std::unique_ptr<storage::lane_log> log) {
  auto logger = prepare(stream, lane, std::move(log), {});
  if (!logger) return std::move(logger.error());
  (*logger)->set_config(stream.made.config);  // may have been edited since the stream was opened
  stream.logs.push_back((*logger)->facts());
  storage::engine::loggers ready;
  ready.push_back(std::move(*logger));
  engine_.attach(std::move(ready));
  return {};
}

void opener::let_go(storage::engine::loggers gone) {
  for (const auto& lane : gone) {
    engine_.spares().forget(lane->log().directory());
    engine_.worker().forget(lane->log().directory());
  }
}

void opener::let_go(const std::string& name) {
  let_go(engine_.detach(name));
  if (const auto found = streams_.find(name); found != streams_.end()) found->second.logs.clear();
}

result<void> opener::check_resources(const std::string& name, std::uint32_t lanes) {
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

void opener::take_back(const std::string& name, std::uint64_t stream_id) {
  spare_files_.clear();
  let_go(name);
  streams_.erase(name);
  if (auto lock = session_->directory->lock_changes()) {
    // Another stream may have the name by now.
    const auto facts = registry::read_stream_file(session_->directory->stream_path(name));
    if (facts && facts->stream_id == stream_id) (void)session_->directory->remove_stream(name);
  }
  if (auto removed = catalog_.remove(name); !removed) note_problem(std::move(removed.error()));
  keep_spare_files();
}

void opener::keep_spare_files() {
  constexpr std::size_t spares = 8;
  while (spare_files_.size() < spares) {
    spare_files_.push_back(os::open_nothing());
    if (spare_files_.back()) continue;
    spare_files_.pop_back();
    return;
  }
}

result<void> opener::change(const definition& to) {
  auto lock = session_->directory->lock_changes();
  if (!lock) return std::move(lock.error());
  auto facts = registry::read_stream_file(session_->directory->stream_path(to.config.name));
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

}  // namespace bus::streams
