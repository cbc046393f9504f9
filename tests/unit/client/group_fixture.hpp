#pragma once
/// group_fixture: a bus with the stream "orders", and its group "workers".

#include <gtest/gtest.h>

#include <string>

#include "support/buses.hpp"

namespace bus {

class Group : public ::testing::Test {
 protected:
  void SetUp() override {
    auto opened = bus::open(here_.url("t", ""));
    ASSERT_TRUE(opened);
    bus_.emplace(std::move(*opened));
  }
  void add_stream(overflow policy = overflow::block, std::uint32_t lanes = 1,
                  std::uint64_t ring = 64 << 10) {
    stream_config config;
    config.name = "orders";
    config.subjects = {"orders.>"};
    config.overflow = policy;
    config.lanes = lanes;
    config.ring_bytes = ring;
    config.max_message_bytes = 4096;
    config.send_timeout = std::chrono::milliseconds(50);
    const auto added = bus_->add_stream(config);
    ASSERT_TRUE(added) << added.error().message();
    auto out = bus_->publisher("orders.new");
    ASSERT_TRUE(out);
    out_.emplace(std::move(*out));
  }
  void publish(int from, int to) {
    for (int i = from; i < to; ++i) ASSERT_TRUE(out_->publish(std::to_string(i))) << i;
  }
  void publish_key(std::string_view key, std::string_view text) {
    const header headers[] = {{"key", key}};
    ASSERT_TRUE(out_->publish(text, headers));
  }
  consumer join(consumer_options options, std::string_view subject = "orders.>") {
    if (options.group.empty()) options.group = "workers";
    auto made = bus_->consume(subject, std::move(options));
    EXPECT_TRUE(made) << made.error().message();
    if (!made) std::abort();
    return std::move(*made);
  }
  group_info info(std::string_view group = "workers") {
    auto found = bus_->group("orders", group);
    EXPECT_TRUE(found) << found.error().message();
    return found ? *found : group_info{};
  }
  /// Each published message is counted exactly once.
  void expect_sums(std::uint64_t published, std::string_view group = "workers") {
    const auto c = info(group).counts;
    EXPECT_EQ(published, c.settled + c.filtered + c.dropped + c.dead + c.pending + c.unclaimed);
  }

  ::test::scratch here_;
  std::optional<session> bus_;
  std::optional<publisher> out_;
};

inline std::string text_of(std::optional<lease>& one) {
  return one ? std::string(one->text()) : std::string("nothing");
}

}  // namespace bus
