#include "registry/session_core.hpp"

#include <algorithm>

#include "config/check.hpp"
#include "os/files.hpp"
#include "registry/group_files.hpp"
#include "registry/keeper_link.hpp"
#include "wire/stream_json.hpp"

namespace bus {

std::vector<std::shared_ptr<registry::stream_handle>> session_core::streams(
    std::vector<error>* broken, std::uint64_t* seen) {
  if (!me) look();  // nobody else does for a guest
  const std::lock_guard guard_(mutex_);
  refresh(broken);
  std::vector<std::shared_ptr<registry::stream_handle>> all;
  for (const auto& [name, handle] : streams_) all.push_back(handle);
  if (seen != nullptr) *seen = generation_;
  return all;
}

std::vector<std::shared_ptr<registry::stream_handle>> session_core::streams_named(
    std::span<const std::string> names, std::uint64_t* seen) {
  if (!me) look();  // nobody else does for a guest
  const std::lock_guard guard_(mutex_);
  refresh(nullptr);
  std::vector<std::shared_ptr<registry::stream_handle>> some;
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
  registry::stream_changes changes = directory->changes_between(generation_, generation);
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
  auto made = registry::stream_handle::make(directory->stream_path(name), **facts,
                                            known != streams_.end() ? known->second : nullptr);
  handles_.push_back(made);
  streams_.insert_or_assign(name, std::move(made));
  return true;
}

std::vector<std::shared_ptr<registry::stream_handle>> session_core::streams_now() {
  std::vector<error> broken;
  return streams(directory->may_be_changing() ? &broken : nullptr);
}

result<std::shared_ptr<registry::stream_handle>> session_core::stream(const std::string& name) {
  std::uint64_t seen = 0;
  if (auto found = streams_named({&name, 1}, &seen); !found.empty())
    return std::move(found.front());
  if (directory->removed()) return directory->removed_error();
  if (config::name_flaw(name).empty() && os::exists(directory->stream_path(name))) {
    auto facts = registry::read_stream_file(directory->stream_path(name));
    if (!facts) return std::move(facts.error());
    std::vector<error> broken;
    for (auto& handle : streams(&broken))
      if (handle->name() == name) return handle;
  }
  return error{errc::not_found, 0, "no stream '" + name + "'",
               "this bus has no stream of that name", "bus stream ls"};
}

result<void> session_core::add_stream(const stream_config& config) {
  if (directory->removed()) return directory->removed_error();
  if (config.storage != storage_class::memory) {
    auto checked = config::check_config(config);
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
      return registry::no_keeper(address.name, "cannot add the stream '" + config.name +
                                                   "' with storage " +
                                                   storage_name(config.storage));
    return std::move(answer.error());
  }
  auto lock = directory->lock_changes();
  if (!lock) return std::move(lock.error());
  return directory->add_stream(config, directory->new_create_params());
}

result<void> session_core::remove_stream(std::string_view name) {
  const auto facts = registry::read_stream_file(directory->stream_path(name));
  if (facts && facts->config.storage != storage_class::memory) {
    return request_from_keeper({{"do", "remove_stream"}, {"name", name}});
  }
  auto lock = directory->lock_changes();
  if (!lock) return std::move(lock.error());
  const auto groups = registry::list_groups(directory->stream_path(name));
  auto removed = directory->remove_stream(name);
  // Dead letters of a stream that is gone have nowhere to go back to.
  for (const std::string& group : removed&& groups ? *groups : std::vector<std::string>())
    (void)directory->remove_stream(dead_letter_stream(name, group));
  (void)streams();  // what is mapped here would keep its memory
  directory->fill_reserve();
  return removed;
}

// Null: only a look at all streams can tell.
std::shared_ptr<registry::stream_handle> session_core::known_stream_of(std::string_view subject,
                                                                       std::uint64_t& seen) {
  const std::lock_guard guard_(mutex_);
  refresh(nullptr);
  if (generation_ == 0 || directory->removed()) return nullptr;
  seen = generation_;
  std::shared_ptr<registry::stream_handle> rest;
  for (const auto& [name, handle] : streams_) {
    if (handle->is_default())
      rest = handle;
    else if (handle->captures(subject))
      return handle;
  }
  return broken_.empty() ? rest : nullptr;
}

result<std::shared_ptr<registry::stream_handle>> session_core::stream_of_subject(
    std::string_view subject, std::uint64_t* seen, bool looks_now) {
  const auto checked = [&](std::shared_ptr<registry::stream_handle> found)
      -> result<std::shared_ptr<registry::stream_handle>> {
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
    std::shared_ptr<registry::stream_handle> rest;
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

}  // namespace bus
