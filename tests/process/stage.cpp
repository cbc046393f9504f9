#include "stage.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>

#include <algorithm>
#include <charconv>
#include <cstring>
#include <fstream>

#include "layout/bus_files.hpp"
#include "layout/lane.hpp"

namespace test {

void remark::say(const std::string& words) noexcept {
  std::strncpy(text, words.c_str(), sizeof text - 1);
}

// --- publishing

mixed_publisher::mixed_publisher(bus::publisher publisher, journal_entry& entry, std::uint32_t life,
                                 std::string stream, options wanted)
    : publisher_(std::move(publisher)),
      entry_(&entry),
      life_(life),
      stream_(std::move(stream)),
      wanted_(wanted) {}

bus::result<mixed_publisher> mixed_publisher::open(bus::session& session, journal& lives,
                                                   std::uint32_t life, std::string stream,
                                                   options wanted) {
  bus::publisher_options how;
  how.mode = wanted.mode;
  how.early_bytes = wanted.early_bytes;
  auto made = session.publisher(stream, how);
  if (!made) return std::move(made.error());
  return mixed_publisher(std::move(*made), lives[life], life, std::move(stream), wanted);
}

bus::publish_status mixed_publisher::record(std::uint64_t count,
                                            const std::function<bus::published()>& call) {
  const std::uint64_t done = entry_->done.load(std::memory_order_relaxed);
  entry_->begun.store(done + count, std::memory_order_release);
  const bus::published outcome = call();
  if (outcome) entry_->done.store(done + count, std::memory_order_release);
  // refused: the numbers are free again
  else
    entry_->begun.store(done, std::memory_order_release);
  return outcome.status;
}

std::string mixed_publisher::subject_of(unsigned which) const {
  return stream_ + ".life." + std::to_string(life_) + "." + std::to_string(which);
}

bus::publish_status mixed_publisher::one(std::size_t bytes, bool headers) {
  const std::string number = std::to_string(next());
  const auto payload = make_payload(bytes, life_, next(), stream_,
                                    headers ? std::string_view(number) : std::string_view());
  if (!headers) return record(1, [&] { return publisher_.publish(payload); });
  const bus::header list[] = {{"kind", "test"}, {"n", number}};
  return record(1, [&] { return publisher_.publish(payload, list); });
}

bus::publish_status mixed_publisher::to_subject(unsigned which, std::size_t bytes) {
  const std::string subject = subject_of(which);
  const auto payload = make_payload(bytes, life_, next(), subject);
  return record(1, [&] { return publisher_.publish_to(subject, payload); });
}

bus::publish_status mixed_publisher::batch(std::size_t count, std::size_t bytes) {
  std::vector<std::vector<std::byte>> payloads;
  std::vector<std::span<const std::byte>> views;
  for (std::size_t i = 0; i < count; ++i)
    payloads.push_back(make_payload(bytes, life_, next() + i, stream_));
  for (const auto& payload : payloads) views.emplace_back(payload);
  return record(count, [&] {
    return publisher_.publish_batch(std::span<const std::span<const std::byte>>(views));
  });
}

bus::publish_status mixed_publisher::mixed_batch(std::size_t count, std::size_t bytes) {
  std::vector<std::vector<std::byte>> payloads(count);
  std::vector<std::string> subjects(count), numbers(count);
  std::vector<bus::header> headers(count);
  std::vector<bus::outgoing> messages(count);
  for (std::size_t i = 0; i < count; ++i) {
    subjects[i] = i % 2 == 0 ? subject_of(static_cast<unsigned>(i) % std::max(1u, wanted_.subjects))
                             : stream_;
    numbers[i] = i % 3 == 0 ? std::to_string(next() + i) : std::string();
    payloads[i] = make_payload(bytes, life_, next() + i, subjects[i], numbers[i]);
    headers[i] = {"n", numbers[i]};
    messages[i] = {subjects[i], payloads[i],
                   numbers[i].empty() ? std::span<const bus::header>() : std::span(&headers[i], 1)};
  }
  return record(count,
                [&] { return publisher_.publish_batch(std::span<const bus::outgoing>(messages)); });
}

bus::publish_status mixed_publisher::loan(std::size_t bytes) {
  auto space = publisher_.loan(bytes);
  if (!space)
    return space.error().code == bus::errc::no_space   ? bus::publish_status::rejected
           : space.error().code == bus::errc::conflict ? bus::publish_status::conflict
                                                       : bus::publish_status::failed;
  write_payload(space->data(), life_, next(), stream_);
  return record(1, [&] { return space->commit(); });
}

bus::publish_status mixed_publisher::step(std::mt19937_64& random) {
  const auto kind = random() % 10;
  const std::size_t small = sizeof(stamp) + random() % 100;
  switch (kind) {
    case 0: return one(2000 + random() % 4000);
    case 1: return one(small, true);
    case 2: return batch(2 + random() % 10, small);
    case 3: return mixed_batch(2 + random() % 10, small);
    case 4:
      return to_subject(static_cast<unsigned>(random() % std::max(1u, wanted_.subjects)), small);
    case 5: return loan(small + random() % 300);
    default: return one(small);
  }
}

// --- consuming

int consume_in_every_way(bus::session& session, const std::string& stream, std::mt19937_64& random,
                         int rounds, remark& why) {
  int broken = 0;
  const auto look = [&](const bus::message& m) {
    if (!is_intact(m)) ++broken;
  };
  for (int round = 0; round < rounds; ++round) {
    bus::subscriber_options how;
    how.wait = random() % 2 == 0 ? bus::wait_strategy::block : bus::wait_strategy::adaptive;
    switch (random() % 3) {
      case 0: how.start = bus::start::all(); break;
      case 1: how.start = bus::start::last(); break;
      default: break;
    }
    const std::string some = stream + ".life.>";
    const std::vector<std::string_view> patterns = random() % 3 == 0
                                                       ? std::vector<std::string_view>{some, stream}
                                                       : std::vector<std::string_view>{">"};
    auto made = session.subscribe(patterns, how);
    if (!made) {
      why.say("subscribe: " + made.error().message());
      return 5;
    }
    if (round % 4 == 3) {
      const auto bell = made->fd();
      if (!bell) {
        why.say("fd: " + bell.error().message());
        return 6;
      }
      for (int i = 0; i < 4; ++i) {
        if (made->arm()) {
          pollfd waiting{*bell, POLLIN, 0};
          ::poll(&waiting, 1, 5);
          made->drain();
        }
        made->poll(64, look);
      }
    }
    for (int i = 0; i < 6; ++i) {
      made->poll(1 + random() % 64, look);
      if (i % 2 == 1) (void)made->wait(1ms);
      for (int n = 0; n < 3; ++n)
        if (const auto m = made->next(200us)) look(*m);
    }
    if (made->failure()) {
      why.say("subscriber: " + made->failure()->message());
      return 7;
    }
  }
  if (broken != 0) why.say(std::to_string(broken) + " broken messages");
  return broken == 0 ? 0 : 8;
}

// --- the stage

stage::stage(options wanted) : wanted_(std::move(wanted)) {
  killed_ns_ = wanted_.killed_ns != nullptr ? wanted_.killed_ns : &words_->killed_ns;
  checker_ = std::make_unique<delivery_checker>(*lives_, wanted_.early);
  auto opened = bus::open(place_.url("t", "&name=judge"));
  if (!opened) {
    checker_->complain(complaint_kind::other, opened.error().message());
    return;
  }
  session_.emplace(std::move(*opened));
  if (auto made = session_->add_stream(wanted_.config); !made)
    checker_->complain(complaint_kind::other, made.error().message());
  bus::subscriber_options how;
  how.wait = bus::wait_strategy::block;
  how.early = wanted_.early;
  how.on_gap = [this](const bus::gap& g) { checker_->on_gap(g.first, g.count, g.lane); };
  const std::string below = stream() + ".>";
  const std::string_view patterns[] = {stream(), below};
  auto subscribed = session_->subscribe(patterns, how);
  if (!subscribed) {
    checker_->complain(complaint_kind::other, subscribed.error().message());
    return;
  }
  subscriber_.emplace(std::move(*subscribed));
  if (!wanted_.survivor) return;
  survivor_.emplace([this] { return survive(); });
  pump_until([this] { return survivor_done() > 0; });
}

stage::~stage() {
  subscriber_.reset();
  session_.reset();
}

int stage::survive() {
  if (wanted_.in_survivor) wanted_.in_survivor();
  auto session = bus::open(place_.url("t", "&name=survivor"));
  if (!session)
    return why_->say("survivor: " + session.error().message()), words_->failed.store(true), 2;
  std::mt19937_64 random(1);
  auto made = mixed_publisher::open(*session, *lives_, 0, stream());
  if (!made) return why_->say("survivor: " + made.error().message()), words_->failed.store(true), 3;
  while (!words_->stop.load(std::memory_order_acquire)) {
    if (words_->pause.load(std::memory_order_acquire)) {
      words_->paused.store(true, std::memory_order_release);
      ::usleep(50);
      continue;
    }
    words_->paused.store(false, std::memory_order_release);
    const bus::publish_status status = made->step(random);
    switch (status) {
      case bus::publish_status::ok:
        if (killed_ns_->load(std::memory_order_acquire) != 0 &&
            words_->first_ok_ns.load(std::memory_order_relaxed) == 0)
          words_->first_ok_ns.store(std::chrono::steady_clock::now().time_since_epoch().count(),
                                    std::memory_order_release);
        break;
      case bus::publish_status::conflict:  // an exclusive publisher lives
      case bus::publish_status::rejected:
      case bus::publish_status::dropped: break;
      default:
        why_->say(std::string("survivor: ") + bus::publish_status_name(status) + ": " +
                  made->last_error().message());
        words_->failed.store(true, std::memory_order_release);
        return 4;
    }
    if (wanted_.pace.count() != 0) ::usleep(static_cast<useconds_t>(wanted_.pace.count()));
  }
  return 0;
}

std::uint32_t stage::new_life() {
  if (lives_used_ >= lives_max) std::abort();
  return lives_used_++;
}

void stage::pump() {
  if (!subscriber_) return;
  const std::size_t got = subscriber_->poll(256, [&](const bus::message& m) {
    if (intercept_)
      intercept_(m, *checker_);
    else
      checker_->on_message(m);
  });
  if (subscriber_->failure() && !finished_) {
    checker_->complain(complaint_kind::other, "subscriber: " + subscriber_->failure()->message());
    checker_->complain(complaint_kind::other, lane_facts(place_, stream()));
    finished_ = true;
  }
  if (got == 0) (void)subscriber_->wait(500us);
}

bool stage::pump_until(const std::function<bool()>& condition, std::chrono::milliseconds patience) {
  const auto end = std::chrono::steady_clock::now() + patience;
  while (!condition()) {
    if (std::chrono::steady_clock::now() > end) return false;
    pump();
  }
  return true;
}

int stage::pump_until_ended(child& who, std::chrono::milliseconds patience) {
  const auto ended = [&] {
    siginfo_t info{};
    return ::waitid(P_PID, static_cast<id_t>(who.pid()), &info, WEXITED | WNOHANG | WNOWAIT) == 0 &&
           info.si_pid != 0;
  };
  if (!pump_until(ended, patience)) {
    checker_->complain(complaint_kind::stalled, "a victim did not end by itself");
    who.kill();
  }
  return who.wait();
}

void stage::forget_kill() noexcept {
  killed_ns_->store(0, std::memory_order_release);
  words_->first_ok_ns.store(0, std::memory_order_release);
}

void stage::kill_now(const child& who) noexcept {
  killed_ns_->store(std::chrono::steady_clock::now().time_since_epoch().count(),
                    std::memory_order_release);
  who.kill();
}

std::int64_t stage::recover(std::uint32_t life) {
  std::int64_t took = 0;
  if (survivor_) {
    const std::int64_t killed = killed_ns_->load(std::memory_order_acquire);
    const auto failed = [&] { return words_->failed.load(std::memory_order_acquire); };
    if (killed != 0) {
      const auto first = [&] { return words_->first_ok_ns.load(std::memory_order_acquire); };
      if (!pump_until([&] { return first() != 0 || failed(); }))
        checker_->complain(
            complaint_kind::stalled,
            "the surviving publisher does not go on after life " + std::to_string(life));
      if (first() != 0) took = std::max<std::int64_t>(1, first() - killed);
    }
    // When this message of the survivor has arrived, everything that was published before it has
    // arrived. A batch under way may be in the ring already: only the messages after it are
    // later.
    const std::uint64_t barrier = survivor_begun();
    const std::uint64_t gaps = checker_->gaps();
    if (!pump_until([&] { return checker_->last_of(0) > barrier || failed(); }))
      checker_->complain(complaint_kind::stalled,
                         "messages of the survivor do not come after life " + std::to_string(life) +
                             " (" + std::to_string(checker_->last_of(0)) + " of " +
                             std::to_string(barrier) + ", gaps " +
                             std::to_string(checker_->gaps() - gaps) + ")");
    if (failed()) checker_->complain(complaint_kind::other, why_->text);
  }
  if (wanted_.config.lanes > 1 && !pump_until_all_lanes_are_read())
    checker_->complain(complaint_kind::stalled,
                       "a lane is not read to its end after life " + std::to_string(life));
  if (life != 0) checker_->settle(life);
  return took;
}

// The survivor's messages prove nothing about other lanes.
bool stage::pump_until_all_lanes_are_read() {
  const auto found = session_->stream(stream());
  if (!found) return false;
  return pump_until([&] {
    return std::all_of(found->lanes.begin(), found->lanes.end(), [&](const bus::lane_info& lane) {
      return checker_->read_up_to(lane.index) >= lane.last_sequence;
    });
  });
}

void stage::pause_survivor() {
  words_->pause.store(true, std::memory_order_release);
  if (!pump_until([&] { return words_->paused.load(std::memory_order_acquire); }))
    checker_->complain(complaint_kind::stalled, "the survivor does not come to its pause");
}

void stage::resume_survivor() { words_->pause.store(false, std::memory_order_release); }

void stage::finish() {
  if (survivor_) {
    words_->pause.store(false, std::memory_order_release);
    words_->stop.store(true, std::memory_order_release);
    const int status = pump_until_ended(*survivor_);
    if (status != 0)
      checker_->complain(complaint_kind::other,
                         "the survivor ended with " + std::to_string(status) + " " + why_->text);
    survivor_.reset();
  }
  pump_until([&] { return checker_->last_of(0) >= survivor_done(); });
  for (int i = 0; i < 8; ++i) pump();
  checker_->settle(0);
  if (checker_->gaps() != 0) checker_->settle_gaps();
}

std::string stage::leftovers() {
  // A process opens the bus, gets a publisher and leaves.
  child opener([this] {
    auto session = bus::open(place_.url("t", "&name=opener"));
    if (!session) return why_->say("opener: " + session.error().message()), 2;
    auto made = session->publisher(stream());
    if (!made) return why_->say("opener: " + made.error().message()), 3;
    return 0;
  });
  if (const int status = pump_until_ended(opener); status != 0)
    return std::string("the opener failed: ") + why_->text;
  std::set<std::uint32_t> alive;
  std::string found;
  const auto processes = session_->processes();
  if (!processes) return processes.error().message();
  for (const auto& p : *processes) {
    if (p.state == bus::process_state::dead)
      found += " process " + std::to_string(p.id) + " is dead but listed;";
    alive.insert(p.id);
  }
  const std::size_t expected = survivor_ ? 2 : 1;
  if (alive.size() != expected)
    found += " " + std::to_string(alive.size()) + " processes are listed;";
  for (const std::string& name : names_in(place_.directory() + "/processes")) {
    std::uint32_t id = 0;
    const auto parsed = std::from_chars(name.data(), name.data() + name.size(), id);
    const bool named =
        parsed.ec == std::errc() && (parsed.ptr == name.data() + name.size() || *parsed.ptr == '.');
    if (!named || !alive.contains(id)) found += " processes/" + name + ";";
  }
  for (const std::string& name : names_in(place_.directory() + "/streams"))
    if (name.front() == '.') found += " streams/" + name + ";";
  for (const std::uint32_t id : readers_in_table(place_, stream()))
    if (!alive.contains(id))
      found += " the readers table names process " + std::to_string(id) + ";";
  return found;
}

// --- inspection

std::set<std::uint32_t> readers_in_table(const scratch& place, const std::string& stream) {
  std::set<std::uint32_t> ids;
  std::ifstream file(place.stream(stream) + "/lane-0.readers", std::ios::binary);
  file.seekg(bus::layout::readers_offset);
  for (std::uint64_t entry = 0; file.read(reinterpret_cast<char*>(&entry), sizeof entry);)
    if (entry != 0) ids.insert(static_cast<std::uint32_t>(entry >> 32));
  return ids;
}

std::string lane_facts(const scratch& place, const std::string& stream) {
  constexpr std::size_t window = 12;
  std::ifstream file(place.stream(stream) + "/lane-0", std::ios::binary);
  bus::layout::lane_header h{};
  if (!file.read(reinterpret_cast<char*>(&h), sizeof h)) return "the lane cannot be read";
  const auto& turn = h.turn;
  std::string text = "lock " + std::to_string(turn.lock) + ", lease " + std::to_string(turn.lease) +
                     ", tail " + std::to_string(turn.tail) + ", next sequence " +
                     std::to_string(turn.next_seq) + ", zero end " + std::to_string(turn.zero_end) +
                     ", reserved end " + std::to_string(h.limits.reserved_end) + ", gate limit " +
                     std::to_string(h.limits.gate_limit) + ", repaired " +
                     std::to_string(h.counters.repaired) + "; waypoints";
  std::vector<std::pair<std::uint64_t, std::uint64_t>> points;
  for (const auto& point : h.waypoints)
    if (point.position != bus::layout::no_waypoint) points.emplace_back(point.position, point.seq);
  std::sort(points.rbegin(), points.rend());
  if (points.size() > 3) points.resize(3);
  for (const auto& [position, seq] : points)
    text += " " + std::to_string(position) + ":" + std::to_string(seq);
  if (points.empty()) return text;
  text += "; records from the oldest of them";
  std::uint64_t at = points.back().first;
  for (std::size_t i = 0; i < 3 * window && at < turn.tail + 1024; ++i) {
    std::uint64_t head[2] = {};
    file.seekg(
        static_cast<std::streamoff>(bus::layout::lane_data_offset + at % h.info.capacity_bytes));
    if (!file.read(reinterpret_cast<char*>(head), sizeof head)) break;
    text += " " + std::to_string(at) + ":" + std::to_string(head[0]);
    const std::uint64_t bytes = bus::layout::record_shape::unpack(head[1]).total_bytes();
    at += head[0] == 0 || bytes == 0 || bytes > h.info.capacity_bytes ? bus::layout::record_align
                                                                      : bytes;
  }
  return text;
}

std::vector<std::string> names_in(const std::string& directory) {
  std::vector<std::string> names;
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator(directory, ignored))
    names.push_back(entry.path().filename());
  std::sort(names.begin(), names.end());
  return names;
}

std::size_t open_descriptors(pid_t pid) {
  return names_in("/proc/" + std::to_string(pid) + "/fd").size();
}

std::size_t mapping_count(pid_t pid) {
  std::ifstream maps("/proc/" + std::to_string(pid) + "/maps");
  std::size_t lines = 0;
  for (std::string line; std::getline(maps, line);) ++lines;
  return lines;
}

std::int64_t times::at(double share) {
  if (all.empty()) return 0;
  std::sort(all.begin(), all.end());
  return all[std::min(all.size() - 1,
                      static_cast<std::size_t>(share * static_cast<double>(all.size())))];
}

std::size_t times::within(std::int64_t ns) const {
  return static_cast<std::size_t>(
      std::count_if(all.begin(), all.end(), [&](std::int64_t t) { return t <= ns; }));
}

std::string times::line() {
  char text[256];
  std::snprintf(
      text, sizeof text,
      "%zu kills: p50 %.0f us, p90 %.0f us, p99 %.0f us, worst %.0f us; within 10 ms: %zu of %zu",
      all.size(), static_cast<double>(at(0.5)) / 1e3, static_cast<double>(at(0.9)) / 1e3,
      static_cast<double>(at(0.99)) / 1e3, static_cast<double>(at(1.0)) / 1e3, within(10'000'000),
      all.size());
  return text;
}

}  // namespace test
