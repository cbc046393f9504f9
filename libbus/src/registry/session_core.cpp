#include "registry/session_core.hpp"

#include <algorithm>

#include "layout/group.hpp"
#include "os/random.hpp"
#include "registry/keeper_link.hpp"
#include "sync/failpoint.hpp"
#include "sync/words.hpp"

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
    const auto facts = registry::read_stream_file(directory->stream_path(name));
    if (facts && facts->config.ephemeral) (void)directory->remove_stream(name);
  }
}

void session_core::forget_readers(std::span<const std::uint32_t> gone) {
  for (const auto& handle : streams()) {
    for (std::uint32_t lane = 0; lane < handle->lane_count(); ++lane) {
      const auto map =
          registry::lane_map::open(handle->directory(), handle->facts(), lane, false, false);
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
          "a guest creates no files of its own there: it only reads and removes",
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

result<void> session_core::request_from_keeper(const nlohmann::json& request) {
  auto answer = ask_keeper(request);
  if (!answer) return std::move(answer.error());
  return {};
}

result<nlohmann::json> session_core::ask_keeper(const nlohmann::json& request) {
  return registry::ask_keeper(directory->path(), address.name, request);
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
  auto address = registry::parse_url(options.url);
  if (!address) return std::move(address.error());
  if (!options.process_name.empty()) address->process_name = options.process_name;
  if (options.joins == membership::guest) return open_as_guest(*address);
  constexpr std::uint32_t few_slots = 64;
  std::uint32_t slots = address->slots != 0 ? address->slots : layout::max_slots;
  bool used_reserve = false;
  for (int attempt = 0;; ++attempt) {
    auto directory = registry::bus_directory::open(*address, options.create);
    if (!directory) return std::move(directory.error());
    auto core = std::make_shared<session_core>();
    core->address = *address;
    core->directory = std::move(*directory);
    std::uint64_t id = sync::add_relaxed(core->directory->control().next_process_id, 1);
    // A scribbled counter may give ids that are taken, or that no lock word can hold.
    if (attempt != 0 || id == 0 || id > sync::lock_owner_mask)
      id = os::random_id() % sync::lock_owner_mask + 1;
    core->peers = std::make_unique<registry::process_table>(
        core->directory->processes(), os::self(), static_cast<std::uint32_t>(id));
    const auto gone = core->peers->gone();
    auto joined =
        registry::own_process::join(core->directory->processes(), static_cast<std::uint32_t>(id),
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
    const registry::bus_address& address) {
  if (!os::exists(address.directory())) return registry::no_bus(address);
  auto directory = registry::bus_directory::look(address);
  if (!directory) {
    if (directory.error().code == errc::not_found) return registry::no_bus(address);
    return std::move(directory.error());
  }
  auto core = std::make_shared<session_core>();
  core->address = address;
  core->directory = std::move(*directory);
  core->peers =
      std::make_unique<registry::process_table>(core->directory->processes(), os::self(), 0);
  core->is_guest_ = true;
  return core;  // who clears up after the dead closes lanes, and needs a name for their locks
}

}  // namespace bus
