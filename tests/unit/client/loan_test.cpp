#include <gtest/gtest.h>

#include <cstring>

#include "support/buses.hpp"

namespace {

using namespace test;
using bus::publish_status;

class Loan : public testing::TestWithParam<bus::publish_mode> {
 protected:
  Loan() {
    must(session.add_stream(small_stream("s", bus::overflow::reject)));
    bus::publisher_options options;
    options.mode = GetParam();
    p.emplace(must(session.publisher("s.a", options)));
    s.emplace(must(session.subscribe("s.>")));
  }
  bus::loan loan(std::string_view content, std::size_t bytes) {
    bus::loan made = must(p->loan(bytes));
    EXPECT_EQ(made.data().size(), bytes);
    std::memset(made.data().data(), 0, bytes);
    std::memcpy(made.data().data(), content.data(), content.size());
    return made;
  }
  bus::loan loan(std::string_view content) { return loan(content, content.size()); }

  test::scratch scratch;
  bus::session session = join(scratch);
  std::optional<bus::publisher> p;
  std::optional<bus::subscriber> s;
};

INSTANTIATE_TEST_SUITE_P(Modes, Loan,
                         testing::Values(bus::publish_mode::shared, bus::publish_mode::exclusive),
                         [](const auto& mode) {
                           return mode.param == bus::publish_mode::shared ? "Shared" : "Exclusive";
                         });

TEST_P(Loan, PublishesWhatWasBuiltInPlace) {
  for (int i = 0; i < 1000; ++i) {
    bus::loan l = loan("number " + std::to_string(i), 100 + static_cast<std::size_t>(i));
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(l.data().data()) % 32, 0u);
    const auto done = l.commit();
    ASSERT_TRUE(done) << p->last_error().message();
    EXPECT_EQ(done.sequence, static_cast<std::uint64_t>(i) + 1);
    const auto m = s->next(10s);
    ASSERT_TRUE(m);
    ASSERT_EQ(m->size(), 100u + static_cast<std::size_t>(i));
    ASSERT_TRUE(m->text().starts_with("number " + std::to_string(i)));
  }
}

TEST_P(Loan, IsInvisibleUntilCommitAndGoneWithoutIt) {
  {
    [[maybe_unused]] const bus::loan abandoned = loan("abandoned", 4000);
    EXPECT_TRUE(drain(*s).empty());
  }
  send(*p, "after");
  send(*p, "more");
  EXPECT_EQ(drain(*s), (texts{"after", "more"}));
}

TEST_P(Loan, IsSpentAfterOneCommit) {
  bus::loan l = loan("once");
  ASSERT_TRUE(l.commit());
  EXPECT_EQ(l.commit().status, publish_status::invalid);
  EXPECT_EQ(drain(*s), texts{"once"});
}

TEST_P(Loan, IsSpentByAnythingPublishedSince) {
  bus::loan l = loan("late");
  send(*p, "first");
  EXPECT_EQ(l.commit().status, publish_status::invalid);
  send(*p, "second");
  EXPECT_EQ(drain(*s), (texts{"first", "second"}));
}

TEST_P(Loan, OfAnotherStreamIsNotCommittedToTheNewOne) {
  // The subject moves to a stream that is created after the loan: the loan's space is not in it.
  must(session.remove_stream("s"));
  bus::publisher_options options;
  options.mode = GetParam();
  auto mover = must(session.publisher("moved.a", options));
  auto all = must(session.subscribe("moved.>"));
  {
    auto l = mover.loan(100);
    ASSERT_TRUE(l);
    std::memset(l->data().data(), 'm', 100);
    must(session.add_stream(stream_of("moved", {"moved.>"})));
    const auto done = l->commit();
    if (GetParam() == bus::publish_mode::exclusive) {
      EXPECT_EQ(done.status, publish_status::invalid);
    }
  }
  send(mover, "after");
  const texts seen = drain(all);
  ASSERT_FALSE(seen.empty());
  EXPECT_EQ(seen.back(), "after");
  for (std::size_t i = 0; i + 1 < seen.size(); ++i)
    EXPECT_EQ(seen[i], std::string(100, 'm')) << "not what was built";
}

TEST_P(Loan, IsRefusedWhenItCannotBe) {
  EXPECT_EQ(p->loan(8193).error().code, bus::errc::too_large);
  EXPECT_TRUE(p->loan(8192));
  EXPECT_TRUE(p->loan(0));
}

TEST_P(Loan, OfNothingIsAnEmptyMessage) {
  auto l = must(p->loan(0));
  ASSERT_TRUE(l.commit());
  EXPECT_EQ(drain(*s), texts{""});
}

TEST_P(Loan, OnAFullRingIsRejected) {
  fill(*p, 100);
  auto l = p->loan(100);
  if (GetParam() == bus::publish_mode::exclusive) {
    ASSERT_FALSE(l);
    EXPECT_EQ(l.error().code, bus::errc::no_space);
  } else {
    ASSERT_TRUE(l) << "a private buffer needs no room yet";
    EXPECT_EQ(l->commit().status, publish_status::rejected);
  }
}

}  // namespace
