#include "inspect/backup_manifest.hpp"

#include <algorithm>
#include <cerrno>

#include "os/failure.hpp"
#include "wire/checked_text.hpp"
#include "wire/stream_json.hpp"

namespace bus::inspect {

namespace {

constexpr std::size_t step_bytes = 1 << 20;
constexpr std::int64_t largest_text_bytes = 64 << 20;

std::string manifest_path(const std::string& directory) { return directory + "/" + manifest_name; }

}  // namespace

std::uint64_t backup_manifest::messages() const noexcept {
  std::uint64_t sum = 0;
  for (const copied_lane& one : lanes) sum += one.messages;
  return sum;
}

int read_text(log::disk& from, const std::string& path, std::string& text) {
  const int file = from.open(path, log::disk_mode::read, false);
  if (file < 0) return file;
  const std::int64_t size = from.size(file);
  int failure = size < 0 ? static_cast<int>(size) : size > largest_text_bytes ? -EFBIG : 0;
  if (failure == 0) {
    text.resize(static_cast<std::size_t>(size));
    const std::int64_t got =
        from.read(file, {reinterpret_cast<std::byte*>(text.data()), text.size()}, 0);
    if (got < 0)
      failure = static_cast<int>(got);
    else
      text.resize(static_cast<std::size_t>(got));
  }
  from.close(file);
  return failure;
}

int checksum_file(log::disk& from, const std::string& path, std::uint64_t& bytes,
                  std::uint64_t& checksum) {
  bytes = checksum = 0;
  const int file = from.open(path, log::disk_mode::read, false);
  if (file < 0) return file;
  std::vector<std::byte> buffer(step_bytes);
  std::int64_t got = 0;
  file_checksum sum;
  while ((got = from.read(file, buffer, bytes)) > 0) {
    sum.add({buffer.data(), static_cast<std::size_t>(got)});
    bytes += static_cast<std::uint64_t>(got);
  }
  from.close(file);
  checksum = sum.value();
  return got < 0 ? static_cast<int>(got) : 0;
}

int write_manifest(log::disk& to, const std::string& directory, const backup_manifest& what) {
  nlohmann::json files = nlohmann::json::array(), lanes = nlohmann::json::array();
  for (const copied_file& one : what.files)
    files.push_back({{"path", one.path}, {"bytes", one.bytes}, {"crc64", one.checksum}});
  for (const copied_lane& one : what.lanes)
    lanes.push_back({{"lane", one.lane},
                     {"first_sequence", one.first_seq},
                     {"last_sequence", one.last_seq},
                     {"messages", one.messages}});
  const std::string text = wire::with_checksum(
      {{"format", 1}, {"messages", what.messages()}, {"lanes", lanes}, {"files", files}});
  const int file = to.open(manifest_path(directory), log::disk_mode::create, false);
  if (file < 0) return file;
  int failure = to.write(file, {reinterpret_cast<const std::byte*>(text.data()), text.size()}, 0);
  if (failure == 0) failure = to.sync(file);
  to.close(file);
  return failure;
}

result<backup_manifest> read_manifest(log::disk& from, const std::string& directory) {
  std::string text;
  const int failure = read_text(from, manifest_path(directory), text);
  if (failure == -ENOENT)
    return error{errc::not_found, ENOENT, "no finished backup in " + directory,
                 "it has no manifest: bus stream backup writes it last", "use a finished backup"};
  if (failure != 0) return os::failure(-failure, "cannot read the manifest in " + directory);
  const auto json = wire::checked(text);
  if (!json || !json->is_object() || !json->contains("files") || !json->contains("lanes"))
    return error{errc::corrupt, 0, "cannot use the manifest in " + directory,
                 "its checksum is wrong", "use another backup"};
  backup_manifest found;
  for (const auto& one : json->at("files"))
    found.files.push_back({wire::text_of(one, "path").value_or(""),
                           wire::number_of(one, "bytes").value_or(0),
                           wire::number_of(one, "crc64").value_or(0)});
  for (const auto& one : json->at("lanes"))
    found.lanes.push_back({static_cast<std::uint32_t>(wire::number_of(one, "lane").value_or(0)),
                           wire::number_of(one, "first_sequence").value_or(0),
                           wire::number_of(one, "last_sequence").value_or(0),
                           wire::number_of(one, "messages").value_or(0)});
  return found;
}

std::vector<std::string> differences(log::disk& from, const std::string& directory,
                                     const backup_manifest& what) {
  std::vector<std::string> wrong;
  for (const copied_file& one : what.files) {
    std::uint64_t bytes = 0;
    std::uint64_t checksum = 0;
    const int failure = checksum_file(from, directory + "/" + one.path, bytes, checksum);
    if (failure == -ENOENT)
      wrong.push_back(one.path + " is missing");
    else if (failure != 0)
      wrong.push_back(one.path + " cannot be read: " + os::failure(-failure, "").why);
    else if (bytes != one.bytes)
      wrong.push_back(one.path + " has " + std::to_string(bytes) + " bytes instead of " +
                      std::to_string(one.bytes));
    else if (checksum != one.checksum)
      wrong.push_back(one.path + " was modified");
  }
  // An extra segment would take over sequences of the segment before it.
  for (const copied_lane& lane : what.lanes) {
    const std::string folder = "lane-" + std::to_string(lane.lane);
    std::vector<std::string> names;
    (void)from.list(directory + "/" + folder, names);
    for (const std::string& name : names) {
      const std::string path = folder + "/" + name;
      if (name.ends_with(".log") &&
          std::none_of(what.files.begin(), what.files.end(),
                       [&](const copied_file& one) { return one.path == path; }))
        wrong.push_back(path + " does not belong to the backup");
    }
  }
  return wrong;
}

}  // namespace bus::inspect
