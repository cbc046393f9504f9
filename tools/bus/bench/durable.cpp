#include <fcntl.h>
#include <signal.h>

#include <cstdio>
#include <filesystem>
#include <thread>

#include "disk_floor.hpp"
#include "scenarios.hpp"

namespace bench {

namespace {

using namespace std::chrono_literals;
using clock = std::chrono::steady_clock;

double seconds_since(clock::time_point begin) {
  return std::chrono::duration<double>(clock::now() - begin).count();
}

// busd lies beside bus, or where an installation puts it.
std::string find_busd() {
  std::error_code failed;
  const auto self = std::filesystem::read_symlink("/proc/self/exe", failed).parent_path();
  for (const auto& path : {self / "busd", self / "../sbin/busd", self / "../../sbin/busd"})
    if (std::filesystem::exists(path, failed)) return path.string();
  return "busd";
}

/// A bus of this run's own, a busd that keeps it, a directory on the disk that is measured.
class kept_bus {
 public:
  kept_bus(const std::string& directory, int core) {
    std::string pattern = directory + "/bus-bench-XXXXXX";
    if (::mkdtemp(pattern.data()) == nullptr) {
      failure_ = {bus::errc::permission, errno, "cannot make a directory in " + directory,
                  std::strerror(errno), "choose another with --dir"};
      return;
    }
    data = pattern;
    const std::string busd = find_busd(), log = data + "/busd.log";
    child_ = ::fork();
    if (child_ == 0) {
      pin_to(core);
      const int out = ::open(log.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
      ::dup2(out, 2);
      ::execlp(busd.c_str(), "busd", "--bus", name.c_str(), "--data", data.c_str(), "--disk-block",
               "1", "--disk-warn", "1", static_cast<char*>(nullptr));
      ::_exit(127);
    }
    const auto begin = clock::now();
    for (;;) {
      session_ = bus::session::open(bus::session_options{name, "bus bench", true});
      if (session_ && session_->keeper()) return;
      int status = 0;
      if (::waitpid(child_, &status, WNOHANG) == child_ || seconds_since(begin) > 10) {
        child_ = -1;
        failure_ = {bus::errc::unavailable, 0, "cannot start " + busd,
                    "it ended at once, or does not answer: see " + log,
                    "install busd beside bus, or put it into PATH"};
        keep_ = true;
        return;
      }
      std::this_thread::sleep_for(5ms);
    }
  }
  ~kept_bus() {
    session_ = bus::error{};
    if (child_ > 0) {
      ::kill(child_, SIGTERM);
      join(child_);
    }
    (void)bus::remove_bus(name, true);
    std::error_code failed;
    if (!data.empty() && !keep_) std::filesystem::remove_all(data, failed);
  }
  kept_bus(const kept_bus&) = delete;
  kept_bus& operator=(const kept_bus&) = delete;

  const std::optional<bus::error>& failure() const { return failure_; }
  bus::session& session() { return *session_; }
  std::string lane() const { return data + "/" + name + "/streams/bench/lane-0"; }

  std::string name = "bench-" + std::to_string(::getpid());
  std::string data;

 private:
  bus::result<bus::session> session_ = bus::error{};
  std::optional<bus::error> failure_;
  pid_t child_ = -1;
  bool keep_ = false;
};

bus::stream_config stream_of(const durable_options& options) {
  bus::stream_config config;
  config.name = "bench";
  config.subjects = {"bench"};
  config.storage = options.storage;
  config.max_message_bytes = std::max<std::uint32_t>(options.bytes, 64 * 1024);
  config.ring_bytes = 8 << 20;
  while (config.ring_bytes < 8 * (config.max_message_bytes + 4096)) config.ring_bytes *= 2;
  return config;
}

bus::error of(const bus::publisher& publisher, bus::publish_status status) {
  auto why = publisher.last_error();
  if (why.what.empty()) why.what = bus::publish_status_name(status);
  return why;
}

}  // namespace

bus::result<durable_report> run_durable(const durable_options& options) {
  kept_bus here(options.directory, 1);
  if (here.failure()) return *here.failure();
  auto added = here.session().add_stream(stream_of(options));
  if (!added) return std::move(added.error());
  bus::publisher_options how;
  how.mode = bus::publish_mode::exclusive;
  how.send_timeout = 30s;
  auto publisher = here.session().publisher("bench", how);
  if (!publisher) return std::move(publisher.error());
  disk_floor floor(here.data);
  if (!floor.works())
    return bus::error{bus::errc::no_space, errno, "cannot write to " + here.data,
                      std::strerror(errno), "choose another directory with --dir"};
  pin_to(0);
  durable_report report;
  const std::vector<std::byte> payload(options.bytes, std::byte{1});
  const bool waits = options.disk && options.storage == bus::storage_class::durable;

  // One at a time, taking turns with the floor.
  samples confirms, floors;
  const auto begin = clock::now();
  while (seconds_since(begin) < options.seconds / 2) {
    for (int i = 0; i < 50; ++i) {
      const std::uint64_t start = ticks();
      const bus::published done = publisher->publish(payload);
      if (!done) return of(*publisher, done.status);
      if (waits) {
        auto confirmed = publisher->wait_confirmed(publisher->last_receipt(), 30s);
        if (!confirmed) return std::move(confirmed.error());
      }
      confirms.add(ticks() - start);
    }
    for (int i = 0; i < 50; ++i) floor.commit(4096, floors);
  }
  report.confirm_p50_us = confirms.at(0.5) / 1000;
  report.confirm_p99_us = confirms.at(0.99) / 1000;
  report.floor_p50_us = floors.at(0.5) / 1000;
  report.floor_p99_us = floors.at(0.99) / 1000;

  // Under load; what is counted is confirmed.
  std::vector<double> rates, bandwidths;
  for (int round = 0; round < 3; ++round) {
    const auto from = clock::now();
    std::uint64_t sent = 0;
    while (seconds_since(from) < options.seconds / 6) {
      for (int i = 0; i < 64; ++i, ++sent)
        if (const auto done = publisher->publish(payload); !done)
          return of(*publisher, done.status);
    }
    if (waits) {
      auto confirmed = publisher->wait_confirmed(publisher->last_receipt(), 60s);
      if (!confirmed) return std::move(confirmed.error());
    }
    rates.push_back(static_cast<double>(sent) / seconds_since(from));
    bandwidths.push_back(floor.bandwidth(1 << 20, 0.3));
  }
  report.messages_per_s = median(rates);
  report.bytes_per_s = report.messages_per_s * options.bytes;
  report.floor_bytes_per_s = median(bandwidths);
  auto kept = here.session().keeper();
  if (kept) {
    report.disk = kept->disk;
    for (const auto& log : kept->logs) report.bytes_written += log.bytes_written;
  }
  unpin();
  return report;
}

bus::result<replay_report> run_replay(const replay_options& options) {
  kept_bus here(options.directory, 1);
  if (here.failure()) return *here.failure();
  durable_options how;
  how.bytes = options.bytes;
  auto added = here.session().add_stream(stream_of(how));
  if (!added) return std::move(added.error());
  bus::publisher_options sending;
  sending.mode = bus::publish_mode::exclusive;
  sending.send_timeout = 30s;
  auto publisher = here.session().publisher("bench", sending);
  if (!publisher) return std::move(publisher.error());
  const std::vector<std::byte> payload(options.bytes, std::byte{1});
  const std::uint64_t total = options.messages;
  for (std::uint64_t i = 0; i < total; ++i)
    if (const auto done = publisher->publish(payload); !done) return of(*publisher, done.status);
  auto confirmed = publisher->wait_confirmed(publisher->last_receipt(), 60s);
  if (!confirmed) return std::move(confirmed.error());
  // The last of them may still be in the ring: those are not counted.
  const std::uint64_t in_ring = stream_of(how).ring_bytes / 64;
  const std::uint64_t wanted = total > 2 * in_ring * 64 / (options.bytes + 64)
                                   ? total - in_ring * 64 / (options.bytes + 64)
                                   : total / 2;
  replay_report report;
  std::vector<double> rates;
  report.floor_bytes_per_s = read_bandwidth(here.lane());
  for (int round = 0; round < 4; ++round) {
    shared_value<std::array<double, 64>> taken;
    std::vector<pid_t> readers;
    for (std::uint32_t r = 0; r < options.readers; ++r)
      readers.push_back(spawn(static_cast<int>(r % 2), [&, r] {
        auto session = bus::open(here.name);
        if (!session) return 1;
        bus::subscriber_options reading;
        reading.start = bus::start::all();
        reading.wait = bus::wait_strategy::busy_spin;
        auto subscriber = session->subscribe("bench", reading);
        if (!subscriber) return 2;
        std::uint64_t seen = 0, sum = 0, last = 0;
        const auto begin = clock::now();
        while (seen < wanted) {
          seen += subscriber->poll(wanted - seen, [&](const bus::message& m) {
            sum += sum_of(m.payload().data(), m.size());
            last = m.sequence();
          });
          if (subscriber->failure()) return 3;
        }
        (*taken)[r] = seconds_since(begin);
        return last == wanted && sum != 1 && subscriber->stats().replayed == seen ? 0 : 4;
      }));
    bool good = true;
    for (const pid_t reader : readers) good = join(reader) && good;
    if (!good)
      return bus::error{bus::errc::system, 0, "the replay failed", "a reader did not get it all",
                        ""};
    if (round == 0) continue;  // brings the files into the page cache
    double slowest = 0;
    for (std::uint32_t r = 0; r < options.readers; ++r) slowest = std::max(slowest, (*taken)[r]);
    rates.push_back(static_cast<double>(wanted) / slowest);
  }
  report.messages_per_s = median(rates);
  report.bytes_per_s = report.messages_per_s * options.bytes;
  return report;
}

}  // namespace bench
