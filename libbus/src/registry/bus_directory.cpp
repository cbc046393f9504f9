#include "registry/bus_directory.hpp"

#include <algorithm>
#include <climits>
#include <cstring>
#include <new>
#include <thread>

#include "config/check.hpp"
#include "layout/validate.hpp"
#include "os/futex.hpp"
#include "os/random.hpp"
#include "registry/group_files.hpp"
#include "registry/interest.hpp"
#include "registry/lane_fence.hpp"
#include "subject/subject.hpp"
#include "sync/failpoint.hpp"
#include "sync/seeded_fault.hpp"
#include "sync/words.hpp"

namespace bus::registry {

namespace {

constexpr std::string_view half_made = ".new-";
constexpr std::string_view half_removed = ".old-";
constexpr std::uint64_t reserve_bytes = 64 * 1024;  // several processes with few slots

}  // namespace

error no_bus(const bus_address& address) {
  return {errc::not_found, 0, "no bus '" + address.name + "'",
          address.directory() + " does not exist",
          "publish or subscribe to it once, or name another with --bus NAME (bus ls lists them)"};
}

result<std::unique_ptr<bus_directory>> bus_directory::open(const bus_address& address,
                                                           bool create) {
  std::unique_ptr<bus_directory> made(new bus_directory);
  made->path_ = address.directory();
  const std::string& path = made->path_;
  for (int attempt = 0; attempt < 16; ++attempt) {
    if (!os::exists(path)) {
      if (!create) return no_bus(address);
      auto dir = os::make_directory(path, 0700);
      if (!dir) return std::move(dir.error());
    }
    if (auto checked = check_parents(address); !checked) {
      if (os::surely_missing(path)) continue;  // just removed
      return std::move(checked.error());
    }
    if (os::exists(path + "/control")) {
      auto loaded = made->load_control();
      if (loaded) return made;
      if (loaded.error().code != errc::not_found) return std::move(loaded.error());
    }
    // Incomplete: its creator is at work, or died.
    auto lock = made->lock_changes();
    if (!lock) {
      if (lock.error().code == errc::not_found) continue;
      return std::move(lock.error());
    }
    if (!lock->still_named()) continue;
    for (const char* part : {"/processes", "/streams"}) {
      auto dir = os::make_directory(path + part, 0700);
      if (!dir) return std::move(dir.error());
    }
    if (!os::exists(path + "/control")) {
      auto file = os::create_nameless(path, layout::control_file_bytes, 0600);
      if (!file) return std::move(file.error());
      auto map = os::mapping::map(file->get(), 0, layout::control_file_bytes, true, true);
      if (!map) return std::move(map.error());
      auto* control = new (map->data()) layout::control_header{};
      control->bus_id = os::random_id();
      control->segment = layout::make_header(layout::segment_kind::control, sizeof *control,
                                             layout::control_file_bytes, control->bus_id,
                                             control->bus_id, os::wall_ns());
      control->clock_kind = os::best_clock_kind();
      control->created_raw_ns = os::raw_monotonic_ns();
      control->created_ticks = os::tick_clock(control->clock_kind, 0, 0).now();
      sync::store_relaxed(control->generation, 1);
      // Not from 1: a recreated bus must not use the ids of the one before, whose sessions may
      // still exist.
      constexpr std::uint64_t first_ids = 1u << 30;
      sync::store_relaxed(control->next_process_id, os::random_id() % first_ids + 1);
      sync::store_relaxed(control->next_object_id, os::random_id() % first_ids + 1);
      auto named = os::give_name(file->get(), path + "/control");
      if (!named) return std::move(named.error());
    }
  }
  return error{errc::busy, 0, "cannot open the bus '" + address.name + "'",
               "it is created and removed repeatedly", ""};
}

result<void> bus_directory::load_control() {
  const std::string file_path = path_ + "/control";
  auto found = os::open_existing(file_path, true);
  if (!found) return std::move(found.error());
  const bool has_journal = found->bytes != layout::control_file_bytes_without_journal;
  if (has_journal && found->bytes != layout::control_file_bytes)
    return layout::corrupt(file_path, "it has the wrong size: truncated");
  auto map = os::mapping::map(found->file.get(), 0, found->bytes, true, true);
  if (!map) return std::move(map.error());
  control_map_ = std::move(*map);
  const auto& header = control();
  auto checked =
      layout::check_header(header.segment, layout::segment_kind::control, found->bytes, file_path);
  if (!checked) return checked;
  bus_id_ = header.bus_id;
  control_path_ = file_path;
  control_id_ = found->id;
  const std::uint32_t kind = header.clock_kind;
  if (kind != os::clock_cycles && kind != os::clock_wall && kind != os::clock_boot)
    return layout::corrupt(file_path, "its clock is unknown");
  if (kind == os::clock_cycles && os::best_clock_kind() != os::clock_cycles)
    return error{errc::unsupported, 0, "cannot use " + path_,
                 "its timestamps come from a cycle counter that this machine now lacks",
                 "use another bus name, or the clock source it was created with"};
  if (has_journal)
    journal_ = change_journal(reinterpret_cast<layout::change_entry*>(
        control_map_.data() + layout::change_journal_offset));
  clock_ = os::tick_clock(
      kind, header.created_ticks, header.created_raw_ns,
      reinterpret_cast<base::clock_eras*>(control_map_.data() + layout::clock_eras_offset));
  return {};
}

std::uint64_t bus_directory::generation() const noexcept {
  return sync::load_acquire(control().generation);
}

std::uint64_t bus_directory::announce_change(layout::change_kind kind,
                                             std::string_view stream) noexcept {
  const std::uint64_t now = sync::add_release(control().generation, 1) + 1;  // JOURNAL-2
  journal_.note(now, sync::makes(sync::fault::changes_misnamed) ? layout::change_kind::none : kind,
                stream);
  os::futex_wake(os::futex_half(control().generation), INT_MAX);
  return now;
}

// Sets control.unfinished while a change is visible but not announced. A process that dies in
// between leaves it set.
class bus_directory::unfinished_change {
 public:
  explicit unfinished_change(bus_directory& of) noexcept : of_(of) {
    (void)of_.announce_for_the_dead();
    if (!sync::makes(sync::fault::dead_change_unmarked))
      sync::store_release(of_.control().unfinished, 1);
  }
  // A change that failed may still have left something visible.
  ~unfinished_change() {
    if (!announced_) of_.announce_change();
    sync::store_release(of_.control().unfinished, 0);
  }
  unfinished_change(const unfinished_change&) = delete;
  unfinished_change& operator=(const unfinished_change&) = delete;

  std::uint64_t announce(layout::change_kind kind, std::string_view stream) noexcept {
    announced_ = true;
    return of_.announce_change(kind, stream);
  }

 private:
  bus_directory& of_;
  bool announced_ = false;
};

bool bus_directory::may_be_changing() const noexcept {
  return !journal_.is_there() || sync::load_acquire(control().unfinished) != 0;
}

// Announces before it clears the mark: a process that dies in between leaves the mark set.
bool bus_directory::announce_for_the_dead() noexcept {
  if (sync::load_acquire(control().unfinished) == 0) return false;
  announce_change();
  sync::store_release(control().unfinished, 0);
  return true;
}

// Processes that saw this generation have checked for the lane. Of two, either is right.
void bus_directory::note_announced(lane_map& lane, std::uint64_t generation) noexcept {
  auto& counters = lane.header().counters;
  sync::replace(counters.unmet, layout::not_announced, generation);
  sync::store_release(counters.announced, 1);
}

result<std::unique_ptr<bus_directory>> bus_directory::look(const bus_address& address) {
  std::unique_ptr<bus_directory> made(new bus_directory);
  made->path_ = address.directory();
  if (auto checked = check_parents(address); !checked) return std::move(checked.error());
  auto loaded = made->load_control();
  if (!loaded) return std::move(loaded.error());
  return made;
}

void bus_directory::announce_removal(const std::string& aside) noexcept {
  sync::store_release(control().removed, 1);
  if (const auto names = os::list_directory(aside + "/streams"))
    for (const std::string& name : *names) close_lanes(aside + "/streams/" + name);
  announce_change();
}

// The word is only a reason to check: any process may have overwritten it.
bool bus_directory::removed() const noexcept {
  return loss_.load() != loss::none ||
         (sync::load_acquire(control().removed) != 0 && !has_control());
}

bool bus_directory::look_for_control() noexcept {
  if (loss_.load() != loss::none) return false;
  if (has_control()) return true;
  constexpr std::uint64_t found_deleted = 2;
  const std::uint64_t said = sync::set_once(control().removed, found_deleted);
  loss_.store(said == found_deleted ? loss::deleted : loss::removed);
  announce_change();
  return false;
}

void bus_directory::note_own_file_lost() noexcept {
  loss_.store(loss::own_file);
  announce_change();
}

error bus_directory::removed_error() const {
  const std::string what = "cannot use the bus at " + path_;
  if (loss_.load() == loss::own_file)
    return {errc::closed, 0, what,
            "the file of this process in it was deleted while it was in use: other processes "
            "assume that this process has left",
            "open the bus again, and find out what deletes files in /dev/shm"};
  if (loss_.load() == loss::deleted || sync::load_acquire(control().removed) == 2)
    return {errc::closed, 0, what,
            "its files were deleted while it was in use (rm, a cleaner of /dev/shm, or "
            "RemoveIPC=yes of systemd-logind)",
            "open it again to create a new one, and find out what deletes files there"};
  return {errc::closed, 0, what, "it was removed by force", "open it again to create a new one"};
}

result<os::file_lock> bus_directory::lock_changes(std::chrono::milliseconds patience) const {
  auto lock = os::file_lock::take(path_ + "/lock", 0600, patience);
  // The bus may have been removed and recreated since it was opened.
  if (lock && bus_id_ != 0 && !has_control())
    return error{errc::closed, 0, "cannot change the bus in " + path_,
                 "it was removed after it was opened", "open it again"};
  return lock;
}

std::vector<std::string> bus_directory::stream_names() const {
  auto names = list_streams();
  return names ? std::move(*names) : std::vector<std::string>();
}

result<std::vector<std::string>> bus_directory::list_streams() const {
  auto names = os::list_directory(path_ + "/streams");
  if (!names) return names;
  std::erase_if(*names, [](const std::string& name) { return name.front() == '.'; });
  std::sort(names->begin(), names->end());
  return names;
}

result<std::shared_ptr<const stream_facts>> bus_directory::facts_of(const std::string& name) {
  const std::string path = stream_path(name);
  {
    const std::lock_guard guard(known_mutex_);
    const auto known = known_.find(name);
    if (known != known_.end()) {
      const auto now = os::stamp_of(path + "/stream");
      if (now && *now == known->second->stamp) return known->second;
    }
  }
  auto facts = read_stream_file(path);
  const std::lock_guard guard(known_mutex_);
  if (!facts) {
    known_.erase(name);
    return std::move(facts.error());
  }
  auto made = std::make_shared<const stream_facts>(std::move(*facts));
  known_.insert_or_assign(name, made);
  return made;
}

create_params bus_directory::create_params_of(std::uint64_t stream_id) const noexcept {
  create_params made;
  made.bus_id = bus_id_;
  made.stream_id = stream_id;
  made.clock_kind = clock_.kind();
  return made;
}

bool bus_directory::is_being_removed(std::uint64_t stream_id) const {
  const auto leaving = leaving_streams();
  return leaving &&
         std::any_of(leaving->begin(), leaving->end(), [&](const std::string& directory) {
           const auto facts = read_stream_file(directory);
           return facts && facts->stream_id == stream_id;
         });
}

void bus_directory::fill_reserve() const noexcept {
  const std::string path = path_ + "/reserve";
  if (const auto found = os::open_existing(path, true)) {
    if (found->bytes < reserve_bytes) (void)os::reserve(found->file.get(), 0, reserve_bytes, path);
    return;
  }
  if (const auto made = os::create_nameless(path_, reserve_bytes, 0600))
    (void)os::give_name(made->get(), path);
}

bool bus_directory::empty_reserve() const noexcept {
  const auto found = os::open_existing(path_ + "/reserve", true);
  return found && found->bytes != 0 && os::empty_file(found->file.get());
}

void bus_directory::sweep() {
  const std::string streams = path_ + "/streams";
  const auto names = os::list_directory(streams);
  if (!names) return;
  const auto until = std::chrono::steady_clock::now() + newcomers_patience;  // for all of them
  for (const std::string& name : *names) {
    if (name.starts_with(half_removed)) {
      close_lanes(streams + "/" + name);
      announce_change();
      const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
          until - std::chrono::steady_clock::now());
      let_newcomers_in(streams + "/" + name, std::max(left, std::chrono::milliseconds(0)));
    }
    if (name.starts_with(half_made) || name.starts_with(half_removed))
      os::remove_tree(streams + "/" + name);
  }
}

// Notifies the processes that have the stream mapped. A broken stream has none.
void bus_directory::close_lanes(const std::string& directory) {
  const auto facts = read_stream_file(directory);
  if (!facts) return;
  for (std::uint32_t lane = 0; lane < facts->config.lanes; ++lane) {
    const auto map = lane_map::open(directory, *facts, lane, true, false);
    if (!map) continue;
    sync::store_release((*map)->header().counters.closed, 1);
    if (peers_ != nullptr) (void)raise_fence(**map, layout::lease_closed, lock_word_, *peers_);
  }
}

// Otherwise, messages in a lane that its subscribers have not come to would be lost unreported.
void bus_directory::let_newcomers_in(const std::string& directory,
                                     std::chrono::milliseconds patience) noexcept {
  const auto facts = read_stream_file(directory);
  if (patience.count() == 0 || !facts || peers_ == nullptr ||
      facts->config.overflow == overflow::drop_oldest ||
      facts->config.storage != storage_class::memory)
    return;
  const auto until = std::chrono::steady_clock::now() + patience;
  const auto stream = stream_handle::make(directory, *facts, nullptr);
  for (std::uint32_t lane = 0; lane < stream->lane_count(); ++lane) {
    const auto map = lane_map::open(directory, *facts, lane, true, false);
    if (!map) continue;
    const auto& header = (*map)->header();
    // Nothing was published, and nothing can be.
    if (sync::load_relaxed(header.limits.reserved_end) == 0 &&
        sync::load_acquire(header.turn.lease) == layout::lease_closed)
      continue;
    // This thread cannot come to the lane while it waits here.
    const newcomer self{self_, static_cast<std::uint64_t>(os::thread_id())};
    for (;;) {
      const std::uint64_t announced = sync::load_acquire(header.counters.unmet);
      if (announced == 0 || announced > generation() ||
          !find_newcomer(*peers_, *stream, lane, announced, self) ||
          std::chrono::steady_clock::now() >= until)
        break;
      std::this_thread::sleep_for(std::chrono::microseconds(200));
    }
  }
}

// False: the stream cannot be read now. Until it can, it captures nothing, or what it did.
// REQUIRES: claims_mutex_
bool bus_directory::note_claim(const std::string& name, std::uint64_t inode) {
  const auto known = facts_of(name);
  if (!known && known.error().code == errc::no_space) return false;
  if (!known || name == default_stream) {  // it takes the rest
    claims_.forget(name);
    return known || known.error().code == errc::not_found;
  }
  std::vector<subject::pattern> patterns;
  for (const std::string& text : (*known)->config.subjects)
    // Only a group publishes its dead letters: a stream that captures everything is no conflict.
    if (!text.starts_with(dead_letter_subjects)) patterns.push_back(*subject::pattern::parse(text));
  claims_.set(name, inode, std::move(patterns));
  return true;
}

// REQUIRES: claims_mutex_, lock_changes()
result<void> bus_directory::refresh_claims() {
  (void)announce_for_the_dead();
  const std::uint64_t now = generation();
  const stream_changes changes = changes_between(claims_generation_, now);
  bool is_complete = true;
  if (!changes.may_be_any) {
    for (const std::string& name : changes.names) is_complete = note_claim(name, 0) && is_complete;
    claims_generation_ = is_complete ? now : 0;
    return {};
  }
  sweep();
  const auto entries = os::list_entries(path_ + "/streams");
  if (!entries) return entries.error();
  // Other file systems may reuse the inode number of a removed directory.
  const bool trusts_inodes = os::is_tmpfs(path_);
  std::set<std::string> there;
  for (const os::directory_entry& entry : *entries) {
    if (entry.name.front() == '.') continue;
    there.insert(entry.name);
    if (!trusts_inodes || claims_.inode_of(entry.name) != entry.inode)
      is_complete = note_claim(entry.name, entry.inode) && is_complete;
  }
  claims_.forget_all_but(there);
  claims_generation_ = is_complete ? now : 0;
  return {};
}

result<void> bus_directory::check_new_stream(const stream_config& config) {
  auto checked = config::check_config(config);
  if (!checked) return checked;
  if (os::exists(stream_path(config.name))) {
    const auto known = facts_of(config.name);
    if (!known) return known.error();
    // Its creator may have died before it announced it.
    if (const auto map = lane_map::open(stream_path(config.name), **known, 0, true, false))
      (void)announce_lane(**known, **map);
    return error{errc::conflict, 0, "cannot add the stream '" + config.name + "'",
                 "it already exists", "bus stream info " + config.name};
  }
  const std::lock_guard guard(claims_mutex_);
  if (auto refreshed = refresh_claims(); !refreshed) return refreshed;
  if (config.name == default_stream) return {};
  for (const std::string& text : config.subjects) {
    if (text.starts_with(dead_letter_subjects)) continue;
    if (const auto theirs = claims_.find(*subject::pattern::parse(text)))
      return error{errc::conflict, 0, "cannot add the stream '" + config.name + "'",
                   "its subjects '" + text + "' overlap '" + theirs->pattern + "' of the stream '" +
                       theirs->stream + "'",
                   "choose subjects that no other stream captures (bus stream ls)"};
  }
  return {};
}

create_params bus_directory::new_create_params() const { return create_params_of(os::random_id()); }

result<void> bus_directory::add_stream(const stream_config& config, const create_params& with) {
  auto checked = check_new_stream(config);
  if (!checked) return checked;
  const std::string building =
      path_ + "/streams/" + std::string(half_made) + std::to_string(with.stream_id);
  auto made = create_stream_files(building, config, with);
  unfinished_change mark(*this);
  sync::reach(sync::failpoint::create_stream_built);
  if (made) made = os::rename_path(building, stream_path(config.name));
  if (!made) {
    os::remove_tree(building);
    return made;
  }
  sync::reach(sync::failpoint::create_stream_named);
  const std::uint64_t generation = mark.announce(layout::change_kind::changed, config.name);
  const std::string named = stream_path(config.name);
  if (const auto facts = read_stream_file(named))
    for (std::uint32_t lane = 0; lane < lanes_when_created(config); ++lane)
      if (const auto map = lane_map::open(named, *facts, lane, true, false))
        note_announced(**map, generation);
  return {};
}

result<void> bus_directory::change_stream(const stream_facts& to) {
  const std::string path = stream_path(to.config.name);
  if (!os::exists(path))
    return error{errc::not_found, 0, "no stream '" + to.config.name + "'",
                 "this bus has no stream of that name", "bus stream ls"};
  create_params with = create_params_of(to.stream_id);
  with.epoch = to.epoch;
  with.sealed = to.sealed;
  with.held = to.held;
  unfinished_change mark(*this);
  auto changed = replace_stream_file(path, to.config, with);
  if (changed) mark.announce(layout::change_kind::changed, to.config.name);
  return changed;
}

result<void> bus_directory::add_lane(const stream_facts& facts, std::uint32_t lane,
                                     std::uint64_t first_seq) {
  const auto now = read_stream_file(stream_path(facts.config.name));
  if (!now || now->stream_id != facts.stream_id)
    return error{errc::closed, 0, "cannot add a lane to the stream '" + facts.config.name + "'",
                 "it was removed in the meantime", ""};
  create_params with = create_params_of(facts.stream_id);
  with.epoch = facts.epoch;
  with.held = now->held;
  with.first_seqs.assign(lane + 1, first_seq);
  const std::string directory = stream_path(facts.config.name);
  auto made = create_lane_files(directory, facts.config, lane, with);
  if (!made) return made;
  sync::reach(sync::failpoint::create_lane_named);
  auto map = lane_map::open(directory, facts, lane, true, false);
  if (!map) return std::move(map.error());
  return announce_lane(facts, **map);
}

result<void> bus_directory::announce_lane(const stream_facts& facts, lane_map& lane) {
  base::word& announced = lane.header().counters.announced;
  if (sync::load_acquire(announced) != 0) [[likely]]
    return {};
  if (facts.config.mode == lane_mode::per_publisher) {
    auto told = announce_groups(stream_path(facts.config.name), facts, lane.index());
    if (!told && told.error().code == errc::no_space) return told;
  }
  const std::uint64_t generation = announce_change(layout::change_kind::changed, facts.config.name);
  sync::reach(sync::failpoint::create_lane_announced);
  note_announced(lane, generation);
  return {};
}

result<void> bus_directory::remove_stream(std::string_view name,
                                          std::chrono::milliseconds patience) {
  const std::string from = stream_path(name);
  if (config::name_flaw(name) != std::string_view() || !os::exists(from))
    return error{errc::not_found, 0, "no stream '" + std::string(name) + "'",
                 "this bus has no stream of that name", "bus stream ls"};
  const std::string to =
      path_ + "/streams/" + std::string(half_removed) + std::to_string(os::random_id());
  {
    unfinished_change mark(*this);
    auto renamed = os::rename_path(from, to);
    if (!renamed) return renamed;
    sync::reach(sync::failpoint::remove_stream_renamed);
    close_lanes(to);
    mark.announce(layout::change_kind::removed, name);
  }
  let_newcomers_in(to, patience);
  os::remove_tree(to);
  // Some files may remain, perhaps for want of a descriptor: the next change sweeps them.
  if (!os::surely_missing(to)) sync::store_release(control().unfinished, 1);
  return {};
}

result<std::vector<std::string>> bus_directory::leaving_streams() const {
  auto names = os::list_directory(path_ + "/streams");
  if (!names) return names;
  std::vector<std::string> all;
  for (const std::string& name : *names)
    if (name.starts_with(half_removed)) all.push_back(path_ + "/streams/" + name);
  return all;
}

}  // namespace bus::registry
