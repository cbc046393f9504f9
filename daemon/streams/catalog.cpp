#include "streams/catalog.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include "os/failure.hpp"
#include "os/random.hpp"
#include "storage/remove_tree.hpp"
#include "storage/subject_log.hpp"
#include "wire/checked_text.hpp"
#include "wire/stream_json.hpp"

namespace bus::streams {

namespace {

constexpr std::string_view half_made = ".new-";
constexpr std::string_view half_removed = ".old-";
constexpr std::int64_t largest_definition_bytes = 1 << 20;

std::string lane_in(const std::string& directory, std::uint32_t lane) {
  return directory + "/lane-" + std::to_string(lane);
}

error unreadable(const std::string& path, std::string why) {
  return {errc::corrupt, 0, "cannot use the stream in " + path, std::move(why),
          "restore stream.json from a backup, or move the directory away"};
}

}  // namespace

result<void> catalog::prepare() {
  for (const std::string& path : {directory_, directory_ + "/streams"})
    if (const int failure = disk_.make_directory(path); failure != 0)
      return os::failure(-failure, "cannot create " + path);
  std::vector<std::string> names;
  if (const int failure = disk_.list(directory_ + "/streams", names); failure != 0)
    return os::failure(-failure, "cannot list " + directory_ + "/streams");
  // First: a stream whose removal is only in the page cache would come back without its files.
  auto synced = sync_all(names);
  if (!synced) return synced;
  for (const std::string& name : names)
    if (name.starts_with(half_made) || name.starts_with(half_removed))
      storage::remove_tree(disk_, directory_of(name));
  return {};
}

// CATALOG-3: even if nothing was made just now. Each lane syncs its own files when it is opened.
result<void> catalog::sync_all(const std::vector<std::string>& names) {
  for (const std::string& path : {directory_, directory_ + "/streams"})
    if (const int failure = disk_.sync_directory(path); failure != 0)
      return os::failure(-failure, "cannot sync " + path);
  // Half-made and half-removed directories are synced too, or they may come back. Failures here are
  // ignored: no stream depends on them.
  for (const std::string& name : names)
    if (name.starts_with(".")) (void)disk_.sync_directory(directory_of(name));
  // The process that made the parents may not have synced them. One that busd may not open belongs
  // to another user.
  for (auto end = directory_.rfind('/'); end != std::string::npos;
       end = end == 0 ? std::string::npos : directory_.rfind('/', end - 1)) {
    const std::string above = directory_.substr(0, std::max<std::size_t>(end, 1));
    if (disk_.sync_directory(above) == -EIO) return os::failure(EIO, "cannot sync " + above);
  }
  return {};
}

result<void> catalog::sync_stream(const std::string& name) {
  const std::string path = directory_of(name);
  int failure = disk_.sync_directory(path);
  if (failure != 0) return os::failure(-failure, "cannot sync " + path);
  const std::string subjects = log::subjects_path(path);
  const int file = disk_.open(subjects, log::disk_mode::write, false);
  if (file == -ENOENT) return {};
  failure = file < 0 ? file : disk_.sync(file);
  if (file >= 0) disk_.close(file);
  if (failure != 0) return os::failure(-failure, "cannot sync " + subjects);
  return {};
}

result<std::vector<definition>> catalog::load(std::vector<error>& problems) {
  std::vector<std::string> names;
  if (const int failure = disk_.list(directory_ + "/streams", names); failure != 0)
    return os::failure(-failure, "cannot list " + directory_ + "/streams");
  std::vector<definition> all;
  for (const std::string& name : names) {
    if (name.starts_with(".")) continue;
    auto made = read(directory_of(name));
    if (made && made->config.name != name)
      made = unreadable(directory_of(name), "stream.json belongs to another stream");
    if (made) count_lanes(*made);
    if (made)
      all.push_back(std::move(*made));
    else
      problems.push_back(std::move(made.error()));
  }
  return all;
}

// A lane whose log exists belongs to the stream, even if busd was killed before it counted the
// lane, or stream.json is an older copy that was put back.
void catalog::count_lanes(definition& made) {
  while (made.lanes < made.config.lanes) {
    int failure = 0;
    const auto state =
        log::read_state(disk_, lane_directory_of(made.config.name, made.lanes), failure);
    if (!state || state->stream_id != made.stream_id || state->lane_index != made.lanes) return;
    ++made.lanes;
  }
}

result<definition> catalog::read(const std::string& path) {
  auto found = read_file(path, "/stream.json");
  if (found) return found;
  auto copy = read_file(path, "/stream.json.copy");
  return copy ? std::move(copy) : std::move(found);
}

result<definition> catalog::read_file(const std::string& path, const char* name) {
  const int file = disk_.open(path + name, log::disk_mode::read, false);
  const std::int64_t size = file >= 0 ? disk_.size(file) : file;
  std::string text(
      size > 0 && size <= largest_definition_bytes ? static_cast<std::size_t>(size) : 0, '\0');
  int failure = size < 0 ? static_cast<int>(size) : 0;
  if (failure == 0)
    failure =
        log::read_all(disk_, file, {reinterpret_cast<std::byte*>(text.data()), text.size()}, 0);
  if (file >= 0) disk_.close(file);
  if (failure != 0) return os::failure(-failure, "cannot read " + path + name);
  const auto checked = wire::checked(text);
  if (!checked) return unreadable(path, "the checksum of stream.json does not match");
  const nlohmann::json& json = *checked;
  auto config = wire::stream_from_json(json);
  if (!config) return unreadable(path, config.error().message());
  definition made;
  made.config = std::move(*config);
  made.stream_id = wire::number_of(json, "stream_id").value_or(0);
  made.epoch = wire::number_of(json, "epoch").value_or(1);
  made.lanes = static_cast<std::uint32_t>(
      std::clamp<std::uint64_t>(wire::number_of(json, "lanes_now").value_or(1), 1, 64));
  const auto sealed = json.find("sealed");
  made.sealed = sealed != json.end() && sealed->is_boolean() && sealed->get<bool>();
  return made;
}

result<void> catalog::make_own(const std::string& building, const definition& made) {
  const auto copied = read(building);
  auto written = rename_owner(building, made, copied ? copied->stream_id : 0);
  if (written) written = write_definition(building, made);
  if (!written) storage::remove_tree(disk_, building);
  return written;
}

// The files of a copy name the stream that they were copied from. They get the new stream's id, so
// that neither is ever taken for the other.
result<void> catalog::rename_owner(const std::string& building, const definition& made,
                                   std::uint64_t from_id) {
  for (std::uint32_t lane = 0; lane < made.lanes; ++lane) {
    const std::string directory = lane_in(building, lane);
    int failure = 0;
    auto state = log::read_state(disk_, directory, failure);
    if (!state && failure != -ENOENT && failure != -EBADMSG)
      return os::failure(-failure, "cannot read the state in " + directory);
    // Without a state, segments are identified by the id of the stream that was copied.
    std::vector<std::uint64_t> bases;
    failure = log::list_segments(disk_, directory, bases);
    if (failure == -ENOENT) continue;  // opening the log reports what is missing
    for (const std::uint64_t base_seq : bases) {
      if (failure != 0) break;
      const int file =
          disk_.open(log::segment_path(directory, base_seq), log::disk_mode::write, false);
      if (file < 0) return os::failure(-file, "cannot open a segment in " + directory);
      std::array<std::byte, sizeof(layout::log_segment_header)> head{};
      (void)disk_.read(file, head, 0);
      if (auto header = log::parse_segment_header(head.data());
          header && !log::is_foreign(*header, state ? state->log_id : 0, base_seq,
                                     {state ? state->stream_id : from_id, lane})) {
        header->stream_id = made.stream_id;
        header->header_crc = log::segment_header_crc(*header);
        std::memcpy(head.data(), &*header, sizeof *header);
        failure = disk_.write(file, head, 0);
        if (failure == 0) failure = disk_.sync(file);
      }
      disk_.close(file);
    }
    if (state) state->stream_id = made.stream_id;
    if (failure == 0 && state) failure = log::create_state(disk_, directory, *state);
    if (failure == 0) failure = disk_.sync_directory(directory);
    if (failure != 0) return os::failure(-failure, "cannot write the copy in " + directory);
  }
  (void)disk_.remove(building + "/manifest");  // of the copy: a log in use has none
  log::subjects_found found, copy;
  const std::string path = log::subjects_path(building);
  const int failure = log::read_subjects(disk_, path, from_id, found);
  if (failure != 0 && failure != -EBADMSG && failure != -ENOENT)
    return error{
        errc::corrupt, 0, "cannot use " + path,
        failure == -ESTALE ? "it belongs to another stream" : os::failure(-failure, "").why,
        "use a complete backup"};
  (void)log::read_subjects(disk_, log::subjects_copy_path(building), from_id, copy);
  std::vector<log::known_subject> subjects;
  for (std::uint64_t id = 0;; ++id) {  // opening the stream reports missing ones
    if (id < found.by_id.size() && found.by_id[id])
      subjects.push_back(*found.by_id[id]);
    else if (id < copy.by_id.size() && copy.by_id[id])
      subjects.push_back(*copy.by_id[id]);
    else
      break;
  }
  (void)disk_.remove(path);
  auto written = storage::subject_log::create(disk_, building, made.stream_id);
  if (!written) return std::move(written.error());
  return subjects.empty() ? result<void>{} : written->append(subjects);
}

result<void> catalog::write_definition(const std::string& directory, const definition& made) {
  nlohmann::json json = wire::to_json(made.config);
  json["stream_id"] = made.stream_id;
  json["epoch"] = made.epoch;
  json["lanes_now"] = made.lanes;
  json["sealed"] = made.sealed;
  const std::string text = wire::with_checksum(json);
  const std::string path = directory + "/stream.json", early = path + ".new";
  (void)disk_.remove(early);
  const int file = disk_.open(early, log::disk_mode::create, false);
  if (file < 0) return os::failure(-file, "cannot create " + early);
  int failure =
      disk_.write(file, {reinterpret_cast<const std::byte*>(text.data()), text.size()}, 0);
  if (failure == 0) failure = disk_.sync(file);
  disk_.close(file);
  if (failure == 0) failure = disk_.rename(early, path);
  if (failure == 0) failure = disk_.sync_directory(directory);
  if (failure != 0) return os::failure(-failure, "cannot write " + path);
  // A second copy, in case the first is damaged. A failure to write it is ignored.
  const std::string copy = path + ".copy";
  (void)disk_.remove(copy);
  const int second = disk_.open(copy, log::disk_mode::create, false);
  if (second < 0) return {};
  (void)disk_.write(second, {reinterpret_cast<const std::byte*>(text.data()), text.size()}, 0);
  disk_.close(second);
  return {};
}

std::string catalog::building_for(const definition& made) const {
  return directory_of(std::string(half_made) + std::to_string(made.stream_id));
}

std::string catalog::lane_directory_of(const std::string& name, std::uint32_t lane) const {
  return lane_in(directory_of(name), lane);
}

result<void> catalog::add(const definition& made, std::uint64_t high_water,
                          const storage::log_options& options) {
  std::vector<std::string> names;
  if (const int failure = disk_.list(directory_ + "/streams", names); failure != 0)
    return os::failure(-failure, "cannot list " + directory_ + "/streams");
  for (const std::string& name : names)
    if (name == made.config.name)
      return error{errc::conflict, 0, "cannot add the stream '" + name + "'",
                   "a log of that name exists in " + directory_of(name),
                   "choose another name, or move that directory away (mv)"};
  const std::string building = building_for(made);
  auto built = build(building, made, high_water, options);
  if (!built) {
    storage::remove_tree(disk_, building);
    return built;
  }
  return commit(building, made);
}

result<void> catalog::build(const std::string& building, const definition& made,
                            std::uint64_t high_water, const storage::log_options& options) {
  if (const int failure = disk_.make_directory(building); failure != 0)
    return os::failure(-failure, "cannot create " + building);
  auto written = write_definition(building, made);
  if (!written) return written;
  auto subjects = storage::subject_log::create(disk_, building, made.stream_id);
  if (!subjects) return std::move(subjects.error());
  for (std::uint32_t lane = 0; lane < made.lanes; ++lane) {
    auto log = storage::lane_log::create(disk_, lane_in(building, lane),
                                         {made.stream_id, made.epoch, lane}, high_water, options);
    if (!log) return std::move(log.error());
  }
  return {};
}

result<void> catalog::commit(const std::string& building, const definition& made) {
  const std::string path = directory_of(made.config.name);
  int failure = disk_.sync_directory(building);
  if (failure == 0) failure = disk_.rename(building, path);
  if (failure != 0) {
    storage::remove_tree(disk_, building);
  } else {
    failure = disk_.sync_directory(directory_ + "/streams");
    // The files stay until the next start, because the name may be on disk (CATALOG-2).
    if (failure != 0) (void)disk_.rename(path, building);
  }
  if (failure != 0)
    return os::failure(-failure, "cannot add the stream '" + made.config.name + "'");
  return {};
}

result<std::unique_ptr<storage::lane_log>> catalog::add_lane(const definition& changed,
                                                             std::uint64_t high_water,
                                                             const storage::log_options& options) {
  const std::uint32_t lane = changed.lanes - 1;
  auto log =
      storage::lane_log::create(disk_, lane_directory_of(changed.config.name, lane),
                                {changed.stream_id, changed.epoch, lane}, high_water, options);
  if (!log) return log;
  auto stored = store(changed);
  if (!stored) return std::move(stored.error());
  return log;
}

void catalog::forget(const std::string& building) { storage::remove_tree(disk_, building); }

result<void> catalog::store(const definition& changed) {
  return write_definition(directory_of(changed.config.name), changed);
}

result<void> catalog::set_aside(const std::string& name) {
  const std::string aside = directory_of(std::string(half_removed) + name);
  storage::remove_tree(disk_, aside);
  int failure = disk_.rename(directory_of(name), aside);
  if (failure != 0) return os::failure(-failure, "cannot remove the stream '" + name + "'");
  failure = disk_.sync_directory(directory_ + "/streams");
  if (failure == 0) return {};
  if (auto back = put_back(name); !back) return back;
  return os::failure(-failure, "cannot remove the stream '" + name + "'");
}

result<void> catalog::put_back(const std::string& name) {
  const std::string aside = directory_of(std::string(half_removed) + name);
  int failure = disk_.rename(aside, directory_of(name));
  if (failure == 0) failure = disk_.sync_directory(directory_ + "/streams");
  if (failure == 0) return {};
  error what =
      os::failure(-failure, "cannot restore the log of the stream '" + name + "' to its place");
  what.fix = "move " + aside + " to " + directory_of(name) + " before you start busd again";
  return what;
}

std::string catalog::let_go_of_aside(const std::string& name) {
  const std::string aside = directory_of(std::string(half_removed) + name);
  const std::string nameless = aside + "." + std::to_string(os::random_id());
  return disk_.rename(aside, nameless) == 0 ? nameless : std::string();
}

result<void> catalog::remove(const std::string& name) {
  auto removed = set_aside(name);
  if (!removed) return removed;
  const std::string aside = let_go_of_aside(name);
  if (!aside.empty()) storage::remove_tree(disk_, aside);
  return {};
}

}  // namespace bus::streams
