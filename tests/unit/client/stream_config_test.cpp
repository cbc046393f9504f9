#include <gtest/gtest.h>

#include "support/buses.hpp"

namespace {

using namespace test;

TEST(StreamConfig, NamesTheFieldThatCannotBeMeant) {
  scratch scratch;
  auto session = join(scratch);
  const auto refused = [&](const char* field, auto&& change) {
    bus::stream_config config = small_stream("s", bus::overflow::block);
    change(config);
    const auto answer = session.add_stream(config);
    ASSERT_FALSE(answer) << field;
    EXPECT_EQ(answer.error().code, bus::errc::invalid_argument) << field;
    EXPECT_NE(answer.error().message().find(field), std::string::npos) << answer.error().message();
  };
  refused("stream name", [](auto& c) { c.name = ""; });
  refused("stream name", [](auto& c) { c.name = "../x"; });
  refused("stream name", [](auto& c) { c.name = std::string(65, 'n'); });
  refused("subjects", [](auto& c) { c.subjects = {}; });
  refused("a..b", [](auto& c) { c.subjects = {"ok", "a..b"}; });
  refused("subjects", [](auto& c) { c.subjects.assign(20, std::string(250, 'x')); });
  refused("overflow", [](auto& c) { c.overflow = static_cast<bus::overflow>(9); });
  refused("lanes", [](auto& c) { c.lanes = 0; });
  refused("lanes", [](auto& c) { c.lanes = 65; });
  refused("ring_bytes", [](auto& c) { c.ring_bytes = 100'000; });
  refused("ring_bytes", [](auto& c) { c.ring_bytes = 32 * 1024; });
  refused("ring_bytes", [](auto& c) { c.ring_bytes = 1ull << 37; });
  refused("max_message_bytes", [](auto& c) { c.max_message_bytes = 0; });
  refused("ring_bytes of at least 131072", [](auto& c) { c.max_message_bytes = 16 * 1024; });
  refused("max_readers", [](auto& c) { c.max_readers = 0; });
  refused("max_readers", [](auto& c) { c.max_readers = 65537; });
  refused("max_subjects", [](auto& c) { c.max_subjects = 16'000'001; });
  refused("send_timeout", [](auto& c) { c.send_timeout = -1ns; });
  EXPECT_TRUE(must(session.streams()).empty()) << "nothing was made of them";
}

TEST(StreamConfig, ComesBackAsItWasGiven) {
  scratch scratch;
  auto session = join(scratch);
  bus::stream_config config = stream_of("s", {"a.*", "b.>", "c.#.d"}, bus::overflow::reject);
  config.lanes = 3;
  config.ring_bytes = 256 * 1024;
  config.max_message_bytes = 5000;
  config.send_timeout = 123ms;
  config.max_subjects = 77;
  config.max_readers = 5;
  config.ephemeral = true;
  must(session.add_stream(config));
  auto again = join(scratch);
  const bus::stream_info info = must(again.stream("s"));
  EXPECT_EQ(info.config.name, "s");
  EXPECT_EQ(info.config.subjects, config.subjects);
  EXPECT_EQ(info.config.overflow, config.overflow);
  EXPECT_EQ(info.config.mode, config.mode);
  EXPECT_EQ(info.config.lanes, 3u);
  EXPECT_EQ(info.config.ring_bytes, config.ring_bytes);
  EXPECT_EQ(info.config.max_message_bytes, 5000u);
  EXPECT_EQ(info.config.send_timeout, 123ms);
  EXPECT_EQ(info.config.max_subjects, 77u);
  EXPECT_EQ(info.config.max_readers, 5u);
  EXPECT_TRUE(info.config.ephemeral);
  EXPECT_EQ(info.lanes.size(), 3u);
}

TEST(StreamConfig, AddedTwiceTheSameIsFineAndDifferentlyIsAConflict) {
  scratch scratch;
  auto session = join(scratch);
  bus::stream_config config = small_stream("s", bus::overflow::block);
  must(session.add_stream(config));
  EXPECT_TRUE(session.add_stream(config));
  config.ring_bytes *= 2;
  config.send_timeout = 1ms;
  const auto answer = session.add_stream(config);
  ASSERT_FALSE(answer);
  EXPECT_EQ(answer.error().code, bus::errc::conflict);
  EXPECT_NE(answer.error().why.find("ring_bytes"), std::string::npos) << answer.error().why;
  EXPECT_NE(answer.error().why.find("send_timeout"), std::string::npos);
  EXPECT_EQ(answer.error().why.find("subjects"), std::string::npos);
}

TEST(StreamConfig, OverlappingStreamsAreRefusedAndBothNamed) {
  scratch scratch;
  auto session = join(scratch);
  must(session.add_stream(stream_of("quotes", {"md.*.quote"})));
  const auto answer = session.add_stream(stream_of("stocks", {"ord.>", "md.eq.>"}));
  ASSERT_FALSE(answer);
  EXPECT_EQ(answer.error().code, bus::errc::conflict);
  for (const char* name : {"quotes", "stocks", "md.*.quote", "md.eq.>"})
    EXPECT_NE(answer.error().message().find(name), std::string::npos)
        << name << ": " << answer.error().message();
  EXPECT_TRUE(session.add_stream(stream_of("others", {"md.*.trade"})));
}

TEST(Overflow, NamesGoThereAndBack) {
  for (const auto policy : {bus::overflow::block, bus::overflow::reject, bus::overflow::drop_oldest,
                            bus::overflow::drop_new})
    EXPECT_EQ(*bus::parse_overflow(bus::overflow_name(policy)), policy);
  EXPECT_EQ(bus::parse_overflow("drop").error().code, bus::errc::invalid_argument);
}

TEST(Error, ReadsAsOneLine) {
  const bus::error failure{bus::errc::busy, 0, "cannot do it", "somebody holds it", "end it"};
  EXPECT_EQ(failure.message(), "cannot do it: somebody holds it (fix: end it)");
  EXPECT_EQ((bus::error{bus::errc::closed, 0, "", "", ""}.message()), "closed");
}

}  // namespace
