// A stream with max_messages_per_subject: superseded messages leave the disk while it is written
// and read, the newest of each subject stay, and no loss is reported.

#include <gtest/gtest.h>

#include <bus/log_files.hpp>

#include <filesystem>
#include <map>

#include "one_busd.hpp"
#include "traffic.hpp"

namespace {

using namespace test;
using namespace std::chrono_literals;

constexpr std::uint64_t subjects = 20;

std::string subject_of(std::uint64_t number) { return "p.s" + std::to_string(number % subjects); }
std::string text_of(std::uint64_t number) {
  std::string text = "price " + std::to_string(number) + ":";
  text.resize(700, static_cast<char>('a' + number % 26));
  return text;
}

class PerSubject : public one_busd {
 protected:
  void add(std::uint64_t keep, bus::compression method = bus::compression::none) {
    auto config = logged_stream("p", bus::storage_class::durable, 1 << 20);
    config.segment_bytes = 1u << 20;
    config.max_messages_per_subject = keep;
    config.compress = method;
    const auto added = session_->add_stream(config);
    ASSERT_TRUE(added) << added.error().message();
  }
  // Message n, from 1 on, has sequence n.
  void publish(std::uint64_t count) {
    std::vector<bus::publisher> outs;
    for (std::uint64_t subject = 0; subject < subjects; ++subject) {
      auto out = session_->publisher(subject_of(subject));
      ASSERT_TRUE(out) << out.error().message();
      outs.push_back(std::move(*out));
    }
    for (const std::uint64_t end = published_ + count; published_ < end;) {
      auto& out = outs[++published_ % subjects];
      ASSERT_TRUE(out.publish(text_of(published_))) << out.last_error().message();
    }
    auto& last = outs[published_ % subjects];
    ASSERT_TRUE(last.wait_confirmed(last.last_receipt(), 30s));
  }
  std::string log_directory() { return session_->stream("p")->log_directory; }
  std::uint64_t bytes() {
    const auto status = session_->keeper();
    return status && !status->logs.empty() ? status->logs.at(0).bytes : 0;
  }
  void wait_below(std::uint64_t limit) {
    ASSERT_TRUE(eventually([&] { return bytes() != 0 && bytes() < limit; })) << bytes();
  }
  // Each subject has at least its newest `keep` messages, in order, up to the end, and no loss is
  // reported.
  void check(std::uint64_t keep, std::uint64_t most) {
    const auto report = bus::verify_log(log_directory());
    ASSERT_TRUE(report) << report.error().message();
    EXPECT_TRUE(report->is_whole());
    // After all messages: a restored stream resumes above every sequence ever given out.
    for (const bus::gap& gap : report->lanes.at(0).gaps) EXPECT_GT(gap.first, published_);
    EXPECT_LT(report->lanes.at(0).messages, most);
    std::uint64_t told = 0;
    bus::subscriber_options options;
    options.start = bus::start::all();
    options.on_gap = [&](const bus::gap&) { ++told; };
    auto reader = session_->subscribe("p.>", options);
    ASSERT_TRUE(reader) << reader.error().message();
    std::map<std::string, std::uint64_t> seen;
    for (std::uint64_t last = 0; last < published_;) {
      const auto message = reader->next(10s);
      ASSERT_TRUE(message) << last;
      ASSERT_GT(message->sequence(), last);
      last = message->sequence();
      ASSERT_EQ(message->text(), text_of(last));
      ASSERT_EQ(message->subject(), subject_of(last));
      seen[std::string(message->subject())] += last > published_ - keep * subjects;
    }
    EXPECT_EQ(told, 0u);
    EXPECT_EQ(seen.size(), subjects);
    for (const auto& [subject, count] : seen) EXPECT_EQ(count, keep) << subject;
  }

  std::uint64_t published_ = 0;
};

TEST_F(PerSubject, TheNewestStayWhileItIsWrittenAndReadAndBusdIsKilled) {
  add(10);
  // A slow reader of everything, while superseded messages are removed.
  std::uint64_t told = 0;
  bus::subscriber_options options;
  options.start = bus::start::all();
  options.on_gap = [&](const bus::gap&) { ++told; };
  auto slow = session_->subscribe("p.>", options);
  ASSERT_TRUE(slow);
  for (int round = 0; round < 6; ++round) {
    publish(4000);  // 3 MiB
    for (int i = 0; i < 50; ++i) {
      const auto message = slow->next(10s);
      ASSERT_TRUE(message);
      ASSERT_EQ(message->text(), text_of(message->sequence()));
    }
    if (round % 2 == 1) {
      busd_.kill();
      ASSERT_TRUE(busd_.start_and_wait()) << busd_.log_tail();
    }
  }
  wait_below(5u << 20);
  check(10, 10'000);
  for (std::uint64_t last = 0; last < published_;) {
    const auto message = slow->next(10s);
    ASSERT_TRUE(message) << last;
    last = message->sequence();
    ASSERT_EQ(message->text(), text_of(last));
  }
  EXPECT_EQ(told, 0u);
  // The last message of each subject, then the new ones.
  options.start = bus::start::last_per_subject();
  auto reader = session_->subscribe("p.>", options);
  ASSERT_TRUE(reader) << reader.error().message();
  publish(5);
  for (std::uint64_t number = published_ - 5 - subjects + 1; number <= published_; ++number) {
    const auto message = reader->next(10s);
    ASSERT_TRUE(message) << number;
    EXPECT_EQ(message->sequence(), number);
  }
}

TEST_F(PerSubject, IsChangedLaterAndCopied) {
  add(0, bus::compression::zstd);
  publish(12'000);
  check(600, 12'001);
  auto config = session_->stream("p")->config;
  config.max_messages_per_subject = 3;
  const auto edited = session_->edit_stream(config);
  ASSERT_TRUE(edited) << edited.error().message();
  ASSERT_TRUE(eventually([&] {
    const auto report = bus::verify_log(log_directory());
    return report && report->lanes.at(0).messages < 6000;
  }));
  check(3, 6000);
  const std::string copy = disk_.root() + "/copy";
  const auto copied = bus::copy_log(log_directory(), copy);
  ASSERT_TRUE(copied) << copied.error().message();
  ASSERT_TRUE(session_->remove_stream("p"));
  const auto restored = session_->restore_stream("p", copy);
  ASSERT_TRUE(restored) << restored.error().message();
  EXPECT_EQ(session_->stream("p")->config.max_messages_per_subject, 3u);
  check(3, 6000);
}

TEST_F(PerSubject, ASpillStreamHasNone) {
  auto config = logged_stream("q", bus::storage_class::spill, 1 << 20);
  config.max_messages_per_subject = 1;
  const auto added = session_->add_stream(config);
  ASSERT_FALSE(added);
  EXPECT_EQ(added.error().code, bus::errc::invalid_argument);
}

}  // namespace
