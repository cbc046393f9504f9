// A stream with compress=zstd: its files shrink while it is written, and all messages can be read
// from them.

#include <gtest/gtest.h>

#include <bus/log_files.hpp>

#include <filesystem>

#include "one_busd.hpp"
#include "traffic.hpp"

namespace {

using namespace test;
using namespace std::chrono_literals;

std::string text_of(std::uint64_t number) {
  std::string text = "order " + std::to_string(number) + ":";
  while (text.size() < 1500)
    text += " side=buy price=" + std::to_string(100 + number % 7) + " state=open;";
  return text;
}

class Compression : public one_busd {
 protected:
  static constexpr std::uint64_t messages = 8000;  // 12 MiB

  void add(bus::compression method) {
    auto config = logged_stream("c", bus::storage_class::durable, 1 << 20);
    config.segment_bytes = 2u << 20;
    config.compress = method;
    const auto added = session_->add_stream(config);
    ASSERT_TRUE(added) << added.error().message();
  }
  void publish(std::uint64_t first, std::uint64_t count) {
    auto out = session_->publisher("c.a");
    ASSERT_TRUE(out) << out.error().message();
    for (std::uint64_t number = first; number < first + count; ++number)
      ASSERT_TRUE(out->publish(text_of(number))) << out->last_error().message();
    ASSERT_TRUE(out->wait_confirmed(out->last_receipt(), 30s));
  }
  std::string log_directory() { return session_->stream("c")->log_directory; }
  /// Of all full segments: how many are compressed, and how many there are.
  std::pair<int, int> full_segments() {
    std::vector<std::filesystem::path> files;
    for (const auto& entry : std::filesystem::directory_iterator(log_directory() + "/lane-0"))
      if (entry.path().extension() == ".log") files.push_back(entry.path());
    std::sort(files.begin(), files.end());
    int compressed = 0;
    for (std::size_t i = 0; i + 1 < files.size(); ++i) {
      std::ifstream file(files[i], std::ios::binary);
      file.seekg(8);
      compressed += file.get() == 2;  // the major version
    }
    return {compressed, static_cast<int>(files.size()) - 1};
  }
  void wait_compressed() {
    ASSERT_TRUE(eventually([&] {
      const auto [compressed, all] = full_segments();
      return all > 2 && compressed == all;
    })) << full_segments().first
        << " of " << full_segments().second;
  }
  void check_all(std::uint64_t count) {
    auto report = bus::verify_log(log_directory());
    ASSERT_TRUE(report) << report.error().message();
    EXPECT_TRUE(report->is_whole());
    EXPECT_EQ(report->lanes.at(0).messages, count);
    for (const std::uint64_t from : {std::uint64_t{1}, count / 2, count - 10}) {
      bus::subscriber_options options;
      options.start = bus::start::by_sequence(from);
      auto reader = session_->subscribe("c.>", options);
      ASSERT_TRUE(reader) << reader.error().message();
      for (std::uint64_t sequence = from; sequence <= count; ++sequence) {
        const auto message = reader->next(10s);
        ASSERT_TRUE(message) << sequence;
        ASSERT_EQ(message->sequence(), sequence);
        ASSERT_EQ(message->text(), text_of(sequence));
      }
    }
  }
};

TEST_F(Compression, FilesShrinkAndGiveEverything) {
  add(bus::compression::zstd);
  publish(1, messages);
  wait_compressed();
  const auto status = session_->keeper();
  ASSERT_TRUE(status);
  EXPECT_LT(status->logs.at(0).bytes, messages * 1500 / 2);
  check_all(messages);

  // Killed in the middle of it: nothing is left over, and compression resumes.
  publish(messages + 1, 4000);
  busd_.kill();
  ASSERT_TRUE(busd_.start_and_wait()) << busd_.log_tail();
  publish(messages + 4001, 1000);
  wait_compressed();
  for (const auto& entry : std::filesystem::directory_iterator(log_directory() + "/lane-0"))
    EXPECT_EQ(entry.path().string().find(".log.tmp"), std::string::npos) << entry.path();
  check_all(messages + 5000);
}

TEST_F(Compression, IsSwitchedOnForWhatIsThere) {
  add(bus::compression::none);
  publish(1, messages);
  EXPECT_EQ(full_segments().first, 0);
  auto config = session_->stream("c")->config;
  config.compress = bus::compression::zstd;
  const auto edited = session_->edit_stream(config);
  ASSERT_TRUE(edited) << edited.error().message();
  auto other = bus::open(place_.url());
  ASSERT_TRUE(other);
  EXPECT_EQ(other->stream("c")->config.compress, bus::compression::zstd);
  wait_compressed();
  check_all(messages);

  const std::string copy = disk_.root() + "/copy";
  const auto copied = bus::copy_log(log_directory(), copy);
  ASSERT_TRUE(copied) << copied.error().message();
  ASSERT_TRUE(session_->remove_stream("c"));
  const auto restored = session_->restore_stream("c", copy);
  ASSERT_TRUE(restored) << restored.error().message();
  EXPECT_EQ(session_->stream("c")->config.compress, bus::compression::zstd);
  check_all(messages);
}

}  // namespace
