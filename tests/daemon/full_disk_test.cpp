// A full disk: on a small tmpfs, in a private mount namespace.

#include <gtest/gtest.h>

#include <sched.h>
#include <sys/mount.h>
#include <sys/statvfs.h>

#include "busd_process.hpp"
#include "traffic.hpp"

namespace {

using namespace test;
using namespace std::chrono_literals;
using clock = std::chrono::steady_clock;

// Once per process: no other process sees our mounts, and they end with us. Empty: success.
std::string own_mounts() {
  static const std::string why = [] {
    const uid_t uid = ::getuid();
    const gid_t gid = ::getgid();
    const bool root = ::geteuid() == 0;
    if (::unshare(root ? CLONE_NEWNS : CLONE_NEWNS | CLONE_NEWUSER) != 0)
      return std::string("unshare: ") + std::strerror(errno);
    if (!root) {
      const auto write = [](const char* path, const std::string& text) {
        std::ofstream(path) << text;
      };
      write("/proc/self/setgroups", "deny");
      write("/proc/self/uid_map", std::to_string(uid) + " " + std::to_string(uid) + " 1");
      write("/proc/self/gid_map", std::to_string(gid) + " " + std::to_string(gid) + " 1");
    }
    if (::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0)
      return std::string("making mounts private: ") + std::strerror(errno);
    return std::string();
  }();
  return why;
}

class FullDisk : public ::testing::Test {
 protected:
  static constexpr std::uint64_t disk_bytes = 48u << 20;

  void SetUp() override {
    ::alarm(200);
    if (const std::string why = own_mounts(); !why.empty()) skip(why);
    if (IsSkipped()) return;
    const std::string size = "size=" + std::to_string(disk_bytes);
    if (::mount("tmpfs", disk_.root().c_str(), "tmpfs", 0, size.c_str()) != 0)
      return skip(std::string("mount: ") + std::strerror(errno));
    mounted_ = true;
  }
  void TearDown() override {
    if (HasFailure() && busd_) std::fprintf(stderr, "busd said:\n%s\n", busd_->log_tail().c_str());
    busd_.reset();
    if (mounted_) ::umount2(disk_.root().c_str(), MNT_DETACH);
    ::alarm(0);
  }
  void skip(const std::string& why) {
    std::fprintf(
        stderr,
        "\n*****\n***** NOTHING WAS TESTED: this kernel lets us not mount a small disk (%s).\n"
        "***** Run it as root, or where user namespaces are allowed.\n*****\n\n",
        why.c_str());
    GTEST_SKIP() << why;
  }
  void start(std::vector<std::string> options) {
    options.insert(options.end(), {"--buffer-bytes", "262144"});
    busd_ = std::make_unique<busd_process>(place_.root(), disk_.root(), std::move(options));
    ASSERT_TRUE(busd_->start_and_wait()) << busd_->log_tail();
    auto opened = bus::open(place_.url());
    ASSERT_TRUE(opened) << opened.error().message();
    session_.emplace(std::move(*opened));
    auto heard = session_->subscribe("_bus.event.storage.>");
    ASSERT_TRUE(heard) << heard.error().message();
    events_.emplace(std::move(*heard));
    auto config = logged_stream("f", bus::storage_class::durable, 256 * 1024);
    config.segment_bytes = 1u << 20;
    config.send_timeout = 20s;
    const auto added = session_->add_stream(config);
    ASSERT_TRUE(added) << added.error().message();
    auto made = session_->publisher("f.a");
    ASSERT_TRUE(made) << made.error().message();
    publisher_.emplace(std::move(*made));
    auto live = session_->subscribe("f.>");
    ASSERT_TRUE(live) << live.error().message();
    reader_.emplace(std::move(*live));
  }
  /// Writes a file that leaves `left` bytes of the disk.
  void fill_disk_up_to(std::uint64_t left) {
    const int file = ::open(filler_path().c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    ASSERT_GE(file, 0);
    struct ::statvfs now {};
    const std::vector<char> bytes(64 * 1024, 'x');
    while (::fstatvfs(file, &now) == 0 && now.f_bfree * now.f_frsize > left)
      if (::write(file, bytes.data(),
                  std::min<std::uint64_t>(bytes.size(), now.f_bfree * now.f_frsize - left)) <= 0)
        break;
    ::close(file);
  }
  void free_disk() { ::unlink(filler_path().c_str()); }
  std::string filler_path() const { return disk_.root() + "/filler"; }

  bus::publish_status publish() {
    const auto payload = make_payload(1000, 0, number_ + 1, "f.a");
    const auto done = publisher_->publish(payload);
    if (done) ++number_, last_ = done.sequence;
    return done.status;
  }
  /// Publishes until a call does not return ok.
  bus::publish_status publish_until_refused() {
    for (;;) {
      const auto status = publish();
      if (status != bus::publish_status::ok) return status;
      read_on();
      if (publisher_->is_confirmed(publisher_->last_receipt())) confirmed_ = last_;
    }
  }
  void read_on() {
    (void)reader_->poll(256, [&](const bus::message& m) {
      stamp s;
      std::memcpy(&s, m.payload().data(), sizeof s);
      EXPECT_EQ(m.sequence(), read_ + 1);
      EXPECT_EQ(s.number, m.sequence());
      EXPECT_EQ(s.check, check_of(s));
      read_ = m.sequence();
    });
  }
  void hear() {
    while (const auto m = events_->try_next())
      heard_[std::string(m->subject())] = std::string(m->text());
  }
  bool heard(const std::string& kind) {
    return eventually([&] {
      hear();
      return heard_.contains("_bus.event.storage." + kind);
    });
  }
  void check_all_is_there() {
    EXPECT_TRUE(eventually([&] {
      read_on();
      return read_ == last_;
    })) << read_
        << " of " << last_ << " were read live";
    EXPECT_EQ(reader_->stats().lost, 0u);
    const replay all = read_all(*session_, "f.>", bus::start::all(), last_);
    EXPECT_EQ(all.flaw, "");
    EXPECT_TRUE(all.gaps.empty());
    EXPECT_EQ(all.messages.size(), last_);
  }

  scratch place_, disk_{disk_directory()};
  bool mounted_ = false;
  std::unique_ptr<busd_process> busd_;
  std::optional<bus::session> session_;
  std::optional<bus::subscriber> events_, reader_;
  std::optional<bus::publisher> publisher_;
  std::map<std::string, std::string> heard_;
  std::uint64_t number_ = 0, last_ = 0, read_ = 0, confirmed_ = 0;
};

TEST_F(FullDisk, NoSpaceIsSaidAndEndsByItself) {
  start({"--disk-block", "1", "--disk-warn", "1"});
  for (int round = 0; round < 3 && !HasFailure(); ++round) {
    for (int i = 0; i < 200; ++i) ASSERT_EQ(publish(), bus::publish_status::ok);
    auto confirmed = publisher_->wait_confirmed(publisher_->last_receipt(), 20s);
    ASSERT_TRUE(confirmed) << confirmed.error().message();
    confirmed_ = last_;
    fill_disk_up_to(0);
    const auto begin = clock::now();
    const std::uint64_t before = number_;
    ASSERT_EQ(publish_until_refused(), bus::publish_status::no_space)
        << publisher_->last_error().message();
    const auto refused_after = clock::now() - begin;
    EXPECT_NE(publisher_->last_error().what, "");
    EXPECT_NE(publisher_->last_error().fix, "");
    const auto call = clock::now();
    EXPECT_EQ(publish(), bus::publish_status::no_space);
    const auto one_call = clock::now() - call;
    const auto waited = publisher_->wait_confirmed({0, last_}, 10s);
    ASSERT_FALSE(waited);
    EXPECT_EQ(waited.error().code, bus::errc::no_space) << waited.error().message();
    // What is in the ring and in the log can still be read.
    EXPECT_TRUE(eventually([&] {
      read_on();
      return read_ == last_;
    })) << read_
        << " of " << last_;
    const replay while_full = read_all(*session_, "f.>", bus::start::all(), confirmed_);
    EXPECT_EQ(while_full.flaw, "");
    const auto status = session_->keeper();
    ASSERT_TRUE(status) << status.error().message();
    EXPECT_EQ(status->logs.at(0).health, "full");
    EXPECT_TRUE(heard("full"));
    free_disk();
    const auto freed = clock::now();
    ASSERT_TRUE(eventually([&] { return publish() == bus::publish_status::ok; }, 30s))
        << publisher_->last_error().message();
    const auto resumed_after = clock::now() - freed;
    confirmed = publisher_->wait_confirmed(publisher_->last_receipt(), 20s);
    EXPECT_TRUE(confirmed) << confirmed.error().message();
    std::printf(
        "  full: refused after %llu messages and %.1f ms, then within %.3f ms a call; resumed %.1f "
        "ms after "
        "space was there\n",
        static_cast<unsigned long long>(number_ - before), double(refused_after.count()) / 1e6,
        double(one_call.count()) / 1e6, double(resumed_after.count()) / 1e6);
  }
  check_all_is_there();
  EXPECT_TRUE(heard("recovered")) << heard_.size();
  for (const auto& [subject, text] : heard_)
    std::printf("  %s %s\n", subject.c_str(), text.c_str());
}

TEST_F(FullDisk, BusdThatIsKilledWhileItIsFullLosesNothing) {
  start({"--disk-block", "1", "--disk-warn", "1"});
  for (int i = 0; i < 500; ++i) ASSERT_EQ(publish(), bus::publish_status::ok);
  ASSERT_TRUE(publisher_->wait_confirmed(publisher_->last_receipt(), 20s));
  fill_disk_up_to(0);
  ASSERT_EQ(publish_until_refused(), bus::publish_status::no_space);
  ASSERT_TRUE(busd_->kill());
  // Without space it does not know what it may write: it starts as far as it can and reports the
  // rest.
  busd_->start();
  (void)busd_->wait_ready(5s);
  read_on();
  free_disk();
  busd_->kill();
  ASSERT_TRUE(busd_->start_and_wait()) << busd_->log_tail();
  ASSERT_TRUE(eventually([&] { return publish() == bus::publish_status::ok; }, 30s))
      << publisher_->last_error().message();
  const auto confirmed = publisher_->wait_confirmed(publisher_->last_receipt(), 20s);
  EXPECT_TRUE(confirmed) << confirmed.error().message();
  check_all_is_there();
}

TEST_F(FullDisk, ASpillThatFoundNoSpaceIsForgottenWhenTheReaderHasReadOn) {
  start({"--disk-block", "1", "--disk-warn", "1"});
  auto config = logged_stream("sp", bus::storage_class::spill, 256 * 1024);
  config.segment_bytes = 1u << 20;
  config.send_timeout = 300ms;
  ASSERT_TRUE(session_->add_stream(config));
  auto slow = session_->subscribe("sp.>");
  ASSERT_TRUE(slow);
  auto out = session_->publisher("sp.a");
  ASSERT_TRUE(out) << out.error().message();
  fill_disk_up_to(0);
  std::uint64_t count = 0;
  bus::publish_status status = bus::publish_status::ok;
  const std::string text(1000, 'x');
  std::thread([&] {  // not the reader's thread
    while ((status = out->publish(text).status) == bus::publish_status::ok && count < 50'000)
      ++count;
  })
      .join();
  EXPECT_NE(status, bus::publish_status::ok);
  std::printf("  a spill without space: %s after %llu messages\n", bus::publish_status_name(status),
              static_cast<unsigned long long>(count));
  std::uint64_t came = 0;
  EXPECT_TRUE(eventually([&] {
    came += slow->poll(256, [](const bus::message&) {});
    return came == count;
  })) << came
      << " of " << count;
  EXPECT_EQ(slow->stats().lost, 0u);
  free_disk();
  EXPECT_TRUE(eventually([&] {
    (void)slow->poll(256, [](const bus::message&) {});
    return out->publish(text).status == bus::publish_status::ok;
  })) << out->last_error().message();
}

TEST_F(FullDisk, PublishersAreStoppedAtTheWatermark) {
  start({"--disk-warn", "0.4", "--disk-block", "0.5"});
  for (int i = 0; i < 100; ++i) ASSERT_EQ(publish(), bus::publish_status::ok);
  fill_disk_up_to(disk_bytes * 55 / 100);
  EXPECT_TRUE(heard("warning"));
  EXPECT_EQ(publish(), bus::publish_status::ok) << publisher_->last_error().message();
  fill_disk_up_to(disk_bytes * 40 / 100);
  const auto begin = clock::now();
  // Slowly: busd checks the disk at intervals, and what is published meanwhile must not fill it.
  bus::publish_status status = bus::publish_status::ok;
  for (int i = 0; i < 2000 && (status = publish()) == bus::publish_status::ok; ++i) ::usleep(500);
  ASSERT_EQ(status, bus::publish_status::no_space);
  std::printf("  watermark: refused after %.1f ms\n", double((clock::now() - begin).count()) / 1e6);
  EXPECT_TRUE(heard("full"));
  // Earlier messages are still written: there is space.
  EXPECT_TRUE(eventually([&] { return publisher_->is_confirmed({0, last_}); }));
  free_disk();
  const auto freed = clock::now();
  ASSERT_TRUE(eventually([&] { return publish() == bus::publish_status::ok; }, 30s));
  std::printf("  watermark: resumed after %.1f ms\n", double((clock::now() - freed).count()) / 1e6);
  EXPECT_TRUE(heard("recovered"));
  EXPECT_TRUE(publisher_->wait_confirmed(publisher_->last_receipt(), 20s));
  check_all_is_there();
}

}  // namespace
