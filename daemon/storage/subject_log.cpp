#include "storage/subject_log.hpp"

#include <cerrno>
#include <cstring>

#include "log/format.hpp"
#include "os/clock.hpp"
#include "os/failure.hpp"

namespace bus::storage {

namespace {

void add_entry(std::vector<std::byte>& bytes, std::uint64_t stream_id, std::uint64_t id,
               const log::known_subject& subject) {
  layout::log_subject head{};
  head.id = static_cast<std::uint32_t>(id);
  head.length = static_cast<std::uint32_t>(subject.text.size());
  head.type = subject.type;
  head.crc = log::subject_crc(stream_id, head, subject.text.data());
  const std::size_t at = bytes.size();
  bytes.resize(at + sizeof head + base::round_up(subject.text.size(), 8));
  std::memcpy(bytes.data() + at, &head, sizeof head);
  std::memcpy(bytes.data() + at + sizeof head, subject.text.data(), subject.text.size());
}

std::vector<std::byte> header_bytes(std::uint64_t stream_id) {
  layout::log_subjects_header header{};
  header.magic = layout::log_subjects_magic;
  header.stream_id = stream_id;
  header.crc = log::subjects_header_crc(header);
  std::vector<std::byte> bytes(sizeof header);
  std::memcpy(bytes.data(), &header, sizeof header);
  return bytes;
}

std::string ids_text(const std::vector<std::uint64_t>& ids) {
  std::string text = (ids.size() == 1 ? "id " : "ids ");
  for (std::size_t i = 0; i < ids.size() && i < 4; ++i)
    text += (i == 0 ? "" : ", ") + std::to_string(ids[i]);
  return ids.size() > 4 ? text + ", ..." : text;
}

}  // namespace

result<subject_log> subject_log::create(log::disk& on, const std::string& stream_directory,
                                        std::uint64_t stream_id) {
  subject_log made(on, stream_directory, stream_id);
  auto written = made.write_whole(log::subjects_path(stream_directory));
  if (!written) return std::move(written.error());
  made.write_copy();
  return made;
}

result<subject_log> subject_log::open(log::disk& on, const std::string& stream_directory,
                                      std::uint64_t stream_id, std::uint64_t required,
                                      const lookup& elsewhere, std::string& mended) {
  subject_log made(on, stream_directory, stream_id);
  const std::string path = log::subjects_path(stream_directory);
  log::subjects_found first, copy;
  const int failure = log::read_subjects(on, path, stream_id, first);
  if (failure == -ESTALE)
    return error{errc::corrupt, 0, "cannot use " + path, "it belongs to another stream",
                 "restore the stream's own file: nothing was changed"};
  if (failure != 0 && failure != -ENOENT) return os::failure(-failure, "cannot read " + path);
  (void)log::read_subjects(on, log::subjects_copy_path(stream_directory), stream_id, copy);
  const bool is_whole = failure == 0 && first.stream_id != 0 && first.prefix_count >= required;
  std::vector<std::uint64_t> missing;
  std::uint64_t filled = 0;
  // Entries after the required ones count as long as they are consecutive: the copy may have what
  // is torn in the first file, and no intact entry after damage is cut off.
  std::uint64_t count = std::max(required, first.prefix_count);
  const auto is_in = [&](const log::subjects_found& in) {
    return count < in.by_id.size() && in.by_id[count].has_value();
  };
  while (is_in(first) || is_in(copy)) ++count;
  for (std::uint64_t id = 0; id < count; ++id) {
    std::optional<log::known_subject> found;
    if (id < first.by_id.size()) found = first.by_id[id];
    if (!found && id < copy.by_id.size()) found = copy.by_id[id];
    if (!found && elsewhere) found = elsewhere(static_cast<std::uint32_t>(id));
    if (!found) missing.push_back(id);
    filled += id >= first.by_id.size() || !first.by_id[id];
    made.known_.push_back(found.value_or(log::known_subject{}));
  }
  if (!missing.empty())
    return error{errc::corrupt, 0, "cannot use " + path,
                 std::to_string(missing.size()) + " of " + std::to_string(required) +
                     " subjects are missing or damaged (" + ids_text(missing) +
                     "), and neither the copy nor shared memory has them",
                 "restore the file from a backup and start busd again: nothing was changed "
                 "(bus stream verify --dir " +
                     stream_directory + ")"};
  if (is_whole && count == first.prefix_count) {  // SUBJECTS-3
    made.end_ = first.prefix_end;
    auto cut = made.truncate_after(made.end_);
    if (!cut) return std::move(cut.error());
  } else {
    if (failure == 0 && !is_whole) {
      const std::string kept = path + ".damaged-" + std::to_string(os::wall_ns());
      if (const int moved = on.rename(path, kept); moved != 0)
        return os::failure(-moved, "cannot move " + path + " aside");
      mended = "the damaged file was kept as " + kept;
    }
    auto written = made.write_whole(path);
    if (!written) return std::move(written.error());
    if (!is_whole)
      mended = std::to_string(filled) + " of " + std::to_string(count) +
               " subjects were missing or damaged, and were restored from the copy or from shared "
               "memory" +
               (mended.empty() ? "" : "; ") + mended;
  }
  if (copy.stream_id != stream_id || copy.bad_bytes != 0 ||
      copy.prefix_count != made.known_.size() || copy.prefix_end != made.end_)
    made.write_copy();
  return made;
}

// Written under another name first, so that the file is complete whenever the power fails.
result<void> subject_log::write_whole(const std::string& path) {
  std::vector<std::byte> bytes = header_bytes(stream_id_);
  for (std::uint64_t id = 0; id < known_.size(); ++id) add_entry(bytes, stream_id_, id, known_[id]);
  const std::string early = path + ".tmp";
  (void)disk_->remove(early);
  const int file = disk_->open(early, log::disk_mode::create, false);
  if (file < 0) return os::failure(-file, "cannot create " + path);
  int failure = disk_->write(file, bytes, 0);
  if (failure == 0) failure = disk_->sync(file);
  disk_->close(file);
  if (failure == 0) failure = disk_->rename(early, path);
  if (failure == 0) failure = disk_->sync_directory(directory_);
  if (failure != 0) return os::failure(-failure, "cannot write " + path);
  end_ = bytes.size();
  return {};
}

// SUBJECTS-3. Zeroes the rest: intact entries there must not reappear when torn ones before them
// are overwritten.
result<void> subject_log::truncate_after(std::uint64_t end) {
  const std::string path = log::subjects_path(directory_);
  const int file = disk_->open(path, log::disk_mode::write, false);
  if (file < 0) return os::failure(-file, "cannot open " + path);
  const std::int64_t size = disk_->size(file);
  int failure = size < 0 ? static_cast<int>(size) : 0;
  if (failure == 0 && static_cast<std::uint64_t>(size) > end) {
    const std::vector<std::byte> zeroes(static_cast<std::uint64_t>(size) - end);
    failure = disk_->write(file, zeroes, end);
    if (failure == 0) failure = disk_->sync(file);
  }
  disk_->close(file);
  if (failure != 0) return os::failure(-failure, "cannot write " + path);
  return {};
}

// Failures are ignored: `subjects` has what the copy lacks.
void subject_log::write_copy() {
  const std::string path = log::subjects_copy_path(directory_);
  std::vector<std::byte> bytes = header_bytes(stream_id_);
  for (std::uint64_t id = 0; id < known_.size(); ++id) add_entry(bytes, stream_id_, id, known_[id]);
  (void)disk_->remove(path);
  const int file = disk_->open(path, log::disk_mode::create, false);
  if (file < 0) return;
  if (disk_->write(file, bytes, 0) == 0) (void)disk_->sync(file);
  disk_->close(file);
}

result<void> subject_log::append(const std::vector<log::known_subject>& more) {
  std::vector<std::byte> bytes;
  for (std::size_t i = 0; i < more.size(); ++i)
    add_entry(bytes, stream_id_, known_.size() + i, more[i]);
  const std::string path = log::subjects_path(directory_);
  const int file = disk_->open(path, log::disk_mode::write, false);
  if (file < 0) return os::failure(-file, "cannot open " + path);
  int failure = disk_->write(file, bytes, end_);
  if (failure == 0) failure = disk_->sync(file);
  disk_->close(file);
  // After a failed sync the bytes may not be on disk: the next attempt writes them again.
  if (failure != 0) return os::failure(-failure, "cannot write " + path);
  const int copy = disk_->open(log::subjects_copy_path(directory_), log::disk_mode::write, false);
  if (copy >= 0) {
    (void)disk_->write(copy, bytes, end_);
    disk_->close(copy);
  }
  end_ += bytes.size();
  known_.insert(known_.end(), more.begin(), more.end());
  return {};
}

}  // namespace bus::storage
