// A confirm waits for its disk and for nothing else, whatever else busd does: adding and removing
// streams with large rings and logs, or waiting for a lock that a stopped process holds.

#include <algorithm>
#include <atomic>
#include <functional>
#include <thread>

#include <sys/file.h>

#include "one_busd.hpp"

namespace {

using namespace test;
using namespace std::chrono_literals;
using clock = std::chrono::steady_clock;

class ConfirmBeside : public one_busd {
 protected:
  void SetUp() override {
    one_busd::SetUp();
    if (HasFatalFailure()) return;
    ASSERT_TRUE(session_->add_stream(logged_stream("c", bus::storage_class::durable)));
    prober_ = std::thread([this] { probe(); });
    ASSERT_TRUE(eventually([&] { return confirmed_.load() > 20 || failed_.load(); }));
  }
  void TearDown() override {
    stop_probing();
    one_busd::TearDown();
  }
  void stop_probing() {
    stop_ = true;
    if (prober_.joinable()) prober_.join();
  }

  // One confirm after another; keeps the longest time since worst_ns_ was last reset.
  void probe() {
    auto own = bus::open(place_.url());
    bus::publisher_options options;
    options.confirm = bus::confirm::disk;
    options.send_timeout = 60s;
    auto out = own->publisher("c.x", options);
    for (; out && !stop_; std::this_thread::sleep_for(200us)) {
      const auto begin = clock::now();
      const bool good = static_cast<bool>(out->publish("x"));
      const std::int64_t took = (clock::now() - begin).count();
      for (auto seen = worst_ns_.load();
           seen < took && !worst_ns_.compare_exchange_weak(seen, took);) {
      }
      if (!good) break;
      ++confirmed_;
    }
    failed_ = !stop_;
  }
  // A confirm that is under way when `what` ends still counts.
  void let_one_through() {
    const auto before = confirmed_.load();
    (void)eventually([&] { return confirmed_.load() >= before + 2 || failed_.load(); });
  }
  std::int64_t worst_of(const std::function<void()>& what) {
    let_one_through();
    worst_ns_ = 0;
    what();
    let_one_through();
    return worst_ns_.exchange(0);
  }

  // Is the worst confirm during `what` at most twice the worst of a quiet second? A thread spins
  // during that second, so that processor time for a request is paid in both. Rounds and whole
  // attempts may be disturbed by other programs; what stops all confirms does so in every round
  // of every attempt.
  bool is_calm_beside(const std::function<void()>& what, const std::function<void()>& again,
                      int rounds = 5) {
    std::int64_t& quiet = quiet_ns_ = 0;
    std::vector<std::int64_t> beside;
    for (int i = 0; i < rounds && !HasFailure(); ++i) {
      const auto begin = clock::now();
      beside.push_back(worst_of(what));
      const auto took = clock::now() - begin;
      quiet = std::max(quiet, worst_of([&] {
                         const auto end =
                             clock::now() + std::max<clock::duration>(took, 1s / rounds);
                         while (clock::now() < end) {
                         }
                       }));
      again();
    }
    std::sort(beside.begin(), beside.end());
    const std::int64_t median = beside[beside.size() / 2];
    std::printf("  worst confirm: quiet %.1f ms, beside it %.1f ms (%.1f to %.1f)\n",
                double(quiet) / 1e6, double(median) / 1e6, double(beside.front()) / 1e6,
                double(beside.back()) / 1e6);
    EXPECT_FALSE(failed_);
    return median <= 2 * quiet;
  }
  bool is_wanted(bool wanted, const std::function<bool()>& attempt, int attempts = 3) {
    for (int i = 0; i < attempts && !HasFailure(); ++i)
      if (attempt() == wanted) return true;
    return false;
  }

  bus::stream_config large(std::uint64_t ring_bytes) {
    auto config = logged_stream("big", bus::storage_class::durable, ring_bytes);
    config.segment_bytes = 64u << 20;
    return config;
  }
  void remove_big() {
    const auto removed = session_->remove_stream("big");
    ASSERT_TRUE(removed) << removed.error().message();
  }

  std::thread prober_;
  std::atomic<bool> stop_{false}, failed_{false};
  std::atomic<std::uint64_t> confirmed_{0};
  std::atomic<std::int64_t> worst_ns_{0};
  std::int64_t quiet_ns_ = 0;
};

TEST_F(ConfirmBeside, AStreamWithALargeRingComes) {
  EXPECT_TRUE(is_wanted(true, [&] {
    return is_calm_beside([&] { ASSERT_TRUE(session_->add_stream(large(256u << 20))); },
                          [&] { remove_big(); });
  }));
}

TEST_F(ConfirmBeside, AStreamWithALargeLogGoes) {
  const auto fill = [&] {
    ASSERT_TRUE(session_->add_stream(large(8u << 20)));
    auto out = session_->publisher("big.x");
    ASSERT_TRUE(out);
    const std::string text(8000, 'x');
    for (int i = 0; i < 40'000; ++i) ASSERT_TRUE(out->publish(text)) << out->last_error().message();
    ASSERT_TRUE(out->wait_confirmed(out->last_receipt(), 60s));
  };
  fill();
  EXPECT_TRUE(is_wanted(true, [&] { return is_calm_beside([&] { remove_big(); }, fill, 3); }));
}

// The measure can fail: it notices a busd that stops for several times the quiet worst.
TEST_F(ConfirmBeside, ABusdThatStandsIsNoticed) {
  const auto stand = [&] {
    busd_.signal(SIGSTOP);
    std::this_thread::sleep_for(
        std::max<std::chrono::nanoseconds>(std::chrono::nanoseconds(8 * quiet_ns_), 200ms));
    busd_.signal(SIGCONT);
  };
  EXPECT_TRUE(is_wanted(false, [&] { return is_calm_beside(stand, [] {}); }));
}

// The process that holds the lock of changes may be stopped.
TEST_F(ConfirmBeside, ALockThatIsNotGivenBack) {
  ASSERT_TRUE(session_->add_stream(logged_stream("e", bus::storage_class::durable)));
  auto config = session_->stream("e")->config;
  config.max_age = 1h;
  const int lock =
      ::open((std::string(session_->directory()) + "/lock").c_str(), O_RDWR | O_CLOEXEC);
  ASSERT_EQ(::flock(lock, LOCK_EX), 0);
  std::atomic<bool> is_done{false};
  bool status_came_first = false;
  std::int64_t took = 0;
  const std::int64_t worst = worst_of([&] {
    const auto begin = clock::now();
    std::thread edit([&] {
      const auto edited = session_->edit_stream(config);
      EXPECT_FALSE(edited);
      is_done = true;
    });
    std::this_thread::sleep_for(300ms);
    status_came_first = session_->keeper() && !is_done;
    edit.join();
    took = (clock::now() - begin).count();
  });
  std::printf("  beside an edit of %.0f ms the worst confirm took %.1f ms\n", double(took) / 1e6,
              double(worst) / 1e6);
  EXPECT_LT(4 * worst, took);
  EXPECT_TRUE(status_came_first);

  // It is also told to terminate in the middle of it.
  std::thread edit([&] { EXPECT_FALSE(session_->edit_stream(config)); });
  std::this_thread::sleep_for(300ms);
  stop_probing();
  EXPECT_EQ(busd_.terminate(), 0);  // the lock is still held
  edit.join();
  ::close(lock);
}

}  // namespace
