/// damage: files of a log are changed while busd keeps it and programs read it: a subscriber that
/// takes batches, a recorder, a replay, and a subscriber that is in the middle of it. A model
/// knows what was published. (tests/storage/damage_test.cpp covers all kinds of files and damage,
/// without a bus.)
///
/// What must hold for every damage
///   SERVING-1  No reader gets anything that was not published under that sequence and subject,
///              nothing twice, nothing out of order.
///   SERVING-2  A reader that misses a message is notified: by a gap, or by a failure.
///   SERVING-6  No reader hangs.
///
///   BUS_DAMAGE_CASES=N   number of cases; each is one damage, read in every way
///   BUS_TEST_SEED=N      the seed of the first case, and so of all

#include <bus/recording.hpp>
#include <bus/replay.hpp>

#include <array>
#include <filesystem>
#include <map>
#include <random>
#include <set>

#include "one_busd.hpp"

namespace {

using namespace test;
using namespace std::chrono_literals;

constexpr std::uint32_t lanes = 2, subjects_each = 7;
constexpr std::uint64_t messages = 4000;  // of a lane: three segments
constexpr std::size_t chunk_bytes = 4096;

std::uint64_t number_from(const char* variable, std::uint64_t otherwise) {
  const char* given = std::getenv(variable);
  return given != nullptr ? std::strtoull(given, nullptr, 10) : otherwise;
}

std::string subject_of(const std::string& stream, std::uint64_t seq) {
  return stream + ".s" + std::to_string(seq % subjects_each);
}

/// Begins every payload, because a recording holds neither lane nor sequence.
struct name_of_message {
  std::uint64_t salt, seq;
};
std::string contents_of(std::uint64_t salt, std::uint64_t seq) {
  std::uint64_t state = (seq * 1'000'003 + salt) * 0x9e3779b97f4a7c15u | 1;
  const auto next = [&state] {
    return state ^= state << 13, state ^= state >> 7, state ^= state << 17;
  };
  std::string made(sizeof(name_of_message) + 40 + next() % 125 * 8, '\0');
  for (std::size_t at = 0; at < made.size(); at += 8) {
    const std::uint64_t word = next();
    std::memcpy(made.data() + at, &word, 8);
  }
  const name_of_message name{salt, seq};
  std::memcpy(made.data(), &name, sizeof name);
  return made;
}

/// What one reader received, and which losses were reported to it.
class account {
 public:
  explicit account(std::string stream) : stream_(std::move(stream)) {}

  void got(std::uint64_t salt, std::uint64_t seq, std::string_view subject, std::string_view text) {
    if (!wrong.empty()) return;
    const std::string what = "lane " + std::to_string(salt) + " #" + std::to_string(seq);
    if (salt >= lanes || seq == 0 || seq > messages)
      wrong = what + " was never published (SERVING-1)";
    else if (text != contents_of(salt, seq) || subject != subject_of(stream_, seq))
      wrong = what + " came with what another one held (SERVING-1)";
    else if (seq <= last_[salt])
      wrong = what + " came after " + std::to_string(last_[salt]) + " (SERVING-1)";
    if (!wrong.empty()) return;
    last_[salt] = seq;
    missing_[salt].erase(seq);
  }
  void told(std::uint32_t lane, std::uint64_t first, std::uint64_t count) {
    is_told = true;
    if (lane >= lanes) return;
    auto& all = missing_[lane];
    all.erase(all.lower_bound(first), all.lower_bound(first + count));
    last_[lane] = std::max(last_[lane], first + count - 1);  // none of it comes afterwards
  }
  bool is_complete() const { return missing_[0].empty() && missing_[1].empty(); }
  std::string first_missing() const {
    for (std::uint32_t lane = 0; lane < lanes; ++lane)
      if (!missing_[lane].empty())
        return "lane " + std::to_string(lane) + " #" + std::to_string(*missing_[lane].begin());
    return {};
  }

  std::string wrong;
  bool is_told = false;

 private:
  static std::set<std::uint64_t> all_of_a_lane() {
    std::set<std::uint64_t> all;
    for (std::uint64_t seq = 1; seq <= messages; ++seq) all.insert(all.end(), seq);
    return all;
  }
  std::string stream_;
  std::array<std::uint64_t, lanes> last_{};
  std::array<std::set<std::uint64_t>, lanes> missing_{all_of_a_lane(), all_of_a_lane()};
};

/// An error of the check itself, to prove that the test notices it.
enum class mistake : std::uint8_t { none, forgets_gaps, takes_another };

class LiveDamage : public one_busd {
 protected:
  void SetUp() override {
    one_busd::SetUp();
    ::alarm(280);
    for (const char* name : {"a", "b"}) publish_all(name);
    for (const auto& entry :
         std::filesystem::recursive_directory_iterator(disk_.root() + "/t/streams/a"))
      if (entry.is_regular_file() && entry.path().filename() != "writing")
        files_.push_back(entry.path().string());
    std::sort(files_.begin(), files_.end());
    std::size_t segments = 0;
    for (const std::string& file : files_) segments += file.ends_with(".log");
    ASSERT_GE(segments, 2 * 3u);
  }

  void publish_all(const std::string& name) {
    bus::stream_config config;
    config.name = name;
    config.subjects = {name + ".>"};
    config.storage = bus::storage_class::durable;
    config.lanes = lanes;
    config.ring_bytes = 64 << 10;
    config.max_message_bytes = 4096;
    config.segment_bytes = 1 << 20;
    ASSERT_TRUE(session_->add_stream(config));
    for (std::uint32_t lane = 0; lane < lanes; ++lane) {
      bus::publisher_options options;
      options.mode = bus::publish_mode::exclusive;
      options.lane = lane;
      auto out = session_->publisher(subject_of(name, 0), options);
      ASSERT_TRUE(out) << out.error().message();
      for (std::uint64_t seq = 1; seq <= messages; ++seq) {
        const auto done = out->publish_to(subject_of(name, seq), contents_of(lane, seq));
        ASSERT_TRUE(done && done.sequence == seq) << out->last_error().message();
      }
    }
    ASSERT_TRUE(eventually([&] {
      const auto info = session_->stream(name);
      return info && std::all_of(info->lanes.begin(), info->lanes.end(), [](const auto& lane) {
               return lane.durable_sequence >= messages;
             });
    }));
  }

  bus::result<bus::subscriber> subscribe(account& to) {
    bus::subscriber_options options;
    options.start = bus::start::all();
    options.on_gap = [this, &to](const bus::gap& gap) {
      if (forgets_ != mistake::forgets_gaps) to.told(gap.lane, gap.first, gap.count);
    };
    return session_->subscribe("a.>", options);
  }

  // Reads until every message was received or reported lost. Returns what is wrong.
  std::string read_batches(bus::subscriber& in, account& to) {
    const auto end = std::chrono::steady_clock::now() + 20s;
    while (to.wrong.empty() && !to.is_complete() && !in.failure()) {
      const std::size_t count = in.poll(200, [&](const bus::message& m) {
        const std::uint64_t seq =
            m.sequence() + (forgets_ == mistake::takes_another && m.sequence() == 77 ? 1 : 0);
        to.got(m.lane(), seq, m.subject(), m.text());
      });
      if (count == 0 && !in.failure()) (void)in.wait(1ms);
      if (std::chrono::steady_clock::now() > end)
        return to.first_missing() + " is missing, and nobody is told (SERVING-2, SERVING-6)";
    }
    return to.wrong;
  }

  std::string by_a_subscriber() {
    account to("a");
    auto in = subscribe(to);
    return in ? read_batches(*in, to) : std::string();  // a failure to subscribe is a report
  }

  // Like `bus record`: message by message into a file, which is then read.
  std::string by_a_recorder() {
    const std::string path = place_.root() + "/recording";
    std::filesystem::remove(path);
    account seen("a");
    std::uint64_t count = 0;
    {
      auto writer = bus::recording_writer::create(path);
      if (!writer) return writer.error().message();
      auto in = subscribe(seen);
      if (!in) return {};  // a report
      const auto end = std::chrono::steady_clock::now() + 20s;
      while (!seen.is_complete() && !in->failure()) {
        const auto m = in->next(5ms);
        if (m) {
          seen.got(m->lane(), m->sequence(), m->subject(), m->text());
          if (!writer->add(*m)) return "a message cannot be recorded";
          ++count;
        }
        if (std::chrono::steady_clock::now() > end)
          return seen.first_missing() +
                 " is missing, and the recorder is not told (SERVING-2, SERVING-6)";
      }
      if (!writer->close()) return "the recording cannot be ended";
    }
    auto reader = bus::recording_reader::open(path);
    if (!reader) return reader.error().message();
    account read("a");
    std::uint64_t again = 0;
    while (const auto one = reader->next()) {
      name_of_message name{};
      if (one->payload.size() >= sizeof name) std::memcpy(&name, one->payload.data(), sizeof name);
      read.got(name.salt, name.seq, one->subject, one->text());
      ++again;
    }
    if (reader->failure()) return reader->failure()->message();
    if (again != count) return "the recording has not what was recorded";
    return seen.wrong.empty() ? read.wrong : seen.wrong;
  }

  std::string by_a_replay() {
    bus::replay_options options;
    options.streams = {"a"};
    auto replay = bus::replay::open(*session_, options);
    if (!replay) return {};  // a report
    account to("a");
    std::uint64_t count = 0;
    while (const auto m = replay->next()) {
      to.got(m->lane(), m->sequence(), m->subject(), m->text());
      ++count;
    }
    const std::uint64_t lost = forgets_ == mistake::forgets_gaps ? 0 : replay->lost();
    if (to.wrong.empty() && !replay->failure() && count + lost < lanes * messages)
      return to.first_missing() + " is missing, and " + std::to_string(lost) + " are told, of " +
             std::to_string(lanes * messages - count) + " (SERVING-2)";
    return to.wrong;
  }

  static std::string read_file(const std::string& path) {
    std::ifstream in(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
  }
  // In place, because busd has the file open.
  static void put_back(const std::string& path, const std::string& what) {
    const int file = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    ASSERT_GE(file, 0);
    ASSERT_EQ(::pwrite(file, what.data(), what.size(), 0), static_cast<ssize_t>(what.size()));
    ASSERT_EQ(::ftruncate(file, static_cast<off_t>(what.size())), 0);
    ::close(file);
  }
  static std::string kind_of(const std::string& path) {
    const std::filesystem::path name(path);
    return name.has_extension() ? name.extension().string() : name.filename().string();
  }

  // Changes one file; `before` gets its contents. Empty: nothing was changed.
  std::string damage(std::mt19937_64& random, std::string& path, std::string& before) {
    path = files_[random() % files_.size()];
    // Most files are small and read before a reader runs; what a reader reads is segments.
    if (!path.ends_with(".log") && random() % 3 != 0) path = files_[random() % files_.size()];
    before = read_file(path);
    std::string after = before;
    const auto chunk = [&](const std::string& from) {
      return from.empty()
                 ? 0
                 : random() % ((from.size() + chunk_bytes - 1) / chunk_bytes) * chunk_bytes;
    };
    std::string other;  // of the same kind
    for (int tries = 0; tries < 8 && other.empty(); ++tries) {
      const std::string& one = files_[random() % files_.size()];
      if (one != path && kind_of(one) == kind_of(path)) other = read_file(one);
    }
    if (random() % 4 == 0) {
      std::string theirs = path;
      theirs.replace(theirs.find("/streams/a/"), 11, "/streams/b/");
      if (std::filesystem::exists(theirs)) other = read_file(theirs);
    }
    const char* what = "";
    switch (random() % 8) {
      case 0:
      case 1:
        what = "flip";
        if (!after.empty()) after[random() % after.size()] ^= static_cast<char>(1u << random() % 8);
        break;
      case 2: {
        what = "some flips";
        for (int i = 0; i < 20 && !after.empty(); ++i)
          after[random() % after.size()] ^= static_cast<char>(1u << random() % 8);
        break;
      }
      case 3: {
        what = "zero chunk";
        const std::size_t at = chunk(after);
        std::fill_n(after.begin() + static_cast<std::ptrdiff_t>(at),
                    std::min(chunk_bytes, after.size() - at), '\0');
        break;
      }
      case 4: what = "cut", after.resize(after.empty() ? 0 : random() % after.size()); break;
      case 5: what = "empty", after.clear(); break;
      case 6:
        what = "swap";
        if (!other.empty()) after = other;
        break;
      default: {
        what = "chunk of another";
        const std::size_t at = chunk(other), size = std::min(chunk_bytes, other.size() - at);
        if (after.size() >= at + size) after.replace(at, size, other, at, size);
        break;
      }
    }
    if (after == before) return {};
    put_back(path, after);
    return std::string(what) + " of " + std::filesystem::relative(path, disk_.root()).string();
  }

  std::string run(std::uint64_t cases) {
    const std::uint64_t seed = number_from("BUS_TEST_SEED", std::random_device{}());
    std::printf("BUS_TEST_SEED=%llu\n", static_cast<unsigned long long>(seed));
    std::uint64_t done = 0;
    for (std::uint64_t i = 0; i < cases; ++i) {
      std::mt19937_64 random(seed + i);
      // A reader that has begun keeps what it has read so far.
      account begun("a");
      auto in = subscribe(begun);
      if (!in) return in.error().message();
      for (std::uint64_t polls = random() % 40; polls != 0; --polls)
        (void)in->poll(200, [&](const bus::message& m) {
          begun.got(m.lane(), m.sequence(), m.subject(), m.text());
        });
      std::string path, before;
      const std::string what = damage(random, path, before);
      if (what.empty()) continue;
      ++done;
      std::string wrong = read_batches(*in, begun);
      if (wrong.empty()) wrong = by_a_subscriber();
      if (wrong.empty()) wrong = by_a_recorder();
      if (wrong.empty()) wrong = by_a_replay();
      put_back(path, before);
      if (!wrong.empty()) return what + " (case " + std::to_string(seed + i) + "): " + wrong;
    }
    std::printf("%llu damages\n", static_cast<unsigned long long>(done));
    if (done < cases / 2) return "most damages changed nothing";
    return by_a_subscriber();  // all is restored
  }

  std::vector<std::string> files_;
  mistake forgets_ = mistake::none;
};

TEST_F(LiveDamage, IsToldToEveryReaderAndGivesNobodySomethingElse) {
  EXPECT_EQ(run(number_from("BUS_DAMAGE_CASES", 250)), "");
}

// A check that cannot fail is useless.
TEST_F(LiveDamage, AMistakeOfTheCheckIsNoticed) {
  EXPECT_EQ(by_a_subscriber(), "");
  EXPECT_EQ(by_a_recorder(), "");
  EXPECT_EQ(by_a_replay(), "");
  forgets_ = mistake::takes_another;
  EXPECT_NE(by_a_subscriber(), "");
  forgets_ = mistake::forgets_gaps;
  const std::string first = *std::find_if(files_.begin(), files_.end(),
                                          [](const auto& file) { return file.ends_with(".log"); });
  const std::string before = read_file(first);
  std::string after = before;
  for (std::size_t at = 200'000; at < 210'000; ++at) after[at] ^= 1;
  put_back(first, after);
  EXPECT_NE(by_a_replay(), "");
  put_back(first, before);
  forgets_ = mistake::none;
  EXPECT_EQ(by_a_replay(), "");
}

}  // namespace
