#pragma once
/// simulated_disk: a disk in memory that remembers what is durable, fails where a test wants it
/// to, and builds the states that a power loss may leave.
///
/// Assumptions
///   - The device writes blocks of 512 bytes, in any order, at any time after the write. A block
///     that the power loss hits may be torn: a prefix or a suffix of it is new.
///   - A file's blocks and length are durable after a sync of the file, its name after a sync of
///     the directory.
///   - A directory's name is durable after a sync of its parent; without that, everything below
///     the directory is lost. A directory whose parent is not on this disk is a mount point: it
///     always exists.
///   - Operations on one directory reach the device in order; directories are independent.
///   - Data that a failed sync covered stays readable and may be on the device, but no later sync
///     makes it durable unless it is written again (as on Linux). Operations on a directory
///     remain due.
///
/// Threads    one

#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "log/disk.hpp"

namespace bus::test {

enum class disk_call : std::uint8_t {
  open,
  read,
  write,
  reserve,
  sync,
  size,
  rename,
  remove,
  make_directory,
  sync_directory,
  list,
  space,
  begin_write,
  begin_sync,
  last_ = begin_sync,
};

constexpr const char* name_of(disk_call call) noexcept {
  constexpr const char* names[] = {"open",           "read",           "write",  "reserve",
                                   "sync",           "size",           "rename", "remove",
                                   "make_directory", "sync_directory", "list",   "space",
                                   "begin_write",    "begin_sync"};
  return names[static_cast<std::size_t>(call)];
}

/// The `at`-th call (from 0) that `hits` selects fails, counted from set_fault().
struct fault_plan {
  std::uint64_t at = 0;
  int failure = -EIO;
  bool for_ever = false;  // every later call fails, too
  bool is_short = false;  // a failing write leaves its first half
  std::function<bool(disk_call)> hits = [](disk_call) { return true; };
};

/// Ways in which a disk lies: a test that detects none of them is worth nothing.
enum class disk_lie : std::uint8_t {
  none,
  sync_does_nothing,
  directory_sync_does_nothing,
  // a rename is durable at once, but a sync under an unfinished name makes nothing durable
  rename_before_data,
  commit_before_sync,   // begin_write and begin_sync succeed without the sync
  failed_sync_is_good,  // a failed sync reports success
};

/// What a power loss leaves of one block that is not durable.
struct block_fate {
  std::size_t version = 0;  // 0: the durable contents; n: those after the n-th write since
  // not 0: the bytes from here on are of the previous version, or of the next one (torn_tail)
  std::size_t torn_at = 0;
  bool torn_tail = false;
};

/// Decides what a power loss leaves.
class fate {
 public:
  virtual ~fate() = default;
  /// How many of a directory's `count` operations that are not durable took effect.
  virtual std::size_t done_operations(std::size_t count) = 0;
  virtual bool new_size() = 0;
  virtual block_fate of_block(std::size_t versions) = 0;
};

/// The guaranteed minimum: only durable data survives.
class nothing_kept final : public fate {
 public:
  std::size_t done_operations(std::size_t) override { return 0; }
  bool new_size() override { return false; }
  block_fate of_block(std::size_t) override { return {}; }
};

/// Every combination in turn, without torn blocks.
class every_fate final : public fate {
 public:
  /// False: the last combination is done.
  bool next() {
    at_ = 0;
    while (!path_.empty() && path_.back().first + 1 == path_.back().second) path_.pop_back();
    if (path_.empty()) return false;
    ++path_.back().first;
    return true;
  }
  std::size_t done_operations(std::size_t count) override { return pick(count + 1); }
  bool new_size() override { return pick(2) == 1; }
  block_fate of_block(std::size_t versions) override { return {pick(versions + 1), 0, false}; }

 private:
  std::size_t pick(std::size_t among) {
    if (at_ == path_.size()) path_.emplace_back(0, among);
    return path_[at_++].first;
  }

  std::vector<std::pair<std::size_t, std::size_t>> path_;
  std::size_t at_ = 0;
};

/// One random combination: blocks survive in runs, as on devices, or singly; some are torn.
template <class Random>
class random_fate final : public fate {
 public:
  explicit random_fate(Random& random)
      : random_(random),
        kept_of_8_(random_() % 9),
        turns_one_in_(random_() % 3 == 0 ? 6 : 0),
        keeps_(random_() % 2 == 0),
        torn_one_in_(random_() % 2 == 0 ? 6 : 0),
        directories_(random_() % 3) {}
  std::size_t done_operations(std::size_t count) override {
    return directories_ == 0 ? 0 : directories_ == 1 ? count : random_() % (count + 1);
  }
  bool new_size() override { return random_() % 2 == 0; }
  block_fate of_block(std::size_t versions) override {
    if (turns_one_in_ != 0 && random_() % turns_one_in_ == 0) keeps_ = !keeps_;
    const bool kept = turns_one_in_ != 0 ? keeps_ : random_() % 8 < kept_of_8_;
    block_fate made;
    made.version = kept ? 1 + random_() % versions : random_() % versions;
    if (torn_one_in_ != 0 && random_() % torn_one_in_ == 0) {
      made.torn_at = 1 + random_() % 511;
      made.torn_tail = random_() % 2 == 0;
    }
    return made;
  }

 private:
  Random& random_;
  std::uint64_t kept_of_8_;
  std::uint64_t turns_one_in_;
  bool keeps_;
  std::uint64_t torn_one_in_;
  std::uint64_t directories_;
};

class simulated_disk : public log::disk {
 public:
  static constexpr std::size_t block_bytes = 512;

  /// Called before an operation changes anything: the moment for a power loss.
  std::function<void(disk_call)> before_change;
  bool holds_writes = false;  // begin_write and begin_sync complete in reap()
  std::uint32_t direct_alignment = 512;
  disk_lie lie = disk_lie::none;
  /// A seeded bug: the software omits the sync of this directory.
  std::function<bool(const std::string& path)> forgets_sync_of;
  /// Names of files, and their pages that cannot be read: EIO.
  std::set<std::pair<std::string, std::uint64_t>> unreadable_pages;
  static constexpr std::uint64_t page_bytes = 4096;

  // ---- faults and counts

  void set_fault(fault_plan plan) {
    plan_ = std::move(plan);
    plan_calls_ = 0;
  }
  void end_faults() { plan_.reset(); }
  std::uint64_t faults_fired() const noexcept { return fired_; }
  std::uint64_t calls(disk_call call) const noexcept {
    return counts_[static_cast<std::size_t>(call)];
  }
  /// Not empty: what the caller did wrong, such as changing a buffer in flight.
  const std::string& misuse() const noexcept { return misuse_; }

  // ---- power loss

  /// The disk as found when the machine starts again after a power loss at this moment.
  std::unique_ptr<simulated_disk> after_power_loss(fate& decides) const {
    auto made = std::make_unique<simulated_disk>();
    made->direct_alignment = direct_alignment;
    made->holds_writes = holds_writes;
    made->lie = lie;
    made->forgets_sync_of = forgets_sync_of;
    made->unreadable_pages = unreadable_pages;
    std::map<const inode*, std::shared_ptr<inode>> copies;
    for (const auto& [path, directory] : mounts_)
      made->mounts_[path] = survivor_of(*directory, decides, copies);
    return made;
  }
  /// How many states every_fate would produce; at most `limit`.
  std::uint64_t state_count(std::uint64_t limit) const {
    std::uint64_t count = 1;
    std::set<const inode*> seen;
    for (const auto& [path, directory] : mounts_) multiply(*directory, count, limit, seen);
    return std::min(count, limit);
  }

  // ---- changes without a call, for bit rot

  std::vector<std::byte> contents(const std::string& path) {
    const auto file = find(path);
    std::vector<std::byte> made(file == nullptr ? 0 : file->cached_bytes);
    if (file != nullptr) copy_out(*file, made, 0);
    return made;
  }
  void overwrite(const std::string& path, std::span<const std::byte> bytes, std::uint64_t offset) {
    if (const auto file = find(path)) {
      put(*file, bytes, offset);
      settle(*file);
    }
  }
  void truncate(const std::string& path, std::uint64_t bytes) {
    if (const auto file = find(path)) {
      resize(*file, bytes);
      settle(*file);
    }
  }
  std::unique_ptr<simulated_disk> clone() const {
    struct all_kept final : fate {
      std::size_t done_operations(std::size_t count) override { return count; }
      bool new_size() override { return true; }
      block_fate of_block(std::size_t versions) override { return {versions, 0, false}; }
    } all;
    return after_power_loss(all);
  }

  // ---- the disk

  const char* name() const noexcept override { return "simulated"; }

  int open(const std::string& path, log::disk_mode mode, bool direct) override {
    if (const int failure = enter(disk_call::open, mode == log::disk_mode::create)) return failure;
    const auto [where, name] = split(path);
    auto file = find(path);
    if (mode == log::disk_mode::create) {
      if (file != nullptr) return -EEXIST;
      const auto directory = directory_at(where);
      if (directory == nullptr) return -ENOENT;
      file = std::make_shared<inode>();
      change(*directory, {name, file, {}});
    } else {
      if (file == nullptr) return -ENOENT;
      if (file->is_directory) return -EISDIR;
    }
    const int number = next_file_++;
    files_[number] = {file, mode != log::disk_mode::read, direct, name};
    return number;
  }
  void close(log::disk_file file) override { files_.erase(file); }

  std::int64_t read(log::disk_file file, std::span<std::byte> into, std::uint64_t offset) override {
    if (const int failure = enter(disk_call::read, false)) return failure;
    const handle* open_file = use(file, false);
    if (open_file == nullptr) return -EBADF;
    const inode& from = *open_file->file;
    if (offset >= from.cached_bytes || into.empty()) return 0;
    const std::uint64_t bytes = std::min<std::uint64_t>(into.size(), from.cached_bytes - offset);
    const auto bad = unreadable_pages.lower_bound({open_file->name, offset / page_bytes});
    if (bad != unreadable_pages.end() && bad->first == open_file->name &&
        bad->second <= (offset + bytes - 1) / page_bytes)
      return -EIO;
    copy_out(from, into.first(bytes), offset);
    return static_cast<std::int64_t>(bytes);
  }
  int write(log::disk_file file, std::span<const std::byte> from, std::uint64_t offset) override {
    return write_as(disk_call::write, file, from, offset);
  }
  int reserve(log::disk_file file, std::uint64_t bytes) override {
    if (const int failure = enter(disk_call::reserve, true)) return failure;
    const handle* open_file = use(file, true);
    if (open_file == nullptr) return -EBADF;
    if (bytes > open_file->file->cached_bytes) resize(*open_file->file, bytes);
    return 0;
  }
  int sync(log::disk_file file) override { return sync_as(disk_call::sync, file); }
  std::int64_t size(log::disk_file file) override {
    if (const int failure = enter(disk_call::size, false)) return failure;
    const handle* open_file = use(file, false);
    return open_file == nullptr ? -EBADF : static_cast<std::int64_t>(open_file->file->cached_bytes);
  }
  std::uint32_t alignment(log::disk_file file) override {
    const handle* open_file = use(file, false);
    return open_file != nullptr && open_file->direct ? direct_alignment : 512;
  }

  int rename(const std::string& from, const std::string& to) override {
    if (const int failure = enter(disk_call::rename, true)) return failure;
    const auto [from_where, from_name] = split(from);
    const auto [to_where, to_name] = split(to);
    const auto source = directory_at(from_where), target = directory_at(to_where);
    const auto moved = find(from), replaced = find(to);
    if (source == nullptr || target == nullptr || moved == nullptr) return -ENOENT;
    if (replaced != nullptr && replaced->is_directory != moved->is_directory)
      return replaced->is_directory ? -EISDIR : -ENOTDIR;
    if (replaced != nullptr && !replaced->cached_names.empty()) return -ENOTEMPTY;
    if (source == target) {
      change(*target, {to_name, moved, from_name});
    } else {
      change(*target, {to_name, moved, {}});
      change(*source, {from_name, nullptr, {}});
    }
    for (auto& [number, open_file] : files_)
      if (open_file.file == moved) open_file.name = to_name;
    if (lie == disk_lie::rename_before_data) make_durable(*target);
    return 0;
  }
  int remove(const std::string& path) override {
    if (const int failure = enter(disk_call::remove, true)) return failure;
    const auto [where, name] = split(path);
    const auto gone = find(path);
    if (gone == nullptr) return -ENOENT;
    if (!gone->cached_names.empty()) return -ENOTEMPTY;
    change(*directory_at(where), {name, nullptr, {}});
    return 0;
  }
  int make_directory(const std::string& path) override {
    if (const int failure = enter(disk_call::make_directory, true)) return failure;
    if (find(path) != nullptr) return 0;
    const auto [where, name] = split(path);
    auto made = std::make_shared<inode>();
    made->is_directory = true;
    if (const auto parent = directory_at(where))
      change(*parent, {name, made, {}});
    else
      mounts_[path] = made;
    return 0;
  }
  int sync_directory(const std::string& path) override {
    if (const int failure = enter(disk_call::sync_directory, true))
      return lie == disk_lie::failed_sync_is_good ? 0 : failure;
    const auto directory = directory_at(path);
    if (directory == nullptr) return find(path) == nullptr ? -ENOENT : -ENOTDIR;
    if (lie == disk_lie::directory_sync_does_nothing || (forgets_sync_of && forgets_sync_of(path)))
      return 0;
    if (lie == disk_lie::rename_before_data && is_early(split(path).second)) return 0;
    make_durable(*directory);
    return 0;
  }
  int list(const std::string& path, std::vector<std::string>& names) override {
    if (const int failure = enter(disk_call::list, false)) return failure;
    const auto directory = directory_at(path);
    if (directory == nullptr) return find(path) == nullptr ? -ENOENT : -ENOTDIR;
    for (const auto& [name, file] : directory->cached_names) names.push_back(name);
    return 0;
  }
  int space(const std::string&, log::disk_space& found) override {
    if (const int failure = enter(disk_call::space, false)) return failure;
    found = {1ull << 40, 1ull << 39};
    return 0;
  }

  void begin_write(log::disk_file file, std::span<const std::byte> from, std::uint64_t offset,
                   bool sync_too, std::uint64_t token, int) override {
    commit made{file, from, offset, sync_too, true, token, 0, {}};
    // Written at once even if it completes later: the power may fail in between.
    made.failure = write_as(disk_call::begin_write, file, from, offset);
    if (holds_writes)
      made.lent.assign(from.begin(), from.end());
    else
      finish(made);
    commits_.push_back(std::move(made));
  }
  void begin_sync(log::disk_file file, std::uint64_t token) override {
    commit made{file, {}, 0, true, false, token, 0, {}};
    if (!holds_writes) finish(made);
    commits_.push_back(std::move(made));
  }
  std::size_t reap(std::span<log::disk_completion> into, std::uint64_t) override {
    std::size_t count = 0;
    while (count < into.size() && count < commits_.size()) {
      commit& done = commits_[count];
      if (holds_writes) {
        if (!std::equal(done.lent.begin(), done.lent.end(), done.from.begin()))
          misuse_ = "a buffer changed in flight";
        finish(done);
      }
      into[count++] = {done.token, done.failure};
    }
    commits_.erase(commits_.begin(), commits_.begin() + static_cast<std::ptrdiff_t>(count));
    return count;
  }
  bool register_buffers(std::span<const std::span<std::byte>>) override { return false; }

 private:
  using block_bits = std::array<std::byte, block_bytes>;
  using block = std::shared_ptr<const block_bits>;  // null: zeros

  struct unsynced_block {
    // versions that the device may have instead of the durable one, oldest first
    std::vector<block> versions;
    bool due = true;  // the next sync makes the last one durable
  };
  struct inode;
  using names_of = std::map<std::string, std::shared_ptr<inode>>;
  struct operation {
    std::string name;
    std::shared_ptr<inode> file;  // null: removed
    std::string old_name;         // not empty: the file had this name before
  };
  struct inode {
    std::vector<block> cached, durable;
    std::uint64_t cached_bytes = 0, durable_bytes = 0;
    bool size_due = false;
    std::map<std::uint64_t, unsynced_block> unsynced;

    bool is_directory = false;
    names_of cached_names, durable_names;
    std::vector<operation> due;  // operations on its names
  };
  struct handle {
    std::shared_ptr<inode> file;
    bool writes = false;
    bool direct = false;
    std::string name;
  };
  struct commit {
    log::disk_file file;
    std::span<const std::byte> from;
    std::uint64_t offset;
    bool sync;
    bool write;
    std::uint64_t token;
    int failure;
    std::vector<std::byte> lent;
  };

  static std::pair<std::string, std::string> split(const std::string& path) {
    const auto slash = path.rfind('/');
    if (slash == std::string::npos) return {{}, path};
    return {path.substr(0, slash), path.substr(slash + 1)};
  }
  // True for the names that this software gives to unfinished files.
  static bool is_early(const std::string& name) {
    return name.ends_with(".tmp") || name.ends_with(".new") || name.starts_with(".new-");
  }
  static bool is_zero(const std::byte* at) noexcept {
    return at[0] == std::byte{0} && std::memcmp(at, at + 1, block_bytes - 1) == 0;
  }
  static block block_of(const std::byte* bytes) {
    if (is_zero(bytes)) return nullptr;
    auto made = std::make_shared<block_bits>();
    std::memcpy(made->data(), bytes, block_bytes);
    return made;
  }
  static block at(const std::vector<block>& blocks, std::uint64_t index) {
    return index < blocks.size() ? blocks[index] : nullptr;
  }

  // Returns 0, or the error with which the call fails.
  int enter(disk_call call, bool changes) {
    ++counts_[static_cast<std::size_t>(call)];
    if (changes && before_change) before_change(call);
    if (!plan_ || !plan_->hits(call)) return 0;
    const std::uint64_t index = plan_calls_++;
    if (index != plan_->at && !(plan_->for_ever && index > plan_->at)) return 0;
    ++fired_;
    return plan_->failure;
  }

  const handle* use(log::disk_file file, bool writes) {
    const auto open_file = files_.find(file);
    if (open_file == files_.end() || (writes && !open_file->second.writes)) {
      misuse_ = open_file == files_.end() ? "a file that is not open"
                                          : "a write to a file opened to read";
      return nullptr;
    }
    return &open_file->second;
  }
  std::shared_ptr<inode> find(const std::string& path) const {
    if (const auto mount = mounts_.find(path); mount != mounts_.end()) return mount->second;
    if (path.empty()) return nullptr;
    const auto [where, name] = split(path);
    const auto directory = directory_at(where);
    if (directory == nullptr) return nullptr;
    const auto there = directory->cached_names.find(name);
    return there == directory->cached_names.end() ? nullptr : there->second;
  }
  std::shared_ptr<inode> directory_at(const std::string& path) const {
    const auto there = find(path);
    return there != nullptr && there->is_directory ? there : nullptr;
  }

  int write_as(disk_call call, log::disk_file file, std::span<const std::byte> from,
               std::uint64_t offset) {
    const int failure = enter(call, true);
    const handle* open_file = use(file, true);
    if (open_file == nullptr) return -EBADF;
    if (open_file->direct &&
        (offset % direct_alignment != 0 || from.size() % direct_alignment != 0 ||
         reinterpret_cast<std::uintptr_t>(from.data()) % direct_alignment != 0)) {
      misuse_ = "a direct write that is not aligned";
      return -EINVAL;
    }
    if (failure == 0) put(*open_file->file, from, offset);
    if (failure != 0 && plan_ && plan_->is_short)
      put(*open_file->file, from.first(from.size() / 2), offset);
    return failure;
  }

  int sync_as(disk_call call, log::disk_file file) {
    const int failure = enter(call, true);
    const handle* open_file = use(file, false);
    if (open_file == nullptr) return -EBADF;
    inode& of = *open_file->file;
    if (failure != 0) {
      for (auto& [index, unsynced] : of.unsynced) unsynced.due = false;
      of.size_due = false;
      return lie == disk_lie::failed_sync_is_good ? 0 : failure;
    }
    if (lie == disk_lie::sync_does_nothing) return 0;
    if (lie == disk_lie::rename_before_data && is_early(open_file->name)) return 0;
    if (lie == disk_lie::commit_before_sync && call == disk_call::begin_sync) return 0;
    if (of.size_due) of.durable_bytes = of.cached_bytes;
    of.size_due = false;
    for (auto next = of.unsynced.begin(); next != of.unsynced.end();) {
      if (!next->second.due) {
        ++next;
        continue;
      }
      if (of.durable.size() <= next->first) of.durable.resize(next->first + 1);
      of.durable[next->first] = at(of.cached, next->first);
      next = of.unsynced.erase(next);
    }
    return 0;
  }

  void finish(commit& of) {
    if (of.sync && of.failure == 0) of.failure = sync_as(disk_call::begin_sync, of.file);
  }

  static void resize(inode& file, std::uint64_t bytes) {
    file.cached_bytes = bytes;
    file.cached.resize((bytes + block_bytes - 1) / block_bytes);
    if (bytes % block_bytes != 0 && file.cached.back() != nullptr) {
      block_bits rest = *file.cached.back();
      std::memset(rest.data() + bytes % block_bytes, 0, block_bytes - bytes % block_bytes);
      file.cached.back() = block_of(rest.data());
    }
    file.size_due = true;
  }

  static void put(inode& file, std::span<const std::byte> bytes, std::uint64_t offset) {
    if (offset + bytes.size() > file.cached_bytes) resize(file, offset + bytes.size());
    for (std::size_t done = 0; done < bytes.size();) {
      const std::uint64_t index = (offset + done) / block_bytes,
                          from = (offset + done) % block_bytes;
      const std::size_t part = std::min<std::size_t>(block_bytes - from, bytes.size() - done);
      block made;
      if (part == block_bytes) {
        made = block_of(bytes.data() + done);
      } else {
        block_bits mixed{};
        if (file.cached[index] != nullptr) mixed = *file.cached[index];
        std::memcpy(mixed.data() + from, bytes.data() + done, part);
        made = block_of(mixed.data());
      }
      done += part;
      const auto known = file.unsynced.find(index);
      const block& before = file.cached[index];
      const bool same =
          made == before || (made != nullptr && before != nullptr && *made == *before);
      if (same && known == file.unsynced.end()) continue;  // as on the device: nothing to lose
      auto& unsynced = file.unsynced[index];
      unsynced.due = true;
      if (!same) unsynced.versions.push_back(made);
      file.cached[index] = std::move(made);
    }
  }

  // Makes the cached contents durable.
  static void settle(inode& file) {
    file.durable = file.cached;
    file.durable_bytes = file.cached_bytes;
    file.unsynced.clear();
    file.size_due = false;
  }

  static void copy_out(const inode& file, std::span<std::byte> into, std::uint64_t offset) {
    for (std::size_t done = 0; done < into.size();) {
      const std::uint64_t index = (offset + done) / block_bytes,
                          from = (offset + done) % block_bytes;
      const std::size_t part = std::min<std::size_t>(block_bytes - from, into.size() - done);
      if (const auto& bits = file.cached[index]; bits != nullptr)
        std::memcpy(into.data() + done, bits->data() + from, part);
      else
        std::memset(into.data() + done, 0, part);
      done += part;
    }
  }

  static std::shared_ptr<inode> survivor_of(
      const inode& file, fate& decides, std::map<const inode*, std::shared_ptr<inode>>& copies) {
    if (const auto known = copies.find(&file); known != copies.end()) return known->second;
    auto made = copies[&file] = std::make_shared<inode>();
    if (file.is_directory) {
      made->is_directory = true;
      auto names = file.durable_names;
      const std::size_t done = decides.done_operations(file.due.size());
      for (std::size_t i = 0; i < done; ++i) apply(names, file.due[i]);
      for (const auto& [name, below] : names)
        made->durable_names[name] = survivor_of(*below, decides, copies);
      made->cached_names = made->durable_names;
      return made;
    }
    made->cached_bytes = file.durable_bytes;
    if (file.cached_bytes != file.durable_bytes && decides.new_size())
      made->cached_bytes = file.cached_bytes;
    made->cached = file.durable;
    made->cached.resize((made->cached_bytes + block_bytes - 1) / block_bytes);
    for (const auto& [index, unsynced] : file.unsynced) {
      const block_fate fate = decides.of_block(unsynced.versions.size());
      if (index >= made->cached.size()) continue;
      const auto version = [&, block = index, &late = unsynced.versions](std::size_t number) {
        return number == 0 ? at(file.durable, block) : late[std::min(number, late.size()) - 1];
      };
      made->cached[index] = version(fate.version);
      if (fate.torn_at == 0) continue;
      block_bits head{}, tail{};
      if (const auto bits = version(fate.version)) head = *bits;
      const std::size_t other =
          fate.torn_tail || fate.version == 0 ? fate.version + 1 : fate.version - 1;
      if (const auto bits = version(other)) tail = *bits;
      std::memcpy(head.data() + fate.torn_at, tail.data() + fate.torn_at,
                  block_bytes - fate.torn_at);
      made->cached[index] = block_of(head.data());
    }
    made->durable = made->cached;
    made->durable_bytes = made->cached_bytes;
    return made;
  }

  static void apply(names_of& names, const operation& done) {
    if (!done.old_name.empty()) names.erase(done.old_name);
    if (done.file == nullptr)
      names.erase(done.name);
    else
      names[done.name] = done.file;
  }
  static void change(inode& directory, operation done) {
    apply(directory.cached_names, done);
    directory.due.push_back(std::move(done));
  }
  static void make_durable(inode& directory) {
    directory.durable_names = directory.cached_names;
    directory.due.clear();
  }
  static void multiply(const inode& by, std::uint64_t& count, std::uint64_t limit,
                       std::set<const inode*>& seen) {
    if (!seen.insert(&by).second) return;
    if (count < limit) count *= by.due.size() + 1;
    if (by.cached_bytes != by.durable_bytes) count *= 2;
    for (const auto& [index, unsynced] : by.unsynced)
      if (count < limit) count *= unsynced.versions.size() + 1;
    for (const names_of* names : {&by.cached_names, &by.durable_names})
      for (const auto& [name, below] : *names) multiply(*below, count, limit, seen);
  }

  std::map<std::string, std::shared_ptr<inode>> mounts_;  // by path
  std::map<int, handle> files_;
  int next_file_ = 3;
  std::vector<commit> commits_;
  std::optional<fault_plan> plan_;
  std::uint64_t plan_calls_ = 0;
  std::uint64_t fired_ = 0;
  std::array<std::uint64_t, static_cast<std::size_t>(disk_call::last_) + 1> counts_{};
  std::string misuse_;
};

}  // namespace bus::test
