#include <bus/recording.hpp>

#include <algorithm>
#include <cerrno>

#include "layout/header_area.hpp"
#include "log/posix_disk.hpp"
#include "log/segment_reader.hpp"
#include "os/clock.hpp"
#include "os/failure.hpp"
#include "os/files.hpp"
#include "os/random.hpp"

namespace bus {

namespace {

constexpr std::size_t frame_bytes = 1 << 20;
constexpr std::uint32_t align_bytes = 512;
constexpr std::uint64_t largest_payload_bytes = 1 << 30;

error disk_error(int failure, const std::string& path) {
  return os::failure(-failure, "cannot write " + path);
}

}  // namespace

struct recording_writer::state {
  log::posix_disk disk;
  std::string path, early;
  int file = -1;
  std::uint64_t log_id = os::random_id();
  std::uint64_t offset = layout::log_header_bytes;
  std::uint64_t count = 0;
  std::uint64_t written = 0;  // messages in the file
  std::uint32_t previous_crc = 0;
  std::vector<std::byte> memory;
  std::optional<log::frame_builder> frame;
  std::byte area[layout::header_area_max_bytes];

  // Recorded messages stay, under the name of an unfinished recording. Only an empty file is
  // removed.
  ~state() {
    if (file < 0) return;
    (void)flush();
    disk.close(file);
    if (written == 0) os::remove_file(early);
  }
  void begin(std::size_t bytes) {
    memory.resize(base::round_up(sizeof(layout::log_frame) + bytes, align_bytes));
    frame.emplace(std::span<std::byte>(memory), log_id, align_bytes);
    frame->begin(count + 1);
  }
  result<void> flush() {
    if (!frame || frame->count() == 0) return {};
    std::uint32_t crc = 0;
    const auto bytes = frame->finish(0, previous_crc, crc);
    const int failure = disk.write(file, bytes, offset);
    if (failure != 0) return disk_error(failure, early);
    offset += bytes.size();
    previous_crc = crc;
    written = count;
    frame.reset();
    return {};
  }
  // Marks the end, so that a truncated file is distinguished from a complete one.
  result<void> write_end() {
    begin(0);
    std::uint32_t crc = 0;
    const auto bytes = frame->finish(0, previous_crc, crc, layout::frame_kind::end, count);
    const int failure = disk.write(file, bytes, offset);
    frame.reset();
    return failure != 0 ? disk_error(failure, early) : result<void>{};
  }
};

recording_writer::recording_writer(std::unique_ptr<state> made) noexcept
    : state_(std::move(made)) {}
recording_writer::recording_writer(recording_writer&&) noexcept = default;
recording_writer& recording_writer::operator=(recording_writer&&) noexcept = default;
recording_writer::~recording_writer() = default;

result<recording_writer> recording_writer::create(const std::string& path) {
  auto made = std::make_unique<state>();
  made->path = path;
  made->early = path + ".part";
  if (os::exists(path))
    return error{errc::conflict, 0, "cannot record to " + path, "the file already exists",
                 "choose another name, or move it away"};
  made->file = made->disk.open(made->early, log::disk_mode::create, false);
  if (made->file == -EEXIST)
    return error{errc::conflict, 0, "cannot record to " + path,
                 made->early + " exists: another recorder is writing it, or was killed",
                 "bus replay " + made->early +
                     " reads what it contains; move it away, or choose another name"};
  if (made->file < 0) return disk_error(made->file, path);
  std::vector<std::byte> head(layout::log_header_bytes);
  layout::log_segment_header header{};
  header.magic = layout::log_magic;
  header.major = layout::log_major;
  header.minor = layout::log_minor;
  header.log_id = made->log_id;
  header.epoch = 1;
  header.base_seq = 1;
  header.created_ns = os::wall_ns();
  header.align_bytes = align_bytes;
  header.header_crc = log::segment_header_crc(header);
  std::memcpy(head.data(), &header, sizeof header);
  const int failure = made->disk.write(made->file, head, 0);
  if (failure != 0) return disk_error(failure, path);
  return recording_writer(std::move(made));
}

result<void> recording_writer::add(const message& from) {
  const auto headers = from.headers();
  return add(from.subject(), from.payload(), headers, from.publish_time());
}

result<void> recording_writer::add(std::string_view subject, std::span<const std::byte> payload,
                                   std::span<const header> headers,
                                   std::chrono::system_clock::time_point time) {
  state& s = *state_;
  const auto refuse = [&](errc code, const char* why) {
    return error{code, 0, "cannot record a message of '" + std::string(subject) + "'", why, ""};
  };
  if (payload.size() > largest_payload_bytes)
    return refuse(errc::too_large, "it is larger than 1 GiB");
  if (subject.empty() || subject.size() > 255)
    return refuse(errc::invalid_argument, "a subject has 1 to 255 bytes");
  layout::header_area_builder builder(s.area);
  builder.inline_subject(subject);
  builder.begin_user_headers();
  for (const header& h : headers)
    if (!builder.user_header(h.key, h.value))
      return refuse(errc::invalid_argument, "its headers are too long");
  layout::record_shape shape{static_cast<std::uint32_t>(payload.size()), builder.finish(), 0};
  shape.flags = builder.flags();
  if (s.frame && !s.frame->fits(shape.total_bytes())) {
    auto flushed = s.flush();
    if (!flushed) return flushed;
  }
  if (!s.frame) s.begin(std::max<std::size_t>(frame_bytes, shape.total_bytes()));
  const auto ns = std::chrono::duration_cast<std::chrono::nanoseconds>(time.time_since_epoch());
  s.frame->add(shape, layout::pack_origin(layout::inline_subject_id, 0),
               static_cast<std::uint64_t>(ns.count()), [&](std::byte* to) {
                 std::memcpy(to, s.area, shape.header_bytes);
                 if (!payload.empty())
                   std::memcpy(to + shape.header_bytes, payload.data(), payload.size());
               });
  ++s.count;
  return {};
}

result<void> recording_writer::flush() {
  state& s = *state_;
  auto flushed = s.flush();
  if (!flushed) return flushed;
  const int failure = s.disk.sync(s.file);
  return failure != 0 ? disk_error(failure, s.early) : result<void>{};
}

result<void> recording_writer::close() {
  state& s = *state_;
  auto flushed = s.flush();
  if (flushed) flushed = s.write_end();
  if (!flushed) return flushed;
  int failure = s.disk.sync(s.file);
  s.disk.close(s.file);
  s.file = -1;
  if (failure == 0) failure = s.disk.rename(s.early, s.path);
  if (failure != 0) return disk_error(failure, s.early);
  return {};
}

std::uint64_t recording_writer::count() const noexcept { return state_->count; }
std::uint64_t recording_writer::flushed() const noexcept { return state_->written; }

struct recording_reader::state {
  log::posix_disk disk;
  log::segment_reader reader{disk};
  log::logged_record kept;  // holds the message that was handed out last
  std::uint64_t damaged = 0;
  std::uint64_t found = 0;
  std::optional<std::uint64_t> announced;
  std::optional<error> failure;
  std::string path;

  // A complete recording ends with the number of its messages.
  void look_at_end() {
    const auto& last = reader.frame();
    const bool has_end = reader.frame_offset() != 0 && last.kind == layout::frame_kind::end;
    if (has_end) announced = last.messages;
    if (failure || (has_end && damaged == 0 && found == last.messages)) return;
    failure =
        error{errc::corrupt, 0, "the recording " + path + (has_end ? " is damaged" : " has no end"),
              has_end ? std::to_string(found) + " of " + std::to_string(last.messages) +
                            " messages can be read"
                      : "it was truncated, or its recorder was killed: " + std::to_string(found) +
                            " messages of it can be read",
              "use another copy if you need the rest"};
  }
};

recording_reader::recording_reader(std::unique_ptr<state> made) noexcept
    : state_(std::move(made)) {}
recording_reader::recording_reader(recording_reader&&) noexcept = default;
recording_reader& recording_reader::operator=(recording_reader&&) noexcept = default;
recording_reader::~recording_reader() = default;

result<recording_reader> recording_reader::open(const std::string& path) {
  auto made = std::make_unique<state>();
  made->path = path;
  const int failure = made->reader.open(path, 0, 1);
  if (failure == -EBADMSG)
    return error{errc::corrupt, 0, "cannot read " + path,
                 "it does not have the header of a recording", "pass a file that bus record wrote"};
  if (failure == -EPROTONOSUPPORT)
    return error{errc::unsupported, 0, "cannot read " + path, "it was written by a newer library",
                 "use the newer library here too"};
  if (failure != 0) return os::failure(-failure, "cannot read " + path);
  return recording_reader(std::move(made));
}

std::optional<recorded> recording_reader::next() {
  state& s = *state_;
  for (log::logged_record record;;) {
    const std::uint64_t before = s.reader.expected();
    switch (s.reader.next(record)) {
      case log::walk_outcome::gap: s.damaged += s.reader.expected() - before; continue;
      case log::walk_outcome::end: s.look_at_end(); return std::nullopt;
      case log::walk_outcome::failure:
        s.failure = os::failure(-s.reader.failure(), "cannot read " + s.path);
        return std::nullopt;
      case log::walk_outcome::record: break;
    }
    const layout::header_area area(record.header(), record.shape.header_bytes, record.shape.flags);
    if (area.subject().empty() || !area.understood()) {
      ++s.damaged;
      continue;
    }
    s.kept = record;
    ++s.found;
    recorded found;
    found.subject = area.subject();
    found.payload = {record.payload(), record.shape.payload_bytes};
    area.each_user_header([&](std::string_view key, std::string_view value) {
      found.headers.push_back({key, value});
      return true;
    });
    found.time = std::chrono::system_clock::time_point(
        std::chrono::duration_cast<std::chrono::system_clock::duration>(
            std::chrono::nanoseconds(record.time_ns)));
    found.number = record.seq;
    return found;
  }
}

std::uint64_t recording_reader::damaged() const noexcept { return state_->damaged; }
std::optional<std::uint64_t> recording_reader::announced() const noexcept {
  return state_->announced;
}
const std::optional<error>& recording_reader::failure() const noexcept { return state_->failure; }

}  // namespace bus
