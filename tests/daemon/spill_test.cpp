// A spilling stream: a reader that stops loses nothing and holds no publisher back; readers that
// keep up cause no disk writes.

#include <gtest/gtest.h>

#include "busd_process.hpp"
#include "traffic.hpp"

namespace {

using namespace test;
using namespace std::chrono_literals;

constexpr std::uint64_t ring_bytes = 1u << 20;

struct spill_words {
  std::atomic<bool> ready{false}, stop{false};
  std::atomic<std::uint64_t> read{0}, target{0}, from_log{0};
  std::array<char, 400> flaw{};

  void say(const std::string& why) { std::strncpy(flaw.data(), why.c_str(), flaw.size() - 1); }
};

// Reads everything from now on up to `target`; checks that each message comes once, in order.
// `slow`: always reads from the log, closely following what is written.
int read_in_order(const std::string& url, const std::string& pattern, spill_words& words,
                  bool slow = false) {
  auto session = bus::open(url);
  if (!session) return words.say(session.error().message()), 1;
  std::string gap_text;
  bus::subscriber_options options;
  options.on_gap = [&](const bus::gap& gap) {
    gap_text = "a gap from " + std::to_string(gap.first) + " of " + std::to_string(gap.count);
  };
  auto subscriber = session->subscribe(pattern, options);
  if (!subscriber) return words.say(subscriber.error().message()), 1;
  words.ready = true;
  std::uint64_t next = 1, wrong = 0;
  for (auto since = std::chrono::steady_clock::now(); words.target == 0 || next <= words.target;) {
    const std::size_t count = subscriber->poll(256, [&](const bus::message& m) {
      stamp s;
      std::memcpy(&s, m.payload().data(), sizeof s);
      if ((m.sequence() != next || s.number != m.sequence() || s.check != check_of(s) ||
           s.bytes != m.size()) &&
          wrong++ == 0)
        words.say("sequence " + std::to_string(m.sequence()) + " with number " +
                  std::to_string(s.number) + " came, " + std::to_string(next) + " was expected");
      next = m.sequence() + 1;
    });
    words.read = next - 1;
    words.from_log = subscriber->stats().replayed;
    if (count != 0) since = std::chrono::steady_clock::now();
    if (!gap_text.empty()) return words.say(gap_text), 2;
    if (subscriber->failure()) return words.say(subscriber->failure()->message()), 2;
    if (wrong != 0) return 2;
    if (slow && words.target == 0) ::usleep(words.read % 7 == 0 ? 20'000 : 500);
    if (count == 0) {
      if (words.target != 0 && std::chrono::steady_clock::now() > since + 60s)
        return words.say("stands at " + std::to_string(next)), 3;
      (void)subscriber->wait(20ms);
    }
  }
  while (!words.stop) {  // stays, with nothing to read
    (void)subscriber->poll(256, [](const bus::message&) {});
    (void)subscriber->wait(20ms);
  }
  return 0;
}

class Spill : public ::testing::Test {
 protected:
  void SetUp() override {
    ::alarm(240);
    ASSERT_TRUE(busd_.start_and_wait()) << busd_.log_tail();
    auto opened = bus::open(place_.url());
    ASSERT_TRUE(opened) << opened.error().message();
    session_.emplace(std::move(*opened));
    auto config = logged_stream("s", bus::storage_class::spill, ring_bytes);
    config.segment_bytes = 1u << 20;
    const auto added = session_->add_stream(config);
    ASSERT_TRUE(added) << added.error().message();
    auto made = session_->publisher("s.a");
    ASSERT_TRUE(made) << made.error().message();
    publisher_.emplace(std::move(*made));
  }
  void TearDown() override {
    if (HasFailure()) std::fprintf(stderr, "busd said:\n%s\n", busd_.log_tail().c_str());
    ::alarm(0);
  }

  bus::publish_status publish(std::size_t bytes = 1000) {
    const auto payload = make_payload(bytes, 0, published_ + 1, "s.a");
    const auto before = std::chrono::steady_clock::now();
    const auto outcome = publisher_->publish(payload);
    longest_ns_ =
        std::max<std::int64_t>(longest_ns_, (std::chrono::steady_clock::now() - before).count());
    if (outcome) published_ = outcome.sequence;
    return outcome.status;
  }
  void publish_bytes(std::uint64_t bytes) {
    const std::uint64_t end = published_ + bytes / 1000;
    while (published_ < end)
      ASSERT_EQ(publish(), bus::publish_status::ok) << publisher_->last_error().message();
  }
  bus::log_info log() {
    const auto info = session_->keeper();
    if (!info) return {};
    for (const auto& one : info->logs)
      if (one.stream == "s" && one.lane == 0) return one;
    return {};
  }
  bus::lane_info lane() {
    const auto info = session_->stream("s");
    return info && !info->lanes.empty() ? info->lanes[0] : bus::lane_info{};
  }
  void report(const char* what) {
    const auto now = lane();
    const auto l = log();
    std::printf(
        "  %s: %llu messages, publishers waited %llu times, the longest publish took %.1f ms; "
        "%llu bytes written, %llu segments\n",
        what, static_cast<unsigned long long>(published_),
        static_cast<unsigned long long>(now.blocked), static_cast<double>(longest_ns_) / 1e6,
        static_cast<unsigned long long>(l.bytes_written),
        static_cast<unsigned long long>(l.segments));
    longest_ns_ = 0;
  }

  scratch place_, disk_{disk_directory()};
  // Small buffers make small segments.
  busd_process busd_{place_.root(), disk_.root(), {"--buffer-bytes", "262144"}};
  std::optional<bus::session> session_;
  std::optional<bus::publisher> publisher_;
  std::uint64_t published_ = 0;
  std::int64_t longest_ns_ = 0;
};

TEST_F(Spill, WritesNothingWhileEverybodyKeepsUp) {
  shared_value<spill_words> words;
  child reader([&] { return read_in_order(place_.url(), "s.>", *words); });
  ASSERT_TRUE(eventually([&] { return words->ready.load(); })) << words->flaw.data();
  for (int rings = 0; rings < 10; ++rings)
    for (int part = 0; part < 8; ++part) {
      publish_bytes(ring_bytes / 8);
      ASSERT_TRUE(eventually([&] { return words->read >= published_ || words->flaw[0] != 0; }));
    }
  words->target = published_;
  words->stop = true;
  EXPECT_TRUE(reader.succeeded()) << words->flaw.data();
  const auto written = log();
  ASSERT_EQ(written.stream, "s");
  EXPECT_EQ(written.bytes_written, 0u);
  report("kept up");
}

TEST_F(Spill, AReaderThatStandsStillLosesNothingAndHoldsNobodyBack) {
  shared_value<spill_words> stopped, quick;
  child standing([&] { return read_in_order(place_.url(), "s.>", *stopped); });
  child going([&] { return read_in_order(place_.url(), "s.>", *quick); });
  ASSERT_TRUE(eventually([&] { return stopped->ready && quick->ready; }));
  publish_bytes(100'000);
  ASSERT_TRUE(eventually([&] { return stopped->read > 0; }));
  standing.signal(SIGSTOP);
  publish_bytes(10 * ring_bytes);
  report("ten rings beside a reader that stands");
  ASSERT_TRUE(eventually([&] { return quick->read >= published_; })) << quick->flaw.data();
  EXPECT_LT(stopped->read.load(), published_);
  const auto spilled = log();
  EXPECT_GT(spilled.bytes_written, 8 * ring_bytes);
  // Segments that no reader needs are removed about every second: these are needed.
  EXPECT_GT(spilled.segments, 2u);
  std::this_thread::sleep_for(1500ms);
  const std::uint64_t segments_then = spilled.segments;
  standing.signal(SIGCONT);
  ASSERT_TRUE(eventually([&] { return stopped->read >= published_ || stopped->flaw[0] != 0; }, 60s))
      << stopped->read;
  EXPECT_GT(stopped->from_log.load(), 0u);
  // All readers have it: the segments are removed, even with nothing new to read.
  EXPECT_TRUE(
      eventually([&] { return log().segments < segments_then && log().segments <= 1; }, 30s))
      << log().segments << " of " << segments_then << " segments are still there";
  std::printf("  %llu spilled segments, %llu when everybody had read on\n",
              static_cast<unsigned long long>(segments_then),
              static_cast<unsigned long long>(log().segments));
  // It is as before: readers that keep up cause no writes.
  const std::uint64_t before = log().bytes_written;
  for (int part = 0; part < 16; ++part) {
    publish_bytes(ring_bytes / 8);
    ASSERT_TRUE(eventually([&] {
      return quick->read >= published_ && stopped->read >= published_;
    })) << quick->flaw.data()
        << stopped->flaw.data();
  }
  EXPECT_EQ(log().bytes_written, before);
  for (auto* words : {&*stopped, &*quick}) words->target = published_, words->stop = true;
  EXPECT_TRUE(standing.succeeded()) << stopped->flaw.data();
  EXPECT_TRUE(going.succeeded()) << quick->flaw.data();
}

TEST_F(Spill, ReadersOfTheLogFollowItIntoEachNewSegment) {
  std::array<shared_value<spill_words>, 3> words;
  std::vector<child> readers;
  for (auto& one : words)
    readers.emplace_back([&] { return read_in_order(place_.url(), "s.>", *one, true); });
  for (auto& one : words) ASSERT_TRUE(eventually([&] { return one->ready.load(); }));
  for (int rings = 0; rings < 40; ++rings) {
    publish_bytes(ring_bytes);
    ::usleep(10'000);
  }
  report("slow readers");
  for (auto& one : words) one->target = published_, one->stop = true;
  for (std::size_t i = 0; i < readers.size(); ++i) {
    EXPECT_TRUE(readers[i].succeeded()) << words[i]->flaw.data();
    EXPECT_GT(words[i]->from_log.load(), 0u);
  }
}

TEST_F(Spill, SeveralThatStandAtDifferentPlacesLoseNothing) {
  shared_value<spill_words> first, second;
  child one([&] { return read_in_order(place_.url(), "s.>", *first); });
  child two([&] { return read_in_order(place_.url(), "s.>", *second); });
  ASSERT_TRUE(eventually([&] { return first->ready && second->ready; }));
  one.signal(SIGSTOP);
  publish_bytes(4 * ring_bytes);
  two.signal(SIGSTOP);
  publish_bytes(4 * ring_bytes);
  one.signal(SIGCONT);
  publish_bytes(2 * ring_bytes);
  two.signal(SIGCONT);
  publish_bytes(2 * ring_bytes);
  for (auto* words : {&*first, &*second}) words->target = published_, words->stop = true;
  EXPECT_TRUE(one.succeeded()) << first->flaw.data();
  EXPECT_TRUE(two.succeeded()) << second->flaw.data();
  report("two that stood");
}

TEST_F(Spill, BusdKilledInTheMiddleDelaysPublishersAndLosesNothing) {
  shared_value<spill_words> stopped;
  child standing([&] { return read_in_order(place_.url(), "s.>", *stopped); });
  ASSERT_TRUE(eventually([&] { return stopped->ready.load(); }));
  publish_bytes(50'000);
  ASSERT_TRUE(eventually([&] { return stopped->read > 0; }));
  standing.signal(SIGSTOP);
  publish_bytes(3 * ring_bytes);
  for (int round = 0; round < 6; ++round) {
    ASSERT_TRUE(busd_.kill());
    // Publishing waits when the ring is full, and resumes. (The main thread starts busd, because
    // busd is killed when the thread that started it ends.)
    std::thread goes_on([&] { publish_bytes(2 * ring_bytes); });
    std::this_thread::sleep_for(std::chrono::milliseconds(50 * round));
    busd_.start();
    goes_on.join();
    ASSERT_TRUE(busd_.wait_ready()) << busd_.log_tail();
    if (round == 3) {  // it reads some of the log in between
      standing.signal(SIGCONT);
      const std::uint64_t had = stopped->read;
      EXPECT_TRUE(eventually([&] { return stopped->read > had + 100 || stopped->flaw[0] != 0; }));
      standing.signal(SIGSTOP);
    }
  }
  report("busd killed six times");
  standing.signal(SIGCONT);
  stopped->target = published_;
  stopped->stop = true;
  EXPECT_TRUE(standing.succeeded()) << stopped->flaw.data() << " at " << stopped->read;
  EXPECT_GT(stopped->from_log.load(), 0u);
}

TEST_F(Spill, AReaderThatDiesLetsItsSegmentsGo) {
  shared_value<spill_words> stopped;
  child standing([&] { return read_in_order(place_.url(), "s.>", *stopped); });
  ASSERT_TRUE(eventually([&] { return stopped->ready.load(); }));
  standing.signal(SIGSTOP);
  publish_bytes(12 * ring_bytes);
  EXPECT_GT(log().segments, 1u);
  standing.kill();
  (void)standing.wait();
  EXPECT_TRUE(eventually([&] { return log().segments <= 1; }, 30s)) << log().segments;
  publish_bytes(2 * ring_bytes);
}

}  // namespace
