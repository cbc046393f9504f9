#include <gtest/gtest.h>

#include <algorithm>

#include "support/buses.hpp"

namespace {

using namespace test;

TEST(Statistics, CountMessagesOfStreamsAndTheirSubjects) {
  scratch scratch;
  auto session = join(scratch);
  must(session.add_stream(small_stream("s", bus::overflow::drop_oldest)));
  auto publisher = must(session.publisher("s.a"));
  EXPECT_EQ(must(session.stream("s")).lanes.at(0).last_sequence, 0u);
  EXPECT_EQ(must(session.stream("s")).lanes.at(0).first_sequence, 0u);
  for (int i = 0; i < 10; ++i) send(publisher, "hello");
  send_to(publisher, "s.b", "other");
  const bus::stream_info info = must(session.stream("s"));
  EXPECT_EQ(info.messages(), 11u);
  EXPECT_EQ(info.subjects_interned, 2u);
  EXPECT_EQ(info.lanes.at(0).first_sequence, 1u);
  EXPECT_EQ(info.lanes.at(0).last_sequence, 11u);
  EXPECT_EQ(info.lanes.at(0).bytes_published, 11u * 64);
  for (int i = 0; i < 5000; ++i) send(publisher, "hello");
  const bus::lane_info lane = must(session.stream("s")).lanes.at(0);
  EXPECT_EQ(lane.last_sequence, 5011u);
  EXPECT_GT(lane.first_sequence, 5011u - 1024u - 64u);
  EXPECT_EQ(session.stream("none").error().code, bus::errc::not_found);
}

TEST(Statistics, ShowWhatTheSlowestReaderHolds) {
  scratch scratch;
  auto session = join(scratch);
  must(session.add_stream(small_stream("s", bus::overflow::reject)));
  auto subscriber = must(session.subscribe("s.>"));
  auto publisher = must(session.publisher("s.a"));
  for (int i = 0; i < 10; ++i) send(publisher, "hello");
  EXPECT_EQ(must(session.stream("s")).lanes.at(0).used_bytes, 640u);
  drain(subscriber);
  EXPECT_EQ(must(session.stream("s")).lanes.at(0).used_bytes, 0u);
}

TEST(Statistics, ShowProcessesWithPublishersAndReaders) {
  scratch scratch;
  auto session = join(scratch, "&name=tester");
  must(session.add_stream(small_stream("s", bus::overflow::block)));
  bus::publisher_options exclusive;
  exclusive.mode = bus::publish_mode::exclusive;
  exclusive.name = "feed";
  auto publisher = must(session.publisher("s.a", exclusive));
  bus::subscriber_options named;
  named.name = "watcher";
  auto subscriber = must(session.subscribe("s.>", named));
  for (int i = 0; i < 7; ++i) send(publisher, "12345");
  const auto look = [&] {
    const auto all = must(session.processes());
    EXPECT_EQ(all.size(), 1u);
    return all.at(0);
  };
  bus::process_info me = look();
  EXPECT_EQ(me.name, "tester");
  EXPECT_EQ(me.pid, ::getpid());
  EXPECT_EQ(me.uid, ::geteuid());
  EXPECT_EQ(me.state, bus::process_state::running);
  EXPECT_FALSE(me.other_namespace);
  ASSERT_EQ(me.publishers.size(), 1u);
  EXPECT_EQ(me.publishers[0].id, publisher.id());
  EXPECT_EQ(me.publishers[0].name, "feed");
  EXPECT_EQ(me.publishers[0].subject, "s.a");
  EXPECT_EQ(me.publishers[0].stream, "s");
  EXPECT_TRUE(me.publishers[0].exclusive);
  EXPECT_EQ(me.publishers[0].messages, 7u);
  EXPECT_EQ(me.publishers[0].bytes, 35u);
  ASSERT_EQ(me.readers.size(), 1u);
  EXPECT_NE(me.readers[0].name.find("watcher"), std::string::npos);
  EXPECT_EQ(me.readers[0].stream, "s");
  EXPECT_TRUE(me.readers[0].gating);
  EXPECT_EQ(me.readers[0].lag_messages, 7u);
  EXPECT_EQ(me.readers[0].lag_bytes, 7u * 64);
  EXPECT_EQ(must(session.stream("s")).lanes.at(0).exclusive_process, me.id);
  drain(subscriber);
  me = look();
  EXPECT_EQ(me.readers.at(0).lag_messages, 0u);
  EXPECT_EQ(me.readers.at(0).delivered, 7u);
  EXPECT_EQ(me.readers.at(0).next_sequence, 8u);
}

TEST(Statistics, ForgetWhatWasClosed) {
  scratch scratch;
  auto session = join(scratch);
  {
    auto publisher = must(session.publisher("a"));
    auto subscriber = must(session.subscribe("a"));
    EXPECT_EQ(must(session.processes()).at(0).publishers.size(), 1u);
    EXPECT_EQ(must(session.processes()).at(0).readers.size(), 1u);
  }
  EXPECT_TRUE(must(session.processes()).at(0).publishers.empty());
  EXPECT_TRUE(must(session.processes()).at(0).readers.empty());
}

TEST(Statistics, CountLossesOfAReader) {
  scratch scratch;
  auto session = join(scratch);
  must(session.add_stream(small_stream("s", bus::overflow::drop_oldest)));
  auto subscriber = must(session.subscribe("s.>"));
  auto publisher = must(session.publisher("s.a"));
  for (int i = 0; i < 5000; ++i) send(publisher, "x");
  drain(subscriber);
  const auto stats = subscriber.stats();
  EXPECT_GT(stats.lost, 0u);
  EXPECT_EQ(stats.delivered + stats.lost, 5000u);
  EXPECT_EQ(stats.lanes, 1u);
  const auto reader = must(session.processes()).at(0).readers.at(0);
  EXPECT_EQ(reader.lost, stats.lost);
  EXPECT_FALSE(reader.gating);
}

TEST(Statistics, OfSeveralSessionsOfOneProcessAreApart) {
  scratch scratch;
  auto one = join(scratch, "&name=one"), two = join(scratch, "&name=two");
  const auto all = must(one.processes());
  ASSERT_EQ(all.size(), 2u);
  EXPECT_NE(all[0].id, all[1].id);
  EXPECT_EQ(all[0].name, "one");
  EXPECT_EQ(all[1].name, "two");
}

}  // namespace
