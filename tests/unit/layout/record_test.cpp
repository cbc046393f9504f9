#include <gtest/gtest.h>

#include "layout/record.hpp"

namespace bus::layout {
namespace {

TEST(RecordShape, SurvivesPacking) {
  for (const record_shape shape :
       {record_shape{0, 0, 0}, record_shape{1, 32, flag_headers},
        record_shape{0xffffffffu, 0xffffu, 0xffffu}, record_shape{64, 0, flag_batch}}) {
    const record_shape again = record_shape::unpack(shape.pack());
    EXPECT_EQ(again.payload_bytes, shape.payload_bytes);
    EXPECT_EQ(again.header_bytes, shape.header_bytes);
    EXPECT_EQ(again.flags, shape.flags);
  }
}

TEST(RecordShape, KeepsItsFieldsWhereTheFormatSays) {
  EXPECT_EQ((record_shape{0x11223344u, 0x5566, 0x7788}.pack()), 0x7788556611223344u);
  EXPECT_EQ(pack_origin(0x11223344u, 0x55667788u), 0x5566778811223344u);
}

TEST(RecordShape, TakesWholeLines) {
  EXPECT_EQ((record_shape{0, 0, 0}.total_bytes()), 64u);
  EXPECT_EQ((record_shape{32, 0, 0}.total_bytes()), 64u);
  EXPECT_EQ((record_shape{33, 0, 0}.total_bytes()), 128u);
  EXPECT_EQ((record_shape{32, 32, 0}.total_bytes()), 128u);
}

TEST(RecordShape, OfHostileSizesDoesNotWrapAround) {
  const record_shape shape{0xffffffffu, 0xffffu, 0};
  EXPECT_GT(shape.total_bytes(), 0xffffffffull + 0xffffull);
}

TEST(CommitWord, SeparatesSequenceFromState) {
  EXPECT_EQ(sequence_mask & (commit_open | commit_aborted), 0u);
  EXPECT_EQ(sequence_mask | commit_open | commit_aborted, ~0ull);
}

}  // namespace
}  // namespace bus::layout
