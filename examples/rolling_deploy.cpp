/// rolling_deploy: all workers are replaced while jobs come in, some of them by kill -9. No job is
/// lost, and no acknowledged job is done again.
///
/// A worker publishes on the stream `events` when it starts a job and when its acknowledgement has
/// succeeded. All events have one order, so the reader sees whether each promise is kept.

#include "example.hpp"

#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>
#include <vector>

namespace {

using namespace std::chrono_literals;
using example::expect;
using example::must;

constexpr int workers_total = 3, replacements = 2 * workers_total, jobs_before_replaced = 200;

void declare(bus::session& session) {
  for (const char* name : {"jobs", "events"}) {
    bus::stream_config stream;
    stream.name = name;
    stream.subjects = {stream.name + ".>"};
    if (stream.name == "jobs") {
      stream.ring_bytes = 64u << 10;  // smaller than the load: the source waits for workers
      stream.max_message_bytes = 4u << 10;
    }
    must(session.add_stream(stream));
  }
  bus::group_config group;
  group.name = "workers";
  group.stream = "jobs";
  group.backoff = {0ms};  // the message of a killed worker is retried at once
  must(session.add_group(group));
}

/// Publishes jobs until a message arrives on `enough`.
void publish_jobs(const std::string& bus_name) {
  bus::session session = must(bus::open(bus_name));
  bus::subscriber enough = must(session.subscribe("enough", {.start = bus::start::all()}));
  bus::publisher jobs = must(session.publisher("jobs.new"));
  for (std::uint64_t job = 0; !enough.try_next(); ++job)
    must(jobs.publish(std::to_string(job)), jobs);
}

void work(const std::string& bus_name, const std::string& name) {
  bus::session session = must(bus::open(bus_name));
  bus::publisher events = must(session.publisher("events.x"));
  bus::consumer worker =
      must(session.consume("", {.group = "workers", .stream = "jobs", .name = name}));
  example::stop_on_sigterm(worker);
  const bus::header headers[] = {{"worker", name}};
  const auto tell = [&](const char* subject, std::string_view job) {
    must(events.publish_to(subject, job, headers), events);
  };
  // run() would do, but this loop needs the result of ack().
  while (auto job = worker.next(1h)) {
    tell("events.started", job->text());
    std::this_thread::sleep_for(200us);  // the work
    if (job->ack() == bus::settle_result::ok) tell("events.done", job->text());
  }
  if (worker.failure()) throw std::runtime_error(worker.failure()->message());
}

struct worker {
  std::string name;
  std::optional<example::process> process;
  int started = 0;  // since its last replacement
  int version = 0;
};

void rolling_deploy() {
  const example::bus_of_this_run bus("rolling_deploy");
  bus::session session = must(bus::open(bus.name()));
  declare(session);
  bus::subscriber events = must(session.subscribe("events.>"));

  std::array<worker, workers_total> workers;
  const auto deploy = [&](std::size_t i) {
    worker& w = workers[i];
    w.name = "worker " + std::to_string(i) + " v" + std::to_string(++w.version);
    w.started = 0;
    w.process.emplace([&] { work(bus.name(), w.name); });
  };
  for (std::size_t i = 0; i < workers.size(); ++i) deploy(i);
  example::process source([&] { publish_jobs(bus.name()); });

  int killed = 0, ended = 0;
  std::vector<int> starts;
  std::vector<bool> done;
  const auto look = [&](const bus::message& event) {
    const auto job = std::strtoul(std::string(event.text()).c_str(), nullptr, 10);
    if (job >= starts.size()) starts.resize(job + 1), done.resize(job + 1);
    if (event.subject() == "events.done") {
      done[job] = true;
      return;
    }
    expect(!done[job], "nothing that was acknowledged is done again");
    ++starts[job];
    for (worker& w : workers)
      if (event.header("worker") == w.name) ++w.started;
  };
  const auto replace_one_in_time = [&] {
    for (std::size_t i = 0; i < workers.size() && killed + ended < replacements; ++i) {
      if (workers[i].started < jobs_before_replaced) continue;
      if (killed <= ended)
        workers[i].process->kill(), ++killed;
      else
        workers[i].process->end("worker"), ++ended;
      deploy(i);
    }
  };
  const auto are_all_replaced = [&] {
    events.poll(256, look);
    replace_one_in_time();
    return killed + ended == replacements;
  };
  example::wait_until(are_all_replaced, "all workers are replaced, twice");
  bus::publisher stop = must(session.publisher("enough"));
  must(stop.publish("enough"), stop);
  const auto read_on = [&] {
    while (events.poll(256, look) != 0) {
    }
  };
  example::wait_until([&] { return read_on(), source.ended(); }, "the source ends");
  source.join("source");
  const std::uint64_t jobs = must(session.stream("jobs")).messages();
  const auto counts = [&] { return must(session.group("jobs", "workers")).counts; };
  example::wait_until([&] { return read_on(), counts().settled == jobs; }, "all jobs are done");
  for (worker& w : workers) w.process->end("worker");
  read_on();

  std::uint64_t repeated = 0;
  for (const int times : starts) repeated += static_cast<std::uint64_t>(times - 1);
  expect(starts.size() == jobs && std::find(starts.begin(), starts.end(), 0) == starts.end(),
         "every job was started");
  expect(repeated <= static_cast<std::uint64_t>(killed),
         "a killed worker repeats at most the job that it was doing");
  std::printf("%llu jobs, all done; %d workers ended, %d killed; %llu jobs started again\n",
              static_cast<unsigned long long>(jobs), ended, killed,
              static_cast<unsigned long long>(repeated));
}

}  // namespace

int main() { return example::run(rolling_deploy); }
