// Full shared memory: every call returns no_space or works without it. Nothing dies of SIGBUS,
// and everything works again once there is space.

#include "robust.hpp"

namespace {

using robust::fails_with;
using robust::run_in_child;
using namespace std::chrono_literals;

/// Takes every page of the file system until it is destroyed.
class filler {
 public:
  explicit filler(const std::string& root) : path_(root + "/filler") { fill(); }
  ~filler() { release(); }
  filler(const filler&) = delete;
  filler& operator=(const filler&) = delete;

  void fill() {
    file_ = ::open(path_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_APPEND, 0600);
    static const std::vector<char> page(4096, 'x');
    while (::write(file_, page.data(), page.size()) > 0) {
    }
  }
  void release() {
    if (file_ >= 0) ::close(file_);
    file_ = -1;
    ::unlink(path_.c_str());
  }

 private:
  std::string path_;
  int file_ = -1;
};

void expect_works(bus::session& session, const std::string& subject) {
  auto subscriber = session.subscribe(subject);
  ASSERT_TRUE(subscriber) << subscriber.error().message();
  auto publisher = session.publisher(subject);
  ASSERT_TRUE(publisher) << publisher.error().message();
  ASSERT_TRUE(publisher->publish("ping")) << publisher->last_error().message();
  const auto got = subscriber->next(20s);
  ASSERT_TRUE(got);
  EXPECT_EQ(got->text(), "ping");
  EXPECT_EQ(got->subject(), subject);
}

TEST(FullMemory, OpeningABusSaysSoAndWorksLater) {
  test::scratch place;
  EXPECT_EQ(run_in_child(60,
                         [&] {
                           robust::mount_small_tmpfs(place.root(), "size=4m");
                           filler full(place.root());
                           for (int i = 0; i < 3; ++i)
                             EXPECT_TRUE(fails_with(bus::open(place.url()), bus::errc::no_space));
                           full.release();
                           auto session = bus::open(place.url());
                           ASSERT_TRUE(session) << session.error().message();
                           ASSERT_TRUE(
                               session->add_stream(test::small_stream("s", bus::overflow::block)));
                           expect_works(*session, "s.a");
                         }),
            "");
}

TEST(FullMemory, JoiningAndMakingStreamsSaySoAndWorkLater) {
  test::scratch place;
  EXPECT_EQ(run_in_child(
                60,
                [&] {
                  robust::mount_small_tmpfs(place.root(), "size=24m");
                  auto session = bus::open(place.url());
                  ASSERT_TRUE(session);
                  auto each = test::small_stream("each", bus::overflow::drop_oldest);
                  each.mode = bus::lane_mode::per_publisher;
                  each.lanes = 8;
                  ASSERT_TRUE(session->add_stream(each));
                  auto first = session->publisher("each.a");
                  ASSERT_TRUE(first);
                  {
                    filler full(place.root());
                    EXPECT_TRUE(fails_with(bus::open(place.url()), bus::errc::no_space));
                    EXPECT_TRUE(fails_with(
                        session->add_stream(test::small_stream("s", bus::overflow::block)),
                        bus::errc::no_space));
                    // the default stream
                    EXPECT_TRUE(fails_with(session->publisher("nobody.captures.this"),
                                           bus::errc::no_space));
                    EXPECT_TRUE(fails_with(session->publisher("each.b"),
                                           bus::errc::no_space));  // a second lane
                    EXPECT_TRUE(fails_with(session->stream("s"),
                                           bus::errc::not_found));  // nothing half made
                    EXPECT_TRUE(first->publish("still works")) << first->last_error().message();
                    auto streams = session->streams();
                    ASSERT_TRUE(streams);
                    EXPECT_EQ(streams->size(), 1u);
                  }
                  ASSERT_TRUE(session->add_stream(test::small_stream("s", bus::overflow::block)));
                  expect_works(*session, "s.a");
                  expect_works(*session, "nobody.captures.this");
                  EXPECT_TRUE(session->publisher("each.b"));
                  EXPECT_TRUE(bus::open(place.url()));
                }),
            "");
}

TEST(FullMemory, SubscribingAndPublishingGoOnWithWhatIsThere) {
  test::scratch place;
  EXPECT_EQ(run_in_child(
                100,
                [&] {
                  robust::mount_small_tmpfs(place.root(), "size=4m");
                  auto session = bus::open(place.url());
                  ASSERT_TRUE(session);
                  for (const auto policy : {bus::overflow::block, bus::overflow::drop_oldest}) {
                    const std::string name = bus::overflow_name(policy);
                    ASSERT_TRUE(session->add_stream(test::small_stream(name, policy)));
                    filler full(place.root());
                    auto subscriber = session->subscribe(name + ".>");
                    ASSERT_TRUE(subscriber) << subscriber.error().message();
                    auto publisher = session->publisher(name + ".a");
                    ASSERT_TRUE(publisher) << publisher.error().message();
                    const std::string payload(1000, 'p');
                    for (int i = 0; i < 1000; ++i) {  // many laps of the ring
                      ASSERT_TRUE(publisher->publish(payload)) << publisher->last_error().message();
                      const auto got = subscriber->next(20s);
                      ASSERT_TRUE(got);
                      ASSERT_EQ(got->sequence(), static_cast<std::uint64_t>(i) + 1);
                      ASSERT_EQ(got->text(), payload);
                    }
                    const auto descriptor = subscriber->fd();
                    EXPECT_TRUE(descriptor || descriptor.error().code == bus::errc::no_space)
                        << descriptor.error().message();
                  }
                }),
            "");
}

TEST(FullMemory, ThousandsOfSubjectsAreCarriedInline) {
  test::scratch place;
  EXPECT_EQ(run_in_child(
                100,
                [&] {
                  robust::mount_small_tmpfs(place.root(), "size=4m");
                  auto session = bus::open(place.url());
                  ASSERT_TRUE(session);
                  ASSERT_TRUE(session->add_stream(test::small_stream("s", bus::overflow::block)));
                  auto subscriber = session->subscribe("s.>");
                  ASSERT_TRUE(subscriber);
                  auto publisher = session->publisher("s.first");
                  ASSERT_TRUE(publisher);
                  const auto round_trip = [&](const std::string& subject) {
                    const auto sent = publisher->publish_to(subject, subject);
                    ASSERT_TRUE(sent) << bus::publish_status_name(sent.status)
                                      << publisher->last_error().message();
                    const auto got = subscriber->next(20s);
                    ASSERT_TRUE(got) << (subscriber->failure() ? subscriber->failure()->message()
                                                               : "nothing came");
                    ASSERT_EQ(got->subject(), subject);
                    ASSERT_EQ(got->text(), subject);
                  };
                  const std::string tail(150, 'x');
                  std::uint32_t interned = 0;
                  {
                    filler full(place.root());
                    for (int i = 0; i < 6000 && !::testing::Test::HasFailure(); ++i)
                      round_trip("s." + std::to_string(i) + "." + tail);
                    const auto info = session->stream("s");
                    ASSERT_TRUE(info);
                    interned = info->subjects_interned;
                    EXPECT_LT(interned, 6000u) << "the table never met the full memory";
                  }
                  for (int i = 0; i < 6000 && !::testing::Test::HasFailure(); ++i)
                    round_trip("s." + std::to_string(i) + "." + tail);
                  // A new process can use the space that is free again.
                  auto later = bus::open(place.url());
                  ASSERT_TRUE(later);
                  auto other = later->publisher("s.other");
                  ASSERT_TRUE(other);
                  for (int i = 0; i < 100; ++i)
                    ASSERT_TRUE(other->publish_to("s.later." + std::to_string(i), "x"));
                  EXPECT_GE(later->stream("s")->subjects_interned, interned + 100);
                }),
            "");
}

TEST(FullMemory, NoInodesLeftIsNoSpace) {
  test::scratch place;
  EXPECT_EQ(run_in_child(
                60,
                [&] {
                  robust::mount_small_tmpfs(place.root(), "size=8m,nr_inodes=24");
                  auto session = bus::open(place.url());
                  ASSERT_TRUE(session) << session.error().message();
                  ASSERT_TRUE(session->add_stream(test::small_stream("s", bus::overflow::block)));
                  std::vector<std::string> taken;
                  for (int i = 0; i < 100; ++i) {
                    const std::string path = place.root() + "/taken-" + std::to_string(i);
                    const int file = ::open(path.c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0600);
                    if (file < 0) break;
                    ::close(file);
                    taken.push_back(path);
                  }
                  ASSERT_LT(taken.size(), 100u);
                  EXPECT_TRUE(
                      fails_with(session->add_stream(test::small_stream("u", bus::overflow::block)),
                                 bus::errc::no_space));
                  EXPECT_TRUE(fails_with(bus::open(place.url()), bus::errc::no_space));
                  EXPECT_TRUE(fails_with(bus::open(place.url("another")), bus::errc::no_space));
                  expect_works(*session, "s.a");
                  for (const auto& path : taken) ::unlink(path.c_str());
                  ASSERT_TRUE(session->add_stream(test::small_stream("u", bus::overflow::block)));
                  expect_works(*session, "u.a");
                }),
            "");
}

/// How many files the bus has. A link whose target does not exist (the holder in `lock`) does not
/// count.
std::size_t files_below(const std::string& directory) {
  std::size_t count = 0;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(directory))
    count += entry.exists() ? 1 : 0;
  return count;
}

TEST(FullMemory, LookingAndRemovingNeedNoFileOfTheirOwn) {
  test::scratch place;
  EXPECT_EQ(
      run_in_child(
          60,
          [&] {
            robust::mount_small_tmpfs(place.root(), "size=16m");
            auto session = bus::open(place.url());
            ASSERT_TRUE(session);
            ASSERT_TRUE(session->add_stream(test::small_stream("s", bus::overflow::block)));
            ASSERT_TRUE(
                session->add_stream(test::small_stream("t", bus::overflow::block, 1 << 20)));
            bus::group_config group;
            group.stream = "s";
            group.name = "g";
            ASSERT_TRUE(session->add_group(group));
            auto publisher = session->publisher("s.a");
            ASSERT_TRUE(publisher);
            ASSERT_TRUE(publisher->publish("m"));
            filler full(place.root());
            const std::size_t before = files_below(place.directory());
            EXPECT_TRUE(fails_with(bus::open(place.url()), bus::errc::no_space));
            bus::session_options options;
            options.url = place.url();
            options.joins = bus::membership::guest;
            auto guest = bus::session::open(options);
            ASSERT_TRUE(guest) << guest.error().message();
            EXPECT_EQ(guest->streams()->size(), 3u);  // includes the dead letters
            ASSERT_EQ(guest->processes()->size(), 1u);
            EXPECT_EQ(guest->processes()->front().publishers.size(), 1u);
            EXPECT_EQ(guest->group("s", "g")->counts.unclaimed, 1u);
            EXPECT_EQ(guest->peek("s", "g")->size(), 1u);
            EXPECT_TRUE(guest->pause_group("s", "g"));
            EXPECT_TRUE(guest->resume_group("s", "g"));
            EXPECT_TRUE(guest->broken_streams().empty());
            EXPECT_TRUE(fails_with(guest->publisher("s.b"), bus::errc::invalid_argument));
            EXPECT_TRUE(fails_with(guest->subscribe("s.>"), bus::errc::invalid_argument));
            EXPECT_TRUE(fails_with(guest->repair_group("s", "g"), bus::errc::invalid_argument));
            EXPECT_EQ(files_below(place.directory()), before) << "it made something";
            options.joins = bus::membership::guest_if_full;
            auto tool = bus::session::open(options);
            ASSERT_TRUE(tool) << tool.error().message();
            EXPECT_TRUE(fails_with(tool->subscribe("s.>"), bus::errc::no_space));
            // The fix that the error suggests.
            ASSERT_TRUE(guest->remove_group("s", "g"));
            ASSERT_TRUE(guest->remove_stream("t"));
            EXPECT_TRUE(bus::open(place.url()));
            expect_works(*session, "s.x");
          }),
      "");
}

TEST(FullMemory, TheReserveIsForTheOperatorAndComesBack) {
  test::scratch place;
  EXPECT_EQ(run_in_child(
                60,
                [&] {
                  robust::mount_small_tmpfs(place.root(), "size=8m");
                  auto session = bus::open(place.url());
                  ASSERT_TRUE(session);
                  ASSERT_TRUE(session->add_stream(test::small_stream("s", bus::overflow::block)));
                  ASSERT_TRUE(
                      session->add_stream(test::small_stream("t", bus::overflow::block, 1 << 20)));
                  const auto reserve = [&] {
                    return std::filesystem::file_size(place.directory() + "/reserve");
                  };
                  const auto whole = reserve();
                  EXPECT_GE(whole, 64u * 1024);
                  filler full(place.root());
                  EXPECT_TRUE(fails_with(bus::open(place.url()), bus::errc::no_space))
                      << "a program like any other";
                  EXPECT_EQ(reserve(), whole);
                  bus::session_options options;
                  options.url = place.url();
                  options.may_use_reserve = true;
                  {
                    auto tool = bus::session::open(options), second = bus::session::open(options);
                    ASSERT_TRUE(tool) << tool.error().message();
                    ASSERT_TRUE(second) << second.error().message();
                    expect_works(*tool, "s.a");
                  }
                  EXPECT_EQ(reserve(), whole) << "it comes back with what they had";
                  {
                    auto tool = bus::session::open(options);
                    full.fill();
                  }
                  ASSERT_TRUE(session->remove_stream("t"));
                  EXPECT_EQ(reserve(), whole);
                }),
            "");
}

// The test notices a SIGBUS: the same full memory, without space reserved first.
TEST(FullMemory, TheCheckSeesASigbus) {
  test::scratch place;
  const std::string end = run_in_child(60, [&] {
    std::signal(SIGBUS, SIG_DFL);
    robust::mount_small_tmpfs(place.root(), "size=1m");
    const int file = ::open((place.root() + "/sparse").c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0600);
    ASSERT_EQ(::ftruncate(file, 1 << 20), 0);
    auto* at = static_cast<volatile char*>(
        ::mmap(nullptr, 1 << 20, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0));
    ASSERT_NE(at, MAP_FAILED);
    filler full(place.root());
    for (int i = 0; i < 1 << 20; i += 4096) at[i] = 1;
  });
  EXPECT_NE(end, "");
}

}  // namespace
