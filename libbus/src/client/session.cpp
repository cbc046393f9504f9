#include <bus/session.hpp>

#include <algorithm>

#include "client/consumer_core.hpp"
#include "client/group_status.hpp"
#include "client/lane_problems.hpp"
#include "client/publisher_core.hpp"
#include "layout/group.hpp"
#include "client/session_core.hpp"
#include "client/statistics.hpp"
#include "client/subscriber_core.hpp"
#include "client/keeper_link.hpp"
#include "client/keeper_status.hpp"
#include "os/random.hpp"
#include "sync/failpoint.hpp"
#include "sync/words.hpp"
#include "wire/stream_json.hpp"

namespace bus {

session_core::~session_core() {
  if (!guard.same_process() || !me) return;
  if (watched_) sync::unwatch(*this);
  streams_.clear();
  (void)directory->look_for_control();
  if (directory->removed()) {
    me->abandon();  // what lies at our path is not ours
    return;
  }
  const bool last = !others_live();
  if (last) {
    // The last one out takes ephemeral streams along; asked again under the lock, with our own file
    // still there.
    auto lock = directory->lock_changes();
    if (lock && !others_live()) remove_ephemeral_streams();
  }
  me.reset();
  if (!used_reserve_) return;
  peers.reset();  // our own file may be mapped there, too
  directory->fill_reserve();
}

bool session_core::others_live() {
  const auto ids = peers->ids();
  return std::any_of(ids.begin(), ids.end(), [&](std::uint32_t other) {
    return (!me || other != me->id()) && peers->state(other) == sync::life_state::alive;
  });
}

void session_core::remove_ephemeral_streams() {
  for (const std::string& name : directory->stream_names()) {
    const auto facts = client::read_stream_file(directory->stream_path(name));
    if (facts && facts->config.ephemeral) (void)directory->remove_stream(name);
  }
}

void session_core::forget_readers(std::span<const std::uint32_t> gone) {
  for (const auto& handle : streams()) {
    for (std::uint32_t lane = 0; lane < handle->lane_count(); ++lane) {
      const auto map =
          client::lane_map::open(handle->directory(), handle->facts(), lane, false, false);
      if (!map) continue;
      for (std::uint32_t i = 0; i < (*map)->reader_entries(); ++i) {
        base::word& entry = (*map)->reader_entry(i);
        const std::uint64_t seen = sync::load_relaxed(entry);  // the compare-and-swap decides
        if (seen == 0 || layout::is_group_reader(seen)) continue;
        const auto reader = static_cast<std::uint32_t>(seen >> 32);
        if (std::find(gone.begin(), gone.end(), reader) != gone.end() ||
            peers->state(reader) == sync::life_state::left)
          sync::replace(entry, seen, 0);
      }
    }
  }
}

std::uint32_t session_core::next_object_id() noexcept {
  return static_cast<std::uint32_t>(sync::add_relaxed(directory->control().next_object_id, 1)) &
         layout::publisher_id_mask;
}

error session_core::guest_error() const {
  if (no_room_) return *no_room_;
  return {errc::invalid_argument, 0, "cannot do this as a guest of the bus '" + address.name + "'",
          "this session makes no files of its own there: it looks, and removes",
          "open it with membership::member"};
}

error session_core::sealed_error(const std::string& name) const {
  return {errc::closed, 0, "cannot publish to stream '" + name + "'", "it is sealed",
          "bus stream seal " + name + " --off"};
}

error session_core::forked_error() const {
  return {errc::forked, 0, "cannot use this handle",
          "it belongs to the parent of this forked process", "open the bus again in the child"};
}

std::vector<std::shared_ptr<client::stream_handle>> session_core::streams(
    std::vector<error>* broken, std::uint64_t* seen) {
  if (!me) look();  // nobody else does for a guest
  const std::lock_guard guard_(mutex_);
  refresh(broken);
  std::vector<std::shared_ptr<client::stream_handle>> all;
  for (const auto& [name, handle] : streams_) all.push_back(handle);
  if (seen != nullptr) *seen = generation_;
  return all;
}

std::vector<std::shared_ptr<client::stream_handle>> session_core::streams_named(
    std::span<const std::string> names, std::uint64_t* seen) {
  if (!me) look();  // nobody else does for a guest
  const std::lock_guard guard_(mutex_);
  refresh(nullptr);
  std::vector<std::shared_ptr<client::stream_handle>> some;
  for (const std::string& name : names)
    if (const auto found = streams_.find(name); found != streams_.end())
      some.push_back(found->second);
  *seen = generation_;
  return some;
}

// Looks at what changed; at all streams when that is not known, or when `broken` are asked for.
// REQUIRES: mutex_
void session_core::refresh(std::vector<error>* broken) {
  const std::uint64_t generation = directory->generation();
  if (directory->removed()) {
    streams_.clear();
    broken_.clear();
    generation_ = generation;
    if (broken != nullptr) broken->push_back(directory->removed_error());
    return;
  }
  if (generation == generation_ && broken == nullptr) return;
  client::stream_changes changes = directory->changes_between(generation_, generation);
  bool complete = true;
  if (changes.may_be_any || broken != nullptr) {
    auto all = directory->list_streams();
    if (all) {
      changes.names = std::move(*all);
      const auto is_gone = [&](const std::string& name) {
        return !std::binary_search(changes.names.begin(), changes.names.end(), name);
      };
      std::erase_if(streams_, [&](const auto& known) { return is_gone(known.first); });
      std::erase_if(broken_, is_gone);
    } else {  // no descriptor, no memory: what is known stays, and the next call looks again
      if (broken != nullptr) broken->push_back(std::move(all.error()));
      changes.names.clear();
      complete = false;
    }
  }
  for (const std::string& name : changes.names) complete = refresh_one(name, broken) && complete;
  generation_ = complete ? generation : 0;
}

// False: it cannot be looked at just now; what is known of it stays.
// REQUIRES: mutex_
bool session_core::refresh_one(const std::string& name, std::vector<error>* broken) {
  const auto known = streams_.find(name);
  const auto facts = directory->facts_of(name);
  if (!facts) {
    const bool may_be_there = facts.error().code == errc::no_space;
    if (!may_be_there && known != streams_.end()) streams_.erase(known);
    if (facts.error().code == errc::not_found) {
      broken_.erase(name);
    } else {
      broken_.insert(name);
      if (broken != nullptr) broken->push_back(facts.error());
    }
    return !may_be_there;
  }
  broken_.erase(name);
  if (known != streams_.end() && known->second->facts().stamp == (*facts)->stamp) return true;
  auto made = client::stream_handle::make(directory->stream_path(name), **facts,
                                          known != streams_.end() ? known->second : nullptr);
  handles_.push_back(made);
  streams_.insert_or_assign(name, std::move(made));
  return true;
}

void session_core::look() noexcept {
  constexpr std::size_t files_at_once = 256;
  if (directory->removed() || !directory->look_for_control()) return;
  if (me && !me->is_there()) return directory->note_own_file_lost();
  const std::lock_guard guard_(mutex_);
  std::erase_if(handles_, [](const auto& handle) { return handle.expired(); });
  bool lost = false;
  std::size_t looked = 0;
  for (std::size_t i = 0; i < handles_.size() && looked < files_at_once; ++i) {
    if (next_handle_ >= handles_.size()) next_handle_ = 0;
    if (const auto handle = handles_[next_handle_++].lock())
      lost = handle->look_for_files(*directory, looked) || lost;
  }
  if (lost) directory->announce_change();
}

std::vector<std::shared_ptr<client::stream_handle>> session_core::streams_now() {
  std::vector<error> broken;
  return streams(directory->may_be_changing() ? &broken : nullptr);
}

result<std::shared_ptr<client::stream_handle>> session_core::stream(const std::string& name) {
  std::uint64_t seen = 0;
  if (auto found = streams_named({&name, 1}, &seen); !found.empty())
    return std::move(found.front());
  if (directory->removed()) return directory->removed_error();
  if (client::name_flaw(name).empty() && os::exists(directory->stream_path(name))) {
    auto facts = client::read_stream_file(directory->stream_path(name));
    if (!facts) return std::move(facts.error());
    std::vector<error> broken;
    for (auto& handle : streams(&broken))
      if (handle->name() == name) return handle;
  }
  return error{errc::not_found, 0, "no stream '" + name + "'", "this bus has none of that name",
               "bus stream ls"};
}

result<void> session_core::add_stream(const stream_config& config) {
  if (directory->removed()) return directory->removed_error();
  if (config.storage != storage_class::memory) {
    auto checked = client::check_config(config);
    if (!checked) return checked;
    // What JSON cannot carry would come out as another pattern.
    const nlohmann::json sent = wire::to_json(config);
    auto back = wire::stream_from_json(nlohmann::json::parse(
        sent.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace), nullptr, false));
    if (!back || back->subjects != config.subjects)
      return error{errc::invalid_argument, 0, "cannot add the stream '" + config.name + "'",
                   "its subjects are not valid UTF-8", ""};
    auto answer = ask_keeper({{"do", "add_stream"}, {"stream", sent}});
    if (answer) return {};
    if (answer.error().code == errc::unavailable)
      return client::no_keeper(address.name, "cannot add the stream '" + config.name +
                                                 "' with storage " + storage_name(config.storage));
    return std::move(answer.error());
  }
  auto lock = directory->lock_changes();
  if (!lock) return std::move(lock.error());
  return directory->add_stream(config, directory->new_create_params());
}

result<void> session_core::remove_stream(std::string_view name) {
  const auto facts = client::read_stream_file(directory->stream_path(name));
  if (facts && facts->config.storage != storage_class::memory) {
    return request_from_keeper({{"do", "remove_stream"}, {"name", name}});
  }
  auto lock = directory->lock_changes();
  if (!lock) return std::move(lock.error());
  const auto groups = client::list_groups(directory->stream_path(name));
  auto removed = directory->remove_stream(name);
  // Dead letters of a stream that is gone have nowhere to go back to.
  for (const std::string& group : removed&& groups ? *groups : std::vector<std::string>())
    (void)directory->remove_stream(dead_letter_stream(name, group));
  (void)streams();  // what is mapped here would keep its memory
  directory->fill_reserve();
  return removed;
}

result<void> session_core::request_from_keeper(const nlohmann::json& request) {
  auto answer = ask_keeper(request);
  if (!answer) return std::move(answer.error());
  return {};
}

result<nlohmann::json> session_core::ask_keeper(const nlohmann::json& request) {
  return client::ask_keeper(directory->path(), address.name, request);
}

// Null: only a look at all streams can tell.
std::shared_ptr<client::stream_handle> session_core::known_stream_of(std::string_view subject,
                                                                     std::uint64_t& seen) {
  const std::lock_guard guard_(mutex_);
  refresh(nullptr);
  if (generation_ == 0 || directory->removed()) return nullptr;
  seen = generation_;
  std::shared_ptr<client::stream_handle> rest;
  for (const auto& [name, handle] : streams_) {
    if (handle->is_default())
      rest = handle;
    else if (handle->captures(subject))
      return handle;
  }
  return broken_.empty() ? rest : nullptr;
}

result<std::shared_ptr<client::stream_handle>> session_core::stream_of_subject(
    std::string_view subject, std::uint64_t* seen, bool looks_now) {
  const auto checked = [&](std::shared_ptr<client::stream_handle> found)
      -> result<std::shared_ptr<client::stream_handle>> {
    if (found->is_default()) return found;
    if (found->facts().sealed) return sealed_error(found->name());
    if (found->facts().held) return *found->facts().held;
    return found;
  };
  if (!looks_now) {
    std::uint64_t generation = 0;
    if (auto known = known_stream_of(subject, generation)) {
      if (seen != nullptr) *seen = generation;
      return checked(std::move(known));
    }
  }
  for (int attempt = 0; attempt < 3; ++attempt) {
    std::shared_ptr<client::stream_handle> rest;
    std::vector<error> broken;
    for (auto& handle : streams(&broken, seen)) {
      if (handle->is_default())
        rest = handle;
      else if (handle->captures(subject))
        return checked(std::move(handle));
    }
    // A stream that cannot be read may be the one that captures it: guessing would lose messages.
    if (!broken.empty()) return std::move(broken.front());
    if (rest) return rest;
    stream_config config;
    config.name = default_stream;
    config.subjects = {">"};
    config.overflow = overflow::drop_oldest;
    auto made = add_stream(config);
    if (!made && made.error().code != errc::conflict) return std::move(made.error());
  }
  return stream(std::string(default_stream));
}

// What was half made goes, and what was ephemeral when nobody else lives. False: nothing was done.
bool session_core::clear_up_after(std::vector<std::uint32_t> gone) {
  constexpr std::chrono::milliseconds patience{100};
  if (gone.empty()) return false;
  const auto lock = directory->lock_changes(patience);
  if (!lock) return false;
  // Others who came at the same time have done it, perhaps.
  std::erase_if(gone, [&](std::uint32_t id) { return peers->state(id) == sync::life_state::left; });
  if (gone.empty()) return false;
  directory->sweep();
  // whoever waits for them may look
  if (!directory->announce_for_the_dead()) directory->announce_change(layout::change_kind::none);
  forget_readers(gone);
  if (me && !others_live()) remove_ephemeral_streams();
  sync::reach(sync::failpoint::dead_cleared);
  peers->reap_process(gone);
  return true;
}

result<std::shared_ptr<session_core>> session_core::open(const session_options& options) {
  auto address = client::parse_url(options.url);
  if (!address) return std::move(address.error());
  if (!options.process_name.empty()) address->process_name = options.process_name;
  if (options.joins == membership::guest) return open_as_guest(*address);
  constexpr std::uint32_t few_slots = 64;
  std::uint32_t slots = address->slots != 0 ? address->slots : layout::max_slots;
  bool used_reserve = false;
  for (int attempt = 0;; ++attempt) {
    auto directory = client::bus_directory::open(*address, options.create);
    if (!directory) return std::move(directory.error());
    auto core = std::make_shared<session_core>();
    core->address = *address;
    core->directory = std::move(*directory);
    std::uint64_t id = sync::add_relaxed(core->directory->control().next_process_id, 1);
    // A scribbled counter may give ids that are taken, or that no lock word can hold.
    if (attempt != 0 || id == 0 || id > sync::lock_owner_mask)
      id = os::random_id() % sync::lock_owner_mask + 1;
    core->peers = std::make_unique<client::process_table>(core->directory->processes(), os::self(),
                                                          static_cast<std::uint32_t>(id));
    const auto gone = core->peers->gone();
    auto joined =
        client::own_process::join(core->directory->processes(), static_cast<std::uint32_t>(id),
                                  core->directory->bus_id(), address->process_name, slots);
    if (!joined) {
      // The bus was removed, or a scribbled counter gave an id that is taken: once more.
      const errc code = joined.error().code;
      if (code == errc::not_found)  // or only that directory was deleted
        (void)os::make_directory(core->directory->processes(), 0700);
      if ((code == errc::not_found || code == errc::conflict) && attempt < 8) continue;
      // The dead may take the place that we need.
      if (code == errc::no_space && attempt < 8 && core->clear_up_after(gone)) continue;
      if (code == errc::no_space && options.may_use_reserve && !std::exchange(used_reserve, true)) {
        slots = std::min(slots, few_slots);
        (void)core->directory->empty_reserve();
        continue;
      }
      if (code == errc::no_space && options.joins == membership::guest_if_full) {
        core->no_room_ = std::move(joined.error());
        core->is_guest_ = true;
        return core;
      }
      return std::move(joined.error());
    }
    core->me = std::move(*joined);
    core->directory->act_as(core->me->id(), core->me->lock_word(), *core->peers);
    // Among the others, too: who looks for interests when there are no descriptors meets its own.
    (void)core->peers->find(core->me->id());
    core->used_reserve_ = used_reserve;
    if (!used_reserve) core->directory->fill_reserve();
    if (gone.empty()) core->peers->reap_process({});
    // the next one does, when somebody else is at it
    else
      (void)core->clear_up_after(gone);
    if (auto watched = sync::watch(*core); !watched) return std::move(watched.error());
    core->watched_ = true;
    return core;
  }
}

result<std::shared_ptr<session_core>> session_core::open_as_guest(
    const client::bus_address& address) {
  if (!os::exists(address.directory())) return client::no_bus(address);
  auto directory = client::bus_directory::look(address);
  if (!directory) {
    if (directory.error().code == errc::not_found) return client::no_bus(address);
    return std::move(directory.error());
  }
  auto core = std::make_shared<session_core>();
  core->address = address;
  core->directory = std::move(*directory);
  core->peers =
      std::make_unique<client::process_table>(core->directory->processes(), os::self(), 0);
  core->is_guest_ = true;
  return core;  // who clears up after the dead closes lanes, and needs a name for their locks
}

result<session> session::open(session_options options) {
  auto core = session_core::open(options);
  if (!core) return std::move(core.error());
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
  auto made = client::create_group(*core_, **stream, config);
  if (!made) return made;
  // Entered at once: what is published from now on is for it.
  auto opened = client::group_handle::open(*core_, *stream, config.name);
  if (!opened) return std::move(opened.error());
  return {};
}

result<void> session::remove_group(std::string_view stream, std::string_view group) {
  if (!core_->guard.same_process()) return core_->forked_error();
  auto handle = core_->stream(std::string(stream));
  if (!handle) return std::move(handle.error());
  auto removed = client::remove_group(*core_, **handle, group);
  handle->reset();
  (void)core_->streams();
  core_->directory->fill_reserve();
  return removed;
}

namespace {

template <class Act>
auto with_group(const std::shared_ptr<session_core>& core, std::string_view stream,
                std::string_view group, Act&& act)
    -> decltype(act(std::declval<client::group_handle&>())) {
  if (!core->guard.same_process()) return core->forked_error();
  auto opened = client::open_group(*core, stream, group);
  if (!opened) return std::move(opened.error());
  return act(**opened);
}

}  // namespace

result<void> session::pause_group(std::string_view stream, std::string_view group,
                                  std::optional<std::chrono::nanoseconds> time) {
  return with_group(core_, stream, group, [&](auto& g) { return client::pause_group(g, time); });
}
result<void> session::resume_group(std::string_view stream, std::string_view group) {
  return with_group(core_, stream, group, [&](auto& g) { return client::resume_group(g); });
}
result<std::uint32_t> session::repair_group(std::string_view stream, std::string_view group) {
  if (core_->guard.same_process() && !core_->me) return core_->guest_error();
  return with_group(core_, stream, group, [&](auto& g) { return client::repair_group(g); });
}
result<group_info> session::group(std::string_view stream, std::string_view group) const {
  return with_group(core_, stream, group, [&](auto& g) { return client::describe_group(g); });
}
result<std::vector<pending_message>> session::pending(std::string_view stream,
                                                      std::string_view group,
                                                      std::size_t max) const {
  return with_group(core_, stream, group, [&](auto& g) { return client::list_pending(g, max); });
}
result<std::vector<peeked_message>> session::peek(std::string_view stream, std::string_view group,
                                                  std::size_t max) const {
  return with_group(core_, stream, group, [&](auto& g) { return client::peek_group(g, max); });
}
result<std::vector<dead_letter>> session::dead_letters(std::string_view stream,
                                                       std::string_view group, std::uint64_t from,
                                                       std::size_t max) const {
  return with_group(core_, stream, group,
                    [&](auto& g) { return client::list_dead_letters(g, from, max); });
}
result<std::uint64_t> session::drop_dead_letters(std::string_view stream, std::string_view group,
                                                 std::uint64_t sequence) {
  if (core_->guard.same_process() && !core_->me) return core_->guest_error();
  return with_group(core_, stream, group,
                    [&](auto& g) { return client::drop_dead_letters(g, sequence); });
}

result<std::vector<group_info>> session::groups(std::string_view stream) const {
  if (!core_->guard.same_process()) return core_->forked_error();
  std::vector<group_info> all;
  bool found = stream.empty();
  for (const auto& handle : core_->streams()) {
    if (!stream.empty() && handle->name() != stream) continue;
    found = true;
    auto names = client::list_groups(handle->directory());
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
                 "this bus has none of that name", "bus stream ls"};
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
  made.error().why = "it exists and differs in " + differences;
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
  return client::repair_lanes(*core_, **stream);
}

std::vector<error> session::troubles() const {
  return core_->guard.same_process() ? client::find_lane_problems(*core_) : std::vector<error>();
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
  return client::keeper_from_json(*answer);
}

result<stream_info> session::stream(std::string_view name) const {
  if (!core_->guard.same_process()) return core_->forked_error();
  auto handle = core_->stream(std::string(name));
  if (!handle) return std::move(handle.error());
  return client::describe_stream(*core_, **handle);
}

result<std::vector<stream_info>> session::streams() const {
  if (!core_->guard.same_process()) return core_->forked_error();
  if (core_->directory->removed()) return core_->directory->removed_error();
  std::vector<stream_info> all;
  for (auto& handle : core_->streams()) {
    auto info = client::describe_stream(*core_, *handle);
    if (info) all.push_back(std::move(*info));
  }
  return all;
}

std::vector<error> session::broken_streams() const {
  std::vector<error> broken;
  if (!core_->guard.same_process()) return broken;
  for (auto& handle : core_->streams(&broken)) {
    auto info = client::describe_stream(*core_, *handle);
    if (info || !os::exists(handle->directory() + "/stream")) continue;  // removed this moment
    broken.push_back(std::move(info.error()));
    if (broken.back().fix.empty())
      broken.back().fix = "see what deletes its files; then add it again under another name";
  }
  return broken;
}

result<std::vector<process_info>> session::processes() const {
  if (!core_->guard.same_process()) return core_->forked_error();
  return client::describe_processes(*core_);
}

result<std::string> root_of(std::string_view url) {
  auto address = client::parse_url(url);
  if (!address) return std::move(address.error());
  return address->root.empty() ? os::bus_root() : std::move(address->root);
}

std::vector<std::string> list_buses(std::string_view root) {
  std::vector<std::string> names;
  const std::string mine = "bus-" + std::to_string(os::user_id()) + ".";
  const std::string at = root.empty() ? os::bus_root() : std::string(root);
  if (const auto found = os::list_directory(at)) {
    for (const std::string& name : *found) {
      if (!name.starts_with(mine) || !client::name_flaw(name.substr(mine.size())).empty()) continue;
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
  auto address = client::parse_url(url);
  if (!address) return std::move(address.error());
  const std::string path = address->directory();
  if (!os::exists(path))
    return error{errc::not_found, 0, "no bus '" + address->name + "'", path + " does not exist",
                 "bus ls"};
  // Nothing of another user's is written to, or followed.
  if (auto checked = client::check_parents(*address); !checked) return checked;
  auto lock = os::file_lock::take(path + "/lock", 0600, std::chrono::seconds(5));
  if (!lock) return std::move(lock.error());
  client::process_table peers(path + "/processes", os::self(), 0);
  if (!force) {
    for (const std::uint32_t id : peers.ids()) {
      if (peers.state(id) == sync::life_state::alive)
        return error{errc::busy, 0, "cannot remove the bus '" + address->name + "'",
                     peers.describe(id) + " uses it", "end its processes (bus ps), or use --force"};
    }
  }
  const auto mapped = client::bus_directory::look(*address);  // not when it is broken
  // Out of the way first: an opener sees all of it or nothing.
  const std::string aside = path + ".removed." + std::to_string(os::random_id());
  auto renamed = os::rename_path(path, aside);
  if (!renamed) return renamed;
  if (mapped) (*mapped)->announce_removal(aside);
  os::remove_tree(aside);
  return {};
}

}  // namespace bus
