#include <gtest/gtest.h>

#include <random>
#include <string>
#include <utility>
#include <vector>

#include "layout/header_area.hpp"
#include "support/seed.hpp"

namespace bus::layout {
namespace {

using pairs = std::vector<std::pair<std::string, std::string>>;

pairs user_headers(const header_area& area) {
  pairs all;
  area.each_user_header([&](std::string_view key, std::string_view value) {
    all.emplace_back(key, value);
    return true;
  });
  return all;
}

struct built {
  std::vector<std::byte> bytes;
  std::uint16_t flags = 0;
  header_area area() const { return {bytes.data(), bytes.size(), flags}; }
};

template <class Fill>
built build(Fill&& fill) {
  built made;
  made.bytes.resize(header_area_max_bytes);
  header_area_builder builder(made.bytes.data());
  fill(builder);
  made.bytes.resize(builder.finish());
  made.bytes.shrink_to_fit();  // so that a sanitizer sees the first byte read past the end
  made.flags = builder.flags();
  return made;
}

TEST(HeaderArea, WithoutContentIsEmpty) {
  const built made = build([](auto& b) { b.begin_user_headers(); });
  EXPECT_EQ(made.bytes.size(), 0u);
  EXPECT_EQ(made.flags, 0u);
  EXPECT_TRUE(user_headers(made.area()).empty());
}

TEST(HeaderArea, GivesBackUserHeadersInOrder) {
  const pairs sent{{"key", "AAPL"},
                   {"k", ""},
                   {std::string(255, 'x'), std::string(1000, '\0')},
                   {"key", "twice"}};
  const built made = build([&](auto& b) {
    b.begin_user_headers();
    for (const auto& [key, value] : sent) ASSERT_TRUE(b.user_header(key, value));
  });
  EXPECT_EQ(made.flags, flag_headers);
  EXPECT_EQ(made.bytes.size() % header_align, 0u);
  EXPECT_EQ(user_headers(made.area()), sent);
}

TEST(HeaderArea, KeepsExtensionsSubjectAndHeadersApart) {
  const std::string subject = "orders.4711.created";
  const built made = build([&](auto& b) {
    b.inline_subject(subject);
    b.extension(ext_progress, 7);
    b.extension(ext_type, 0x1122334455667788u);
    b.begin_user_headers();
    ASSERT_TRUE(b.user_header("a", "1"));
  });
  const header_area area = made.area();
  EXPECT_EQ(area.subject(), subject);
  EXPECT_EQ(area.extension(ext_type), 0x1122334455667788u);
  EXPECT_EQ(area.extension(ext_progress), 7u);
  EXPECT_FALSE(area.extension(ext_batch));
  EXPECT_EQ(area.offset_of(ext_inline_subject), 8u);
  EXPECT_EQ(area.offset_of(ext_type), 16u);
  EXPECT_EQ(area.offset_of(ext_progress), 24u);
  EXPECT_EQ(user_headers(area), (pairs{{"a", "1"}}));
  EXPECT_TRUE(area.understood());
}

TEST(HeaderArea, TakesTheLongestSubject) {
  const std::string subject(255, 's');
  const built made = build([&](auto& b) {
    b.inline_subject(subject);
    b.begin_user_headers();
  });
  EXPECT_EQ(made.area().subject(), subject);
  EXPECT_TRUE(user_headers(made.area()).empty());
}

TEST(HeaderArea, RefusesHeadersOutOfRange) {
  build([](auto& b) {
    b.begin_user_headers();
    EXPECT_FALSE(b.user_header("", "value"));
    EXPECT_FALSE(b.user_header(std::string(256, 'k'), ""));
    EXPECT_FALSE(b.user_header("k", std::string(0x10000, 'v')));
  });
  build([](auto& b) {
    b.begin_user_headers();
    const std::string large(16 * 1024 - 8, 'v');
    EXPECT_TRUE(b.user_header("a", large));
    EXPECT_TRUE(b.user_header("b", large));
    EXPECT_FALSE(b.user_header("c", large)) << "more than 32 KiB altogether";
  });
}

TEST(HeaderArea, SkipsWordsOfExtensionsItNeedNotKnow) {
  // A reader must understand ext_message_id (2 words) and may ignore bit 40. The words of both
  // move what follows.
  std::vector<std::byte> bytes(64);
  const std::uint64_t map = ext_type | ext_message_id | 1ull << 40;
  const std::uint64_t words[] = {map, 11, 21, 22, 31};
  std::memcpy(bytes.data(), words, sizeof words);
  const std::uint16_t lengths[2] = {1, 1};
  std::memcpy(bytes.data() + 40, lengths, 4);
  std::memcpy(bytes.data() + 44, "kv", 2);
  const header_area area(bytes.data(), bytes.size(), flag_extension | flag_headers);
  EXPECT_EQ(area.extension(ext_type), 11u);
  EXPECT_EQ(area.extension(ext_message_id), 21u);
  EXPECT_EQ(area.extension(1ull << 40), 31u);
  EXPECT_EQ(user_headers(area), (pairs{{"k", "v"}}));
  EXPECT_FALSE(area.understood()) << "ext_message_id is a must of a later library";
}

TEST(HeaderArea, IgnoresTheMapWithoutItsFlag) {
  const std::uint64_t words[4] = {~0ull, 1, 2, 3};
  const header_area area(reinterpret_cast<const std::byte*>(words), sizeof words, 0);
  EXPECT_EQ(area.map(), 0u);
  EXPECT_TRUE(area.subject().empty());
  EXPECT_TRUE(user_headers(area).empty());
}

TEST(HeaderArea, CutOffMapsAndSubjectsYieldNothing) {
  const std::uint64_t whole_map[2] = {~0ull, 0};
  const header_area map_only(reinterpret_cast<const std::byte*>(whole_map), 8,
                             flag_extension | flag_headers);
  EXPECT_EQ(map_only.map(), 0u);
  EXPECT_TRUE(user_headers(map_only).empty());
  for (const std::uint64_t length : {17ull, 255ull, 256ull, ~0ull, ~0ull - 15}) {
    std::uint64_t words[4] = {ext_inline_subject, length, 0x6161616161616161u, 0x6161616161616161u};
    std::vector<std::byte> exact(sizeof words);
    std::memcpy(exact.data(), words, sizeof words);
    const header_area area(exact.data(), exact.size(), flag_extension);
    EXPECT_TRUE(area.subject().empty()) << length;
  }
}

TEST(HeaderArea, SurvivesRandomBytes) {
  std::mt19937_64 random(test::seed());
  for (int round = 0; round < 100'000; ++round) {
    std::vector<std::byte> bytes(random() % 9 * 32);
    // In half of the rounds, small numbers that look like lengths.
    for (auto& b : bytes) b = static_cast<std::byte>(round % 2 == 0 ? random() : random() % 3);
    const header_area area(bytes.data(), bytes.size(), static_cast<std::uint16_t>(random()));
    const auto within = [&](std::string_view text) {
      const auto* from = reinterpret_cast<const std::byte*>(text.data());
      return text.empty() ||
             (from >= bytes.data() && from + text.size() <= bytes.data() + bytes.size());
    };
    ASSERT_TRUE(within(area.subject()));
    for (int bit = 0; bit < 12; ++bit) (void)area.extension(1ull << bit);
    area.each_user_header([&](std::string_view key, std::string_view value) {
      EXPECT_TRUE(within(key) && within(value) && !key.empty());
      return true;
    });
  }
}

}  // namespace
}  // namespace bus::layout
