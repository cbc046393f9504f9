// A stream with a log as programs see it: starts that join the live stream without a gap or a
// duplicate, confirms, a new epoch, seals and purges.

#include <gtest/gtest.h>

#include "busd_process.hpp"
#include "traffic.hpp"

namespace {

using namespace test;
using namespace std::chrono_literals;
using wall = std::chrono::system_clock;

struct came {
  std::uint64_t sequence = 0;
  std::string subject;
  std::string text;
  std::uint32_t lane = 0;
  wall::time_point time{};
};

class WithBusd : public ::testing::Test {
 protected:
  void SetUp() override {
    ::alarm(280);
    ASSERT_TRUE(busd_.start_and_wait()) << busd_.log_tail();
    open();
  }
  void TearDown() override {
    if (HasFailure()) std::fprintf(stderr, "busd said:\n%s\n", busd_.log_tail().c_str());
    ::alarm(0);
  }
  void open() {
    auto opened = bus::open(place_.url());
    ASSERT_TRUE(opened) << opened.error().message();
    session_.emplace(std::move(*opened));
  }
  bus::session& session() { return *session_; }
  void add(const bus::stream_config& config) {
    const auto added = session().add_stream(config);
    ASSERT_TRUE(added) << added.error().message();
  }
  bus::publisher publisher(std::string_view subject, bus::publisher_options options = {}) {
    auto made = session().publisher(subject, std::move(options));
    if (!made) throw std::runtime_error(made.error().message());
    return std::move(*made);
  }
  void wait_logged(const std::string& stream) {
    ASSERT_TRUE(eventually([&] {
      const auto info = session().stream(stream);
      return info && std::all_of(info->lanes.begin(), info->lanes.end(), [](const auto& lane) {
               return lane.durable_sequence >= lane.last_sequence;
             });
    }));
  }
  std::uint64_t last_of(const std::string& stream, std::uint32_t lane = 0) {
    const auto info = session().stream(stream);
    return info && lane < info->lanes.size() ? info->lanes[lane].last_sequence : 0;
  }

  struct reading {
    std::vector<came> messages;
    std::vector<gap_seen> gaps;
    std::string flaw;
    std::uint64_t replayed = 0;
  };
  /// Reads until `enough(reading)`.
  template <class Enough>
  reading read(const std::string& pattern, const bus::start& from, Enough&& enough) {
    reading got;
    bus::subscriber_options options;
    options.start = from;
    options.on_gap = [&](const bus::gap& gap) {
      got.gaps.push_back({gap.first, gap.count, gap.reason, got.messages.size()});
    };
    auto subscriber = session().subscribe(pattern, options);
    if (!subscriber) {
      got.flaw = subscriber.error().message();
      return got;
    }
    const auto end = std::chrono::steady_clock::now() + 30s;
    while (!enough(got)) {
      const std::size_t count = subscriber->poll(64, [&](const bus::message& m) {
        got.messages.push_back({m.sequence(), std::string(m.subject()), std::string(m.text()),
                                m.lane(), m.publish_time()});
      });
      if (subscriber->failure()) {
        got.flaw = subscriber->failure()->message();
        break;
      }
      if (std::chrono::steady_clock::now() > end) {
        got.flaw = "no more came after " + std::to_string(got.messages.size());
        break;
      }
      if (count == 0) (void)subscriber->wait(5ms);
    }
    got.replayed = subscriber->stats().replayed;
    return got;
  }
  reading read_count(const std::string& pattern, const bus::start& from, std::size_t count) {
    return read(pattern, from, [&](const reading& r) { return r.messages.size() >= count; });
  }
  reading read_to(const std::string& pattern, const bus::start& from, std::uint64_t last) {
    return read(pattern, from, [&](const reading& r) {
      return !r.messages.empty() && r.messages.back().sequence >= last;
    });
  }

  scratch place_, disk_{disk_directory()};
  busd_process busd_{place_.root(), disk_.root(), {"--buffer-bytes", "262144"}};
  std::optional<bus::session> session_;
};

std::string without_gap(const std::vector<came>& messages) {
  for (std::size_t i = 1; i < messages.size(); ++i)
    if (messages[i].sequence != messages[i - 1].sequence + 1)
      return std::to_string(messages[i].sequence) + " came after " +
             std::to_string(messages[i - 1].sequence);
  return {};
}

// ---- starts next to a publisher that keeps publishing

struct running_words {
  std::atomic<bool> stop{false};
  std::atomic<std::uint64_t> published{0};
  std::array<char, 300> flaw{};
};

class JoinsLive : public WithBusd, public ::testing::WithParamInterface<bus::storage_class> {
 protected:
  void SetUp() override {
    WithBusd::SetUp();
    const bool durable = GetParam() == bus::storage_class::durable;
    auto config = logged_stream("j", GetParam(), durable ? 64 * 1024 : 32u << 20);
    add(config);
    process_.emplace([this] {
      auto session = bus::open(place_.url());
      auto made =
          session ? session->publisher("j.0") : bus::result<bus::publisher>(session.error());
      if (!made) return 1;
      for (std::uint64_t n = 1; !words_->stop; ++n) {
        const auto done = made->publish_to("j." + std::to_string(n * n % 7), std::to_string(n));
        if (!done || done.sequence != n) {
          std::strncpy(words_->flaw.data(), made->last_error().message().c_str(), 299);
          return 2;
        }
        words_->published = n;
        ::usleep(20);
      }
      return 0;
    });
    ASSERT_TRUE(eventually([&] { return words_->published > 1500; })) << words_->flaw.data();
  }
  void finish() {
    words_->stop = true;
    EXPECT_TRUE(process_->succeeded()) << words_->flaw.data();
  }
  std::uint64_t now() const { return words_->published; }

  shared_value<running_words> words_;
  std::optional<child> process_;
};

TEST_P(JoinsLive, FromTheStart) {
  for (int i = 0; i < 10; ++i) {
    const reading r = read_to("j.>", bus::start::all(), now() + 300);
    ASSERT_EQ(r.flaw, "");
    ASSERT_EQ(r.messages.front().sequence, 1u);
    ASSERT_EQ(without_gap(r.messages), "");
    ASSERT_TRUE(r.gaps.empty());
    for (const came& m : r.messages) {
      ASSERT_EQ(m.text, std::to_string(m.sequence));
      ASSERT_EQ(m.subject, "j." + std::to_string(m.sequence * m.sequence % 7));
    }
    if (GetParam() == bus::storage_class::durable) {
      ASSERT_GT(r.replayed, 0u);
    }
  }
  finish();
}

TEST_P(JoinsLive, FromASequence) {
  std::mt19937_64 random(7);
  for (int i = 0; i < 30; ++i) {
    const std::uint64_t from = i < 5 ? now() - i : 1 + random() % now();
    const reading r = read_to("j.>", bus::start::by_sequence(from), now() + 50);
    ASSERT_EQ(r.flaw, "");
    ASSERT_EQ(r.messages.front().sequence, from);
    ASSERT_EQ(without_gap(r.messages), "");
    ASSERT_TRUE(r.gaps.empty());
  }
  finish();
}

TEST_P(JoinsLive, FromATime) {
  const reading all = read_to("j.>", bus::start::all(), now());
  std::mt19937_64 random(8);
  for (int i = 0; i < 30; ++i) {
    const std::size_t at = random() % all.messages.size();
    const reading r = read_to("j.>", bus::start::by_time(all.messages[at].time), now() + 50);
    ASSERT_EQ(r.flaw, "");
    ASSERT_EQ(without_gap(r.messages), "");
    ASSERT_TRUE(r.gaps.empty());
    // A publisher stamps its messages; the time is computed back from a cycle counter, and may
    // differ by microseconds between readings. The start must be that close and miss nothing.
    ASSERT_LE(r.messages.front().sequence, all.messages[at].sequence + 1);
    ASSERT_GE(r.messages.front().time, all.messages[at].time - 10ms);
    ASSERT_GE(r.messages.front().sequence + 50, all.messages[at].sequence);
  }
  // A future time: only messages that are new then.
  const reading r = read_count("j.>", bus::start::by_time(wall::now() + 100ms), 20);
  ASSERT_EQ(r.flaw, "");
  ASSERT_EQ(without_gap(r.messages), "");
  finish();
}

TEST_P(JoinsLive, FromTheLast) {
  for (int i = 0; i < 20; ++i) {
    const std::uint64_t before = now();
    const reading r = read_count("j.>", bus::start::last(), 100);
    ASSERT_EQ(r.flaw, "");
    ASSERT_GE(r.messages.front().sequence, before);
    ASSERT_EQ(without_gap(r.messages), "");
    ASSERT_TRUE(r.gaps.empty());
  }
  finish();
}

TEST_P(JoinsLive, FromTheLastOfEachSubject) {
  for (int i = 0; i < 20; ++i) {
    const std::uint64_t before = now();
    const reading r = read_to("j.>", bus::start::last_per_subject(), before + 400);
    ASSERT_EQ(r.flaw, "");
    std::map<std::string, std::uint64_t> last;
    for (const came& m : r.messages) {
      std::uint64_t& seen = last[m.subject];
      const std::uint64_t number = m.sequence;
      ASSERT_EQ(m.text, std::to_string(number));
      // Between two messages of a subject, no message of that subject is missing.
      for (std::uint64_t n = seen + 1; seen != 0 && n < number; ++n)
        ASSERT_NE("j." + std::to_string(n * n % 7), m.subject) << n << " is missing";
      ASSERT_GT(number, seen);
      // The first message of each subject is the last one at the time, or newer.
      for (std::uint64_t n = number + 1; seen == 0 && n <= before; ++n)
        ASSERT_NE("j." + std::to_string(n * n % 7), m.subject) << number << " is not the last";
      seen = number;
    }
    ASSERT_EQ(last.size(), 4u);  // the squares modulo 7: 0, 1, 2, 4
  }
  finish();
}

INSTANTIATE_TEST_SUITE_P(Storage, JoinsLive,
                         ::testing::Values(bus::storage_class::durable, bus::storage_class::memory),
                         [](const auto& p) { return bus::storage_name(p.param); });

// ---- what a replayed message carries

using Replay = WithBusd;

TEST_F(Replay, LastOfEachSubjectIsExact) {
  add(logged_stream("r", bus::storage_class::durable, 64 * 1024));
  auto out = publisher("r.x");
  std::mt19937_64 random(9);
  std::map<std::string, std::uint64_t> last;
  for (int i = 0; i < 3000; ++i) {
    const std::string subject =
        (i < 3 ? "r.old." : "r.s.") + std::to_string(i < 3 ? i : random() % 40);
    const auto done = out.publish_to(subject, subject);
    ASSERT_TRUE(done) << out.last_error().message();
    last[subject] = done.sequence;
  }
  for (const std::string pattern : {"r.>", "r.s.*", "r.old.1", "r.none"}) {
    std::vector<std::uint64_t> expected;
    for (const auto& [subject, sequence] : last)
      if (pattern == "r.>" || subject == pattern ||
          (pattern == "r.s.*" && subject.starts_with("r.s.")))
        expected.push_back(sequence);
    std::sort(expected.begin(), expected.end());
    const auto check = out.publish_to(pattern == "r.none" ? "r.none" : "r.old.1", "new");
    ASSERT_TRUE(check);
    last[pattern == "r.none" ? "r.none" : "r.old.1"] = check.sequence;
    if (pattern == "r.none" || pattern == "r.old.1") expected = {check.sequence};
    if (pattern == "r.>") {
      expected.clear();
      for (const auto& [subject, sequence] : last) expected.push_back(sequence);
      std::sort(expected.begin(), expected.end());
    }
    const reading r = read_count(pattern, bus::start::last_per_subject(), expected.size());
    ASSERT_EQ(r.flaw, "") << pattern;
    std::vector<std::uint64_t> got;
    for (const came& m : r.messages) got.push_back(m.sequence);
    EXPECT_EQ(got, expected) << pattern;
  }
}

TEST_F(Replay, HeadersAndSubjectsThatTheTableHasNoRoomFor) {
  auto config = logged_stream("h", bus::storage_class::durable, 64 * 1024);
  config.max_subjects = 8;
  add(config);
  auto out = publisher("h.0");
  constexpr std::uint64_t count = 600;
  for (std::uint64_t n = 1; n <= count; ++n) {
    const std::string value = "v" + std::to_string(n), large(n % 900, 'x');
    const std::array<bus::header, 2> headers = {{{"n", value}, {"large", large}}};
    const std::string subject = "h." + std::to_string(n % 50) + ".some.longer.name";
    const std::string text = std::to_string(n);
    ASSERT_TRUE(out.publish_to(subject, std::as_bytes(std::span(text.data(), text.size())),
                               n % 3 == 0 ? std::span<const bus::header>() : headers))
        << out.last_error().message();
  }
  wait_logged("h");
  for (int pass = 0; pass < 2; ++pass) {
    bus::subscriber_options options;
    options.start = bus::start::all();
    auto subscriber = session().subscribe("h.>", options);
    ASSERT_TRUE(subscriber) << subscriber.error().message();
    for (std::uint64_t n = 1; n <= count; ++n) {
      const auto m = subscriber->next(10s);
      ASSERT_TRUE(m) << n << (subscriber->failure() ? subscriber->failure()->message() : "");
      ASSERT_EQ(m->sequence(), n);
      ASSERT_EQ(m->text(), std::to_string(n));
      ASSERT_EQ(m->subject(), "h." + std::to_string(n % 50) + ".some.longer.name");
      ASSERT_EQ(m->stream(), "h");
      if (n % 3 == 0) {
        ASSERT_FALSE(m->header("n"));
      } else {
        ASSERT_EQ(m->header("n").value_or("none"), "v" + std::to_string(n));
        ASSERT_EQ(m->header("large").value_or("none").size(), n % 900);
      }
    }
    ASSERT_GT(subscriber->stats().replayed, count / 2);
    // In the second pass with another busd, and a pattern of inline subjects only.
    const reading r = read_count("h.49.>", bus::start::all(), count / 50);
    ASSERT_EQ(r.flaw, "");
    for (const came& m : r.messages) ASSERT_EQ(m.sequence % 50, 49u);
    ASSERT_TRUE(busd_.kill());
    ASSERT_TRUE(busd_.start_and_wait()) << busd_.log_tail();
  }
}

TEST_F(Replay, KeysStayInTheirLanes) {
  auto config = logged_stream("k", bus::storage_class::durable, 64 * 1024);
  config.lanes = 4;
  add(config);
  auto out = publisher("k.a");
  constexpr std::uint64_t count = 4000;
  for (std::uint64_t n = 1; n <= count; ++n) {
    const std::string key = "key" + std::to_string(n % 17), text = std::to_string(n);
    const bus::header header{"key", key};
    ASSERT_TRUE(out.publish_to("k." + key, std::as_bytes(std::span(text.data(), text.size())),
                               {&header, 1}));
  }
  wait_logged("k");
  for (int pass = 0; pass < 2; ++pass) {
    const reading r = read_count("k.>", bus::start::all(), count);
    ASSERT_EQ(r.flaw, "");
    // Losing shared memory loses what is not on disk: here nothing, but no reader can know that.
    for (const auto& gap : r.gaps)
      ASSERT_TRUE(pass == 1 && gap.reason == bus::gap_reason::unsynced);
    std::map<std::uint32_t, std::uint64_t> next;
    std::map<std::string, std::pair<std::uint32_t, std::uint64_t>> keys;
    for (const came& m : r.messages) {
      ASSERT_EQ(m.sequence, ++next[m.lane]);
      auto& [lane, number] = keys.try_emplace(m.subject, m.lane, 0).first->second;
      ASSERT_EQ(lane, m.lane);
      ASSERT_GT(std::stoull(m.text), number);
      number = std::stoull(m.text);
    }
    ASSERT_EQ(keys.size(), 17u);
    ASSERT_GT(next.size(), 1u);
    session_.reset();
    ASSERT_TRUE(busd_.kill());
    std::filesystem::remove_all(place_.directory());
    ASSERT_TRUE(busd_.start_and_wait()) << busd_.log_tail();
    open();
  }
}

TEST_F(Replay, ALanePerPublisherHasALogOfItsOwn) {
  auto config = logged_stream("p", bus::storage_class::durable, 64 * 1024);
  config.mode = bus::lane_mode::per_publisher;
  config.lanes = 4;
  add(config);
  constexpr std::uint64_t count = 1000;
  {
    std::vector<bus::publisher> all;
    for (int i = 0; i < 3; ++i) all.push_back(publisher("p." + std::to_string(i)));
    for (std::uint64_t n = 1; n <= count; ++n)
      for (auto& out : all)
        ASSERT_TRUE(out.publish(std::to_string(n))) << out.last_error().message();
    for (auto& out : all)
      ASSERT_TRUE(out.wait_confirmed(out.last_receipt(), 20s)) << out.last_error().message();
  }
  for (int pass = 0; pass < 3; ++pass) {
    const reading r = read_count("p.>", bus::start::all(), 3 * count);
    ASSERT_EQ(r.flaw, "") << pass;
    std::map<std::uint32_t, std::uint64_t> next;
    for (const came& m : r.messages) ASSERT_EQ(m.sequence, ++next[m.lane]);
    ASSERT_EQ(next.size(), 3u);
    ASSERT_TRUE(busd_.kill());
    if (pass == 1) {
      session_.reset();
      std::filesystem::remove_all(place_.directory());
    }
    ASSERT_TRUE(busd_.start_and_wait()) << busd_.log_tail();
    if (pass == 1) open();
  }
  auto again = publisher("p.x");
  const auto done = again.publish("after");
  ASSERT_TRUE(done) << again.last_error().message();
  EXPECT_GT(done.sequence, count);
}

// busd was killed after it made a new lane's log, but not yet its ring or the count of lanes.
TEST_F(Replay, ALaneWhoseRingWasNeverMadeIsMadeAtTheStart) {
  auto config = logged_stream("k", bus::storage_class::durable);
  config.mode = bus::lane_mode::per_publisher;
  config.lanes = 3;
  add(config);
  session_.reset();
  ASSERT_TRUE(busd_.kill());
  const std::string path = disk_.root() + "/t/streams/k";
  std::filesystem::create_directory(path + "/lane-1");
  std::filesystem::copy_file(path + "/lane-0/state", path + "/lane-1/state");
  ASSERT_TRUE(busd_.start_and_wait()) << busd_.log_tail();
  open();
  bus::publisher_options alone;
  alone.mode = bus::publish_mode::exclusive;
  std::vector<bus::publisher> publishers;
  for (int i = 0; i < 3; ++i) publishers.push_back(publisher("k.a", alone));
  for (bus::publisher& out : publishers) {
    ASSERT_TRUE(out.publish("x")) << out.last_error().message();
    const auto confirmed = out.wait_confirmed(out.last_receipt(), 20s);
    EXPECT_TRUE(confirmed) << confirmed.error().message();
  }
  EXPECT_EQ(last_of("k", 2), 1u);
}

TEST_F(Replay, ANewEpochGoesOnAboveEverything) {
  add(logged_stream("e", bus::storage_class::durable));
  std::uint64_t last = 0;
  for (std::uint64_t epoch = 1; epoch <= 4; ++epoch) {
    auto out = publisher("e.a");
    const auto first = out.publish("first");
    ASSERT_TRUE(first);
    EXPECT_GT(first.sequence, last);
    for (int i = 0; i < 99; ++i) ASSERT_TRUE(out.publish("more"));
    ASSERT_TRUE(out.wait_confirmed(out.last_receipt(), 20s));
    last = out.last_receipt().sequence;
    const reading r = read_to("e.>", bus::start::all(), last);
    ASSERT_EQ(r.flaw, "");
    EXPECT_EQ(r.messages.size(), epoch * 100);
    ASSERT_EQ(r.gaps.size(), epoch - 1);
    for (const auto& gap : r.gaps) EXPECT_EQ(gap.reason, bus::gap_reason::unsynced);
    const reading from_saved = read_to("e.>", bus::start::by_sequence(first.sequence), last);
    EXPECT_EQ(from_saved.messages.size(), 100u);
    EXPECT_TRUE(from_saved.gaps.empty());
    const auto info = session().stream("e");
    ASSERT_TRUE(info);
    EXPECT_EQ(info->epoch, epoch);
    session_.reset();
    ASSERT_TRUE(busd_.kill());
    std::filesystem::remove_all(place_.directory());
    ASSERT_TRUE(busd_.start_and_wait()) << busd_.log_tail();
    open();
  }
}

TEST_F(Replay, APurgeIsAGapThatSaysSo) {
  add(logged_stream("g", bus::storage_class::durable, 64 * 1024));
  auto out = publisher("g.a");
  for (int i = 0; i < 2000; ++i) ASSERT_TRUE(out.publish(std::string(200, 'x')));
  ASSERT_TRUE(out.wait_confirmed(out.last_receipt(), 20s));
  const auto purged = session().purge_stream("g", 1000);
  ASSERT_TRUE(purged) << purged.error().message();
  const reading all = read_to("g.>", bus::start::all(), 2000);
  ASSERT_EQ(all.flaw, "");
  EXPECT_EQ(all.messages.front().sequence, 1000u);
  EXPECT_EQ(without_gap(all.messages), "");
  const reading r = read_to("g.>", bus::start::by_sequence(500), 2000);
  ASSERT_EQ(r.flaw, "");
  EXPECT_EQ(r.messages.front().sequence, 1000u);
  ASSERT_EQ(r.gaps.size(), 1u);
  EXPECT_EQ(r.gaps[0].first, 500u);
  EXPECT_EQ(r.gaps[0].count, 500u);
  EXPECT_EQ(r.gaps[0].reason, bus::gap_reason::removed);
}

TEST_F(Replay, ASealedStreamTakesNothingUntilItIsUnsealed) {
  add(logged_stream("q", bus::storage_class::durable));
  auto out = publisher("q.a");
  ASSERT_TRUE(out.publish("before"));
  auto sealed = session().seal_stream("q");
  ASSERT_TRUE(sealed) << sealed.error().message();
  EXPECT_FALSE(out.publish("refused"));
  EXPECT_NE(out.last_error().message(), "");
  EXPECT_TRUE(session().stream("q")->sealed);
  EXPECT_FALSE(session().publisher("q.b"));
  const reading r = read_count("q.>", bus::start::all(), 1);  // readers are unaffected
  EXPECT_EQ(r.flaw, "");
  session_.reset();
  ASSERT_TRUE(busd_.kill());
  std::filesystem::remove_all(place_.directory());
  ASSERT_TRUE(busd_.start_and_wait()) << busd_.log_tail();
  open();
  EXPECT_TRUE(session().stream("q")->sealed);
  EXPECT_FALSE(session().publisher("q.b"));
  ASSERT_TRUE(session().seal_stream("q", false));
  auto again = publisher("q.a");
  EXPECT_TRUE(again.publish("after")) << again.last_error().message();
}

// busd was killed after it stored its own definition of the stream, not yet the one in memory.
TEST_F(Replay, AHalfMadeChangeIsMadeGoodAtTheStart) {
  auto config = logged_stream("h", bus::storage_class::durable);
  add(config);
  const std::string path = disk_.root() + "/t/streams/h/stream.json";
  config.max_messages = 77;
  ASSERT_TRUE(session().edit_stream(config) && session().seal_stream("h"));
  std::filesystem::copy_file(path, path + ".kept");
  config.max_messages = 0;
  ASSERT_TRUE(session().edit_stream(config) && session().seal_stream("h", false));
  auto out = publisher("h.a");
  ASSERT_TRUE(out.publish("before"));
  ASSERT_TRUE(busd_.kill());
  std::filesystem::rename(path + ".kept", path);
  ASSERT_TRUE(busd_.start_and_wait()) << busd_.log_tail();
  EXPECT_FALSE(out.publish("refused"));
  const auto now = session().stream("h");
  EXPECT_TRUE(now->sealed);
  EXPECT_EQ(now->config.max_messages, 77u);
  ASSERT_TRUE(session().seal_stream("h", false));
  auto again = publisher("h.a");
  EXPECT_TRUE(again.publish("after")) << again.last_error().message();
}

// ---- confirms

using Confirm = WithBusd;

TEST_F(Confirm, IsToldWhenItIsTrueAndInOrder) {
  add(logged_stream("c", bus::storage_class::durable));
  auto out = publisher("c.a");
  busd_.signal(SIGSTOP);
  std::vector<std::uint64_t> told, published;
  for (int i = 0; i < 50; ++i) {
    const auto done = out.publish("x");
    ASSERT_TRUE(done);
    published.push_back(done.sequence);
    out.when_confirmed(out.last_receipt(),
                       [&](const bus::receipt& of) { told.push_back(of.sequence); });
  }
  const bus::receipt last = out.last_receipt();
  EXPECT_EQ(out.poll_confirms(), 0u);
  EXPECT_FALSE(out.is_confirmed(last));
  EXPECT_TRUE(out.is_confirmed(last, bus::confirm::memory));
  const auto waited = out.wait_confirmed(last, 50ms);
  ASSERT_FALSE(waited);
  EXPECT_EQ(waited.error().code, bus::errc::timed_out);
  EXPECT_NE(waited.error().why.find("busd"), std::string::npos) << waited.error().message();
  busd_.signal(SIGCONT);
  const auto done = out.wait_confirmed(last, 20s);
  ASSERT_TRUE(done) << done.error().message();
  EXPECT_TRUE(out.is_confirmed(last));
  EXPECT_EQ(out.poll_confirms(), 50u);
  EXPECT_EQ(told, published);
  // A callback for an old receipt, which then registers another one.
  int calls = 0;
  out.when_confirmed(last, [&](const bus::receipt& of) {
    ++calls;
    out.when_confirmed(of, [&](const bus::receipt&) { ++calls; });
  });
  EXPECT_TRUE(eventually([&] {
    (void)out.poll_confirms();
    return calls == 2;
  }));
}

TEST_F(Confirm, DiskIsAnOptionOfThePublisher) {
  add(logged_stream("c", bus::storage_class::durable));
  bus::publisher_options options;
  options.confirm = bus::confirm::disk;
  options.send_timeout = 300ms;
  for (const bus::publish_mode mode : {bus::publish_mode::shared, bus::publish_mode::exclusive}) {
    options.mode = mode;
    auto out = publisher("c.a", options);
    bus::published done;
    ASSERT_TRUE(eventually([&] { return bool(done = out.publish("on disk")); }))
        << out.last_error().message();
    EXPECT_TRUE(out.is_confirmed({0, done.sequence}));
    busd_.signal(SIGSTOP);
    const auto late = out.publish("not yet");
    EXPECT_EQ(late.status, bus::publish_status::unconfirmed);
    EXPECT_EQ(late.sequence, done.sequence + 1);
    EXPECT_FALSE(out.is_confirmed(out.last_receipt()));
    busd_.signal(SIGCONT);
    EXPECT_TRUE(out.wait_confirmed(out.last_receipt(), 20s));
    ASSERT_TRUE(busd_.kill());
    const auto without = out.publish("without busd");
    EXPECT_EQ(without.status, bus::publish_status::unconfirmed);
    EXPECT_NE(out.last_error().fix.find("busd --bus t"), std::string::npos)
        << out.last_error().message();
    ASSERT_TRUE(busd_.start_and_wait());
    EXPECT_TRUE(out.wait_confirmed(out.last_receipt(), 20s));
    const reading r = read_to("c.>", bus::start::by_sequence(done.sequence), without.sequence);
    EXPECT_EQ(r.messages.size(), 3u);
  }
}

TEST_F(Confirm, BatchesAreConfirmedByTheirLast) {
  add(logged_stream("c", bus::storage_class::durable));
  bus::publisher_options options;
  options.confirm = bus::confirm::disk;
  auto out = publisher("c.a", options);
  const std::string text = "some text";
  std::vector<std::span<const std::byte>> batch(100,
                                                std::as_bytes(std::span(text.data(), text.size())));
  for (int i = 0; i < 10; ++i) {
    const auto done = out.publish_batch(batch);
    ASSERT_TRUE(done) << out.last_error().message();
    EXPECT_EQ(out.last_receipt().sequence, done.sequence + 99);
    EXPECT_TRUE(out.is_confirmed(out.last_receipt()));
  }
}

TEST_F(Confirm, AnIntervalConfirmsWhenItSyncs) {
  auto config = logged_stream("i", bus::storage_class::durable);
  config.fsync = bus::fsync_policy::interval;
  config.fsync_interval = 50ms;
  add(config);
  auto out = publisher("i.a");
  for (int i = 0; i < 10; ++i) {
    ASSERT_TRUE(out.publish("x"));
    const auto done = out.wait_confirmed(out.last_receipt(), 20s);
    ASSERT_TRUE(done) << done.error().message();
  }
}

TEST_F(Confirm, IsRefusedWhereNothingIsEverConfirmed) {
  auto never = logged_stream("never", bus::storage_class::durable);
  never.fsync = bus::fsync_policy::never;
  add(never);
  add(logged_stream("spilling", bus::storage_class::spill));
  add(logged_stream("inmemory", bus::storage_class::memory));
  for (const std::string name : {"never", "spilling", "inmemory"}) {
    auto out = publisher(name + ".a");
    ASSERT_TRUE(out.publish("x"));
    const auto waited = out.wait_confirmed(out.last_receipt(), 1s);
    ASSERT_FALSE(waited) << name;
    EXPECT_EQ(waited.error().code, bus::errc::invalid_argument) << waited.error().message();
    EXPECT_NE(waited.error().what.find(name), std::string::npos) << waited.error().message();
    EXPECT_NE(waited.error().fix, "");
    EXPECT_FALSE(out.is_confirmed(out.last_receipt())) << name;
    bus::publisher_options options;
    options.confirm = bus::confirm::disk;
    auto asks = session().publisher(name + ".b", options);
    if (asks) {  // then each call fails with the reason
      EXPECT_FALSE(asks->publish("x"));
      EXPECT_EQ(asks->last_error().code, bus::errc::invalid_argument)
          << asks->last_error().message();
    } else {
      EXPECT_EQ(asks.error().code, bus::errc::invalid_argument) << asks.error().message();
    }
  }
}

}  // namespace
