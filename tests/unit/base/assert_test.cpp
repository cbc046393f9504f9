// A violated precondition ends the process and names the condition and its place.

#include <gtest/gtest.h>

#include <array>
#include <string_view>

#include "base/assert.hpp"
#include "layout/header_area.hpp"
#include "log/chunk.hpp"
#include "log/format.hpp"

namespace {

using namespace bus;

TEST(Assert, NamesConditionPlaceAndValues) {
  const unsigned used = 5, room = 3;
  EXPECT_DEATH(BUS_ASSERT(used < room, used, room),
               "libbus: assertion failed: used < room \\(used, room = 5 3\\) in assert_test.cpp:");
  EXPECT_DEATH(BUS_ASSERT(used < room), "assertion failed: used < room in assert_test.cpp:");
}

TEST(Assert, EvaluatesTheValuesOnlyWhenItFails) {
  unsigned evaluated = 0;
  BUS_ASSERT(evaluated == 0, ++evaluated);
  EXPECT_EQ(evaluated, 0u);
}

TEST(Assert, AChunkThatIsSharedIsNotWritten) {
  log::chunk_ref one = log::chunk_ref::make(64);
  EXPECT_NE(one.writable(), nullptr);
  const log::chunk_ref other = one;
  EXPECT_DEATH(one.writable(), "is_unique");
}

TEST(Assert, ExtensionsComeBeforeUserHeaders) {
  std::array<std::byte, layout::header_area_max_bytes> area{};
  layout::header_area_builder builder(area.data());
  builder.extension(layout::ext_type, 1);
  EXPECT_DEATH(builder.user_header("k", "v"), "has_begun");
  builder.begin_user_headers();
  EXPECT_TRUE(builder.user_header("k", "v"));
  EXPECT_DEATH(builder.extension(layout::ext_batch, 1), "has_begun");
}

}  // namespace
