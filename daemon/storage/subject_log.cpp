#include "storage/subject_log.hpp"

#include <cerrno>
#include <cstring>

#include "log/format.hpp"
#include "os/failure.hpp"

namespace bus::storage {

result<subject_log> subject_log::open(log::disk& on, std::string path) {
  subject_log made(on, std::move(path));
  const int failure = log::read_subjects(on, made.path_, made.known_, made.end_);
  if (failure == -ENOENT) {
    const int file = on.open(made.path_, log::disk_mode::create, false);
    if (file < 0) return os::failure(-file, "cannot make " + made.path_);
    int synced = on.sync(file);
    on.close(file);
    if (synced == 0) synced = on.sync_directory(made.path_.substr(0, made.path_.rfind('/')));
    if (synced != 0) return os::failure(-synced, "cannot sync " + made.path_);
  } else if (failure != 0) {
    return os::failure(-failure, "cannot read " + made.path_);
  }
  auto cut = made.cut_end();
  if (!cut) return std::move(cut.error());
  return made;
}

// Behind a torn entry there may be whole ones: they must not come back when another one takes the
// place of the torn one.
result<void> subject_log::cut_end() {
  const int file = disk_->open(path_, log::disk_mode::write, false);
  if (file < 0) return os::failure(-file, "cannot open " + path_);
  const std::int64_t size = disk_->size(file);
  int failure = size < 0 ? static_cast<int>(size) : 0;
  if (failure == 0 && static_cast<std::uint64_t>(size) > end_) {
    const std::vector<std::byte> zeroes(static_cast<std::uint64_t>(size) - end_);
    failure = disk_->write(file, zeroes, end_);
    if (failure == 0) failure = disk_->sync(file);
  }
  disk_->close(file);
  if (failure != 0) return os::failure(-failure, "cannot write " + path_);
  return {};
}

result<void> subject_log::append(const std::vector<log::known_subject>& more) {
  std::vector<std::byte> bytes;
  std::uint64_t id = known_.size();
  for (const log::known_subject& subject : more) {
    layout::log_subject head{};
    head.length = static_cast<std::uint32_t>(subject.text.size());
    head.type = subject.type;
    head.crc = log::subject_crc(id++, head, subject.text.data());
    const std::size_t at = bytes.size();
    bytes.resize(at + sizeof head + base::round_up(subject.text.size(), 8));
    std::memcpy(bytes.data() + at, &head, sizeof head);
    std::memcpy(bytes.data() + at + sizeof head, subject.text.data(), subject.text.size());
  }
  const int file = disk_->open(path_, log::disk_mode::write, false);
  if (file < 0) return os::failure(-file, "cannot open " + path_);
  int failure = disk_->write(file, bytes, end_);
  if (failure == 0) failure = disk_->sync(file);
  disk_->close(file);
  // A sync that failed is not tried again on the same bytes: the next attempt writes them anew.
  if (failure != 0) return os::failure(-failure, "cannot write " + path_);
  end_ += bytes.size();
  known_.insert(known_.end(), more.begin(), more.end());
  return {};
}

}  // namespace bus::storage
