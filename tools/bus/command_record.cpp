// bus record, bus replay: write messages into a portable file, and publish them again; replay a
// stream at its own speed.

#include <algorithm>
#include <cstdio>
#include <memory>
#include <thread>

#include "commands.hpp"

namespace tools {

namespace {

struct options {
  std::vector<std::string> patterns;
  std::string file, since, duration, until;
  bool all = false, follow = false, print = false;
  std::uint64_t count = 0;
  std::string speed = "1";
  std::vector<std::string> streams;
  std::string prefix;
};

// A recorder that is killed loses at most this much.
constexpr auto flush_every = std::chrono::seconds(1);
constexpr auto look_again = std::chrono::milliseconds(50);
constexpr double longest_ns = 60e9;  // as replay_options::longest_pause

int record(const context& c, const options& o) {
  auto writer = bus::recording_writer::create(o.file);
  if (!writer) return c.fail(writer.error());
  auto session = c.open("record", true);
  if (!session) return c.fail(session.error());
  bus::subscriber_options how;
  how.name = "bus record";
  std::uint64_t lost = 0;
  how.on_gap = [&](const bus::gap& gap) { lost += gap.count; };
  if (o.all) how.start = bus::start::all();
  if (!o.since.empty()) {
    const auto since = parse_time(o.since);
    if (!since)
      return c.usage("invalid --since '" + o.since + "'",
                     "use 5m (ago), 10:15:00 or 2026-11-22T10:15:00");
    how.start = bus::start::by_time(*since);
  }
  auto idle = std::chrono::nanoseconds(o.all && !o.follow ? std::chrono::milliseconds(200)
                                                          : std::chrono::hours(24 * 365));
  auto end = std::chrono::steady_clock::time_point::max();
  if (!o.duration.empty()) {
    const auto duration = parse_duration(o.duration);
    if (!duration)
      return c.usage("invalid --duration '" + o.duration + "'", "it is not a duration such as 10s");
    end = std::chrono::steady_clock::now() + *duration;
  }
  const std::vector<std::string_view> patterns(o.patterns.begin(), o.patterns.end());
  auto subscriber = session->subscribe(patterns, how);
  if (!subscriber) return c.fail(subscriber.error());
  catch_interrupts([&] { subscriber->stop(); });
  int status = 0;
  auto flush_due = std::chrono::steady_clock::now() + flush_every;
  auto idle_until = std::chrono::steady_clock::now() + idle;
  while (status == 0 && !subscriber->stopped() && (o.count == 0 || writer->count() < o.count)) {
    const auto now = std::chrono::steady_clock::now();
    if (now >= end || now >= idle_until) break;
    if (now >= flush_due) {
      flush_due = now + flush_every;
      if (writer->flushed() != writer->count())
        if (auto flushed = writer->flush(); !flushed) status = c.fail(flushed.error());
      if (status != 0) break;
    }
    auto m = subscriber->next(std::min({flush_due, end, idle_until}) - now);
    if (subscriber->failure()) status = c.fail(*subscriber->failure());
    if (!m) continue;
    idle_until = std::chrono::steady_clock::now() + idle;
    auto added = writer->add(*m);
    if (!added) status = c.fail(added.error());
  }
  const std::uint64_t count = writer->count();
  auto closed = writer->close();
  if (!closed) {
    std::fprintf(stderr, "bus: %llu messages are in %s.part\n",
                 static_cast<unsigned long long>(writer->flushed()), o.file.c_str());
    return c.fail(closed.error());
  }
  if (status != 0) return status;
  if (c.json)
    std::printf("%s\n", dump({{"file", o.file}, {"messages", count}, {"lost", lost}}).c_str());
  else
    std::printf("%llu messages in %s%s\n", static_cast<unsigned long long>(count), o.file.c_str(),
                lost != 0 ? (", " + std::to_string(lost) + " lost").c_str() : "");
  return lost != 0 ? exit_loss : 0;
}

std::optional<double> parse_speed(const std::string& text) {
  if (text == "max") return 0;
  char* end = nullptr;
  const double speed = std::strtod(text.c_str(), &end);
  if (end == text.c_str() || *end != '\0' || !(speed > 0)) return std::nullopt;
  return speed;
}

// Publishes messages again, under their subjects or below a prefix.
class sender {
 public:
  sender(bus::session& session, const options& o) : session_(session), o_(o) {}
  bus::result<void> send(std::string_view subject, std::span<const std::byte> payload,
                         std::span<const bus::header> headers) {
    const std::string to =
        o_.prefix.empty() ? std::string(subject) : o_.prefix + "." + std::string(subject);
    auto known = publishers_.find(to);
    if (known == publishers_.end()) {
      bus::publisher_options how;
      how.name = "bus replay";
      auto made = session_.publisher(to, how);
      if (!made) return std::move(made.error());
      if (publishers_.size() >= most_publishers) publishers_.clear();
      known = publishers_.emplace(to, std::move(*made)).first;
    }
    const auto done = known->second.publish(payload, headers);
    if (!done) return known->second.last_error();
    return {};
  }

 private:
  static constexpr std::size_t most_publishers = 256;
  bus::session& session_;
  const options& o_;
  std::map<std::string, bus::publisher> publishers_;
};

int replay_file(const context& c, const options& o, double speed) {
  auto reader = bus::recording_reader::open(o.file);
  if (!reader) return c.fail(reader.error());
  auto session = c.open("replay", true);
  if (!session) return c.fail(session.error());
  sender out(*session, o);
  catch_interrupts();
  std::uint64_t count = 0;
  std::optional<std::chrono::system_clock::time_point> last;
  auto due = std::chrono::steady_clock::now();
  while (!interrupted()) {
    const auto found = reader->next();
    if (!found) break;
    // Not below 0, and limited: a clock that was set is no pause.
    if (speed > 0)
      due += std::chrono::nanoseconds(static_cast<std::int64_t>(std::clamp(
          static_cast<double>((found->time - last.value_or(found->time)).count()) / speed, 0.0,
          longest_ns)));
    last = found->time;
    while (!interrupted() && std::chrono::steady_clock::now() < due)
      std::this_thread::sleep_until(std::min(due, std::chrono::steady_clock::now() + look_again));
    if (interrupted()) break;
    auto sent = out.send(found->subject, found->payload, found->headers);
    if (!sent) return c.fail(sent.error());
    ++count;
  }
  const auto announced = reader->announced();
  if (c.json) {
    json told = {{"file", o.file}, {"messages", count}, {"damaged", reader->damaged()}};
    if (announced) told["announced"] = *announced;
    std::printf("%s\n", dump(told).c_str());
  } else {
    std::printf("%llu%s messages from %s\n", static_cast<unsigned long long>(count),
                announced ? (" of " + std::to_string(*announced)).c_str() : "", o.file.c_str());
  }
  return reader->failure() ? c.fail(*reader->failure()) : 0;
}

int replay_streams(const context& c, const options& o, double speed) {
  auto session = c.open("replay", false);
  if (!session) return c.fail(session.error());
  bus::replay_options how;
  how.streams = o.streams;
  how.patterns = o.patterns.empty() ? std::vector<std::string>{">"} : o.patterns;
  how.speed = speed;
  for (const auto& [text, into] : {std::pair{&o.since, 0}, std::pair{&o.until, 1}}) {
    if (text->empty()) continue;
    const auto time = parse_time(*text);
    if (!time)
      return c.usage("invalid time '" + *text + "'",
                     "use 5m (ago), 10:15:00 or 2026-11-22T10:15:00");
    if (into == 0)
      how.from = *time;
    else
      how.to = *time;
  }
  auto replay = bus::replay::open(*session, how);
  if (!replay) return c.fail(replay.error());
  catch_interrupts([&] { replay->stop(); });
  while (auto m = replay->next()) {
    if (c.json)
      std::printf("%s\n", dump(to_json(*m)).c_str());
    else
      std::printf("%s  %s  %s\n", show_time(m->publish_time()).c_str(),
                  printable(m->subject()).c_str(), printable(m->text()).c_str());
    if (speed > 0) std::fflush(stdout);
  }
  if (replay->failure()) return c.fail(*replay->failure());
  return replay->lost() != 0 ? exit_loss : 0;
}

}  // namespace

void add_record(CLI::App& app, context& c) {
  auto o = std::make_shared<options>();
  auto* recording = app.add_subcommand("record", "Write messages into a portable file");
  recording->add_option("pattern", o->patterns, "Patterns of the subjects")->required();
  recording->add_option("--to", o->file, "The file; it must not exist")->required();
  recording->add_flag("--all", o->all, "Record all existing messages, then exit");
  recording->add_flag("--follow", o->follow, "With --all: continue with new messages");
  recording->add_option("--since", o->since, "Start at a time: 5m (ago), 10:15:00");
  recording->add_option("--count,-n", o->count, "Exit after this many messages");
  recording->add_option("--duration", o->duration, "Exit after this time");
  recording->footer(
      "Examples:\n  bus record 'md.>' --to feed.rec --duration 1h\n"
      "  bus record 'orders.>' --to orders.rec --all");
  recording->callback([o, &c] { c.run = [o, &c] { return record(c, *o); }; });

  auto* replaying = app.add_subcommand(
      "replay", "Publish a recorded file again; or print streams in the order of time");
  auto* file = replaying->add_option("file", o->file, "A file that bus record made");
  replaying
      ->add_option("--speed", o->speed,
                   "1: at the recorded speed; 10: ten times as fast; max: without pauses")
      ->capture_default_str();
  replaying->add_option("--prefix", o->prefix, "Publish md.x as PREFIX.md.x");
  auto* streams = replaying
                      ->add_option("--stream", o->streams,
                                   "Instead of a file: print the messages of this stream; several "
                                   "streams are merged by time")
                      ->excludes(file);
  replaying->add_option("--pattern", o->patterns, "With --stream: only these subjects")
      ->needs(streams);
  replaying->add_option("--since", o->since, "With --stream: from this time")->needs(streams);
  replaying->add_option("--until", o->until, "With --stream: up to this time")->needs(streams);
  replaying->footer(
      "Examples:\n  bus replay feed.rec --speed max --prefix test\n"
      "  bus replay --stream trades --stream quotes --since 10m --speed 10");
  replaying->callback([o, &c] {
    c.run = [o, &c] {
      const auto speed = parse_speed(o->speed);
      if (!speed) return c.usage("invalid --speed '" + o->speed + "'", "use 1, 0.5, 10 or max");
      if (o->file.empty() && o->streams.empty())
        return c.usage("nothing to replay", "give a file, or --stream NAME");
      return o->file.empty() ? replay_streams(c, *o, *speed) : replay_file(c, *o, *speed);
    };
  });
}

}  // namespace tools
