// What readers of a log cost its publisher, compared with processes that only call pread.
//
// Fair on few cores: in both cases the other processes run on the same cores as the publisher, read
// as many bytes from the same files in the page cache, and use as much processor time. What differs
// is what libbus adds: locks, flags and cache lines that readers might share with the publisher or
// with busd.

#include <fcntl.h>
#include <time.h>

#include <array>
#include <atomic>
#include <filesystem>
#include <functional>
#include <thread>

#include "private_bus.hpp"
#include "scenarios.hpp"

namespace bench {

namespace {

using namespace std::chrono_literals;
using clock = std::chrono::steady_clock;

constexpr int rounds = 7;  // plus one warm-up round that is not counted
constexpr std::size_t step_bytes = 1 << 20;

double processor_seconds() {
  timespec used{};
  ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
  return static_cast<double>(used.tv_sec) + static_cast<double>(used.tv_nsec) * 1e-9;
}

struct one_reader {
  std::atomic<bool> ready{false};
  double bytes = 0, seconds = 0, processor = 0;
};
struct words {
  std::atomic<bool> go{false}, stop{false};
  std::array<one_reader, 2> readers;
};

/// Calls `step`, which returns the bytes it read (negative: failed), from `go` to `stop`, at most
/// at `pace`.
int read_on(words& w, int who, double pace, const std::function<double()>& step) {
  one_reader& me = w.readers[static_cast<std::size_t>(who)];
  me.ready = true;
  while (!w.go) std::this_thread::sleep_for(100us);
  const auto begin = clock::now();
  const double before = processor_seconds();
  double bytes = 0;
  while (!w.stop) {
    const double more = step();
    if (more < 0) return 3;
    bytes += more;
    while (pace > 0 && !w.stop && bytes > pace * seconds_since(begin))
      std::this_thread::sleep_for(200us);
  }
  me.bytes = bytes;
  me.seconds = seconds_since(begin);
  me.processor = processor_seconds() - before;
  return 0;
}

struct prepared_log {
  std::string bus_name;
  std::uint64_t messages = 0;  // that are only in the log
  double bytes_per_message = 0;
  std::vector<std::string> files;
};

int replay_on(words& w, int who, double pace, const prepared_log& log) {
  auto session = bus::open(log.bus_name);
  if (!session) return 1;
  const std::uint64_t from = who == 0 ? 1 : log.messages / 2;
  bus::subscriber_options reading;
  reading.start = bus::start::by_sequence(from);
  reading.wait = bus::wait_strategy::busy_spin;
  bus::result<bus::subscriber> subscriber = bus::error{};
  std::uint64_t next = log.messages + 1, seen = 0, sum = 0;
  const int status = read_on(w, who, pace, [&]() -> double {
    if (next > log.messages) {  // starts over
      if (subscriber && subscriber->stats().replayed != seen) return -1;
      subscriber = session->subscribe("bench", reading);
      if (!subscriber) return -1;
      next = from;
      seen = 0;
    }
    const std::uint64_t got = subscriber->poll(
        std::min<std::uint64_t>(1000, log.messages + 1 - next), [&](const bus::message& m) {
          sum += sum_of(m.payload().data(), m.size());
          next = m.sequence() + 1;
        });
    if (subscriber->failure()) return -1;
    seen += got;
    return static_cast<double>(got) * log.bytes_per_message;
  });
  return sum == 1 ? 5 : status;
}

int pread_on(words& w, int who, double pace, double processor_per_byte, const prepared_log& log) {
  std::vector<int> files;
  for (const std::string& path : log.files)
    if (const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC); file >= 0)
      files.push_back(file);
  if (files.empty()) return 1;
  std::vector<char> buffer(step_bytes);
  const std::size_t first = who == 0 ? 0 : files.size() / 2;
  std::size_t at = first;
  off_t offset = 0;
  double all = 0, begin = -1;
  std::uint64_t sum = 0;
  const int status = read_on(w, who, pace, [&]() -> double {
    if (begin < 0) begin = processor_seconds();
    const auto got = ::pread(files[at], buffer.data(), buffer.size(), offset);
    if (got < 0) return -1;
    offset += got;
    if (static_cast<std::size_t>(got) < buffer.size()) {
      at = at + 1 == files.size() ? first : at + 1;
      offset = 0;
    }
    all += static_cast<double>(got);
    do sum += sum_of(buffer.data(), 64 * 1024);
    while (!w.stop && processor_seconds() - begin < processor_per_byte * all);
    return static_cast<double>(got);
  });
  for (const int file : files) ::close(file);
  return sum == 1 ? 5 : status;
}

enum company : std::size_t { alone, readers, preads };

}  // namespace

bus::result<beside_report> run_beside(const beside_options& options) {
  private_bus here(options.directory, 1);
  if (here.failure()) return *here.failure();
  const auto config = stream_of(options.bytes);
  auto added = here.session().add_stream(config);
  if (!added) return std::move(added.error());
  bus::publisher_options how;
  how.mode = bus::publish_mode::exclusive;
  how.send_timeout = 30s;
  auto publisher = here.session().publisher("bench", how);
  if (!publisher) return std::move(publisher.error());
  const std::vector<std::byte> payload(options.bytes, std::byte{1});
  const std::uint64_t in_ring = config.ring_bytes / (options.bytes + 32) + 1;
  const std::uint64_t total = std::max(options.messages, 4 * in_ring);
  for (std::uint64_t i = 0; i < total; ++i)
    if (const auto done = publisher->publish(payload); !done) return of(*publisher, done.status);
  auto confirmed = publisher->wait_confirmed(publisher->last_receipt(), 60s);
  if (!confirmed) return std::move(confirmed.error());
  prepared_log log{here.name, total - in_ring, 0, {}};
  if (auto kept = here.session().keeper(); kept && !kept->logs.empty())
    log.bytes_per_message =
        static_cast<double>(kept->logs[0].bytes_written) / static_cast<double>(total);
  for (const auto& entry : std::filesystem::directory_iterator(here.lane()))
    if (entry.path().extension() == ".log") log.files.push_back(entry.path());
  std::sort(log.files.begin(), log.files.end());
  if (log.files.size() > 1) log.files.pop_back();  // the last one is still being written

  const int processors = static_cast<int>(::sysconf(_SC_NPROCESSORS_ONLN));
  const double slice = options.seconds / (3 * rounds);
  double processor_per_byte = 0, bytes_of_readers = 0, processor_of_readers = 0;
  std::array<std::vector<double>, 3> rates, ratios, shares;
  std::array<std::array<std::vector<double>, 2>, 3> bytes;
  std::vector<double> readers_to_preads;
  pin_to(0);
  for (int round = -1; round < rounds; ++round) {
    std::array<double, 3> now{};
    for (std::size_t turn = 0; turn < 3; ++turn) {
      // The order rotates, beginning with alone, readers, preads.
      const std::size_t with = (turn + static_cast<std::size_t>(std::max(round, 0))) % 3;
      shared_value<words> w;
      std::vector<pid_t> children;
      for (int who = 0; with != alone && who < 2; ++who)
        children.push_back(spawn(processors > 3 ? 2 + who : who, [&] {
          return with == readers
                     ? replay_on(*w, who, options.pace_bytes_per_s, log)
                     : pread_on(*w, who, options.pace_bytes_per_s, processor_per_byte, log);
        }));
      for (std::size_t who = 0; who < children.size(); ++who)
        for (int wait = 0; wait < 50'000 && !w->readers[who].ready; ++wait)
          std::this_thread::sleep_for(100us);
      w->go = true;
      const auto begin = clock::now();
      std::uint64_t sent = 0;
      bool published = true;
      while (published && seconds_since(begin) < slice)
        for (int i = 0; published && i < 64; ++i, ++sent)
          published = static_cast<bool>(publisher->publish(payload));
      confirmed = publisher->wait_confirmed(publisher->last_receipt(), 60s);
      now[with] = static_cast<double>(sent) / seconds_since(begin);
      w->stop = true;
      bool good = true;
      for (const pid_t one : children) good = join(one) && good;
      if (!published) return publisher->last_error();
      if (!confirmed) return std::move(confirmed.error());
      if (!good)
        return bus::error{bus::errc::system, 0, "the replay failed",
                          "a reader did not get all messages", ""};
      double share = 0;
      for (std::size_t who = 0; who < children.size(); ++who) {
        const one_reader& reader = w->readers[who];
        share += reader.processor / reader.seconds;
        if (with == readers) {
          bytes_of_readers += reader.bytes;
          processor_of_readers += reader.processor;
        }
        if (round >= 0) bytes[with][who].push_back(reader.bytes / reader.seconds);
      }
      if (bytes_of_readers > 0) processor_per_byte = processor_of_readers / bytes_of_readers;
      if (round >= 0) shares[with].push_back(share);
    }
    if (round < 0) continue;
    for (std::size_t with = 0; with < 3; ++with) {
      rates[with].push_back(now[with]);
      ratios[with].push_back(now[with] / now[alone]);
    }
    readers_to_preads.push_back(now[readers] / now[preads]);
  }
  unpin();
  const auto report_of = [&](company with) {
    beside_report::company made;
    made.messages_per_s = median(rates[with]);
    for (std::size_t who = 0; who < 2; ++who) made.bytes_per_s[who] = median(bytes[with][who]);
    made.processor_share = median(shares[with]);
    made.ratio_to_alone = median(ratios[with]);
    return made;
  };
  return beside_report{median(rates[alone]), report_of(readers), report_of(preads),
                       median(readers_to_preads), rounds};
}

}  // namespace bench
