#include <gtest/gtest.h>

#include <bitset>
#include <random>
#include <string>
#include <vector>

#include "subject/subject.hpp"
#include "support/seed.hpp"

namespace bus::subject {
namespace {

pattern parsed(std::string_view text) {
  auto made = pattern::parse(text);
  EXPECT_TRUE(made) << text << ": " << made.error().message();
  return std::move(*made);
}

TEST(Subject, TakesDottedTokens) {
  for (const std::string_view good : {"a", "md.eq.AAPL", "host.cpu.0.user", "a-b_c/d:e@f",
                                      "k\xc3\xa4se.\xe2\x82\xac", "\xf0\x9f\x9a\x80"}) {
    EXPECT_TRUE(check(good)) << good;
    EXPECT_TRUE(is_valid(good)) << good;
  }
  EXPECT_TRUE(is_valid(std::string(255, 'a')));
}

struct flawed {
  std::string text;
  std::size_t position;
  const char* reason;
};

class InvalidSubject : public testing::TestWithParam<flawed> {};

TEST_P(InvalidSubject, IsRefusedWithPositionAndReason) {
  const auto& [text, position, reason] = GetParam();
  EXPECT_FALSE(is_valid(text));
  const auto answer = check(text);
  ASSERT_FALSE(answer);
  EXPECT_EQ(answer.error().code, errc::invalid_argument);
  EXPECT_NE(answer.error().why.find("at byte " + std::to_string(position) + ":"), std::string::npos)
      << answer.error().why;
  EXPECT_NE(answer.error().why.find(reason), std::string::npos) << answer.error().why;
}

INSTANTIATE_TEST_SUITE_P(
    Flaws, InvalidSubject,
    testing::Values(flawed{"", 0, "empty"}, flawed{".a", 0, "token is empty"},
                    flawed{"a..b", 2, "token is empty"}, flawed{"a.", 2, "token is empty"},
                    flawed{"a.*", 2, "wildcards"}, flawed{"a.>", 2, "wildcards"},
                    flawed{"a#b", 1, "wildcards"}, flawed{"a b", 1, "spaces"},
                    flawed{"a\tb", 1, "control"}, flawed{std::string("a\0b", 3), 1, "control"},
                    flawed{"a\x7f", 1, "control"}, flawed{"ab\xff", 2, "UTF-8"},
                    flawed{"ab\xc3", 2, "UTF-8"},             // cut off
                    flawed{"a\xc0\x80", 1, "UTF-8"},          // overlong
                    flawed{"a\xe0\x80\x80", 1, "UTF-8"},      // overlong
                    flawed{"a\xed\xa0\x80", 1, "UTF-8"},      // surrogate
                    flawed{"a\xf4\x90\x80\x80", 1, "UTF-8"},  // beyond Unicode
                    flawed{"\x80", 0, "UTF-8"}, flawed{std::string(256, 'a'), 255, "longer"}));

class InvalidPattern : public testing::TestWithParam<flawed> {};

TEST_P(InvalidPattern, IsRefusedWithPositionAndReason) {
  const auto& [text, position, reason] = GetParam();
  const auto answer = pattern::parse(text);
  ASSERT_FALSE(answer);
  EXPECT_EQ(answer.error().code, errc::invalid_argument);
  EXPECT_NE(answer.error().why.find("at byte " + std::to_string(position) + ":"), std::string::npos)
      << answer.error().why;
  EXPECT_NE(answer.error().why.find(reason), std::string::npos) << answer.error().why;
}

INSTANTIATE_TEST_SUITE_P(
    Flaws, InvalidPattern,
    testing::Values(flawed{"", 0, "empty"}, flawed{"a*", 1, "whole token"},
                    flawed{"*a", 0, "whole token"}, flawed{"a.**", 2, "whole token"},
                    flawed{"a.b#", 3, "whole token"}, flawed{">.a", 0, "last token"},
                    flawed{"a.>.b", 2, "last token"}, flawed{"a.#.", 4, "token is empty"}));

TEST(Pattern, StarIsExactlyOneToken) {
  const pattern p = parsed("md.*.AAPL");
  EXPECT_TRUE(p.matches("md.eq.AAPL"));
  EXPECT_FALSE(p.matches("md.AAPL"));
  EXPECT_FALSE(p.matches("md.eq.us.AAPL"));
  EXPECT_FALSE(p.matches("md.eq.AAPL.x"));
}

TEST(Pattern, GreaterIsOneOrMoreTokensAtTheEnd) {
  const pattern p = parsed("md.>");
  EXPECT_TRUE(p.matches("md.a"));
  EXPECT_TRUE(p.matches("md.a.b.c"));
  EXPECT_FALSE(p.matches("md"));
  EXPECT_FALSE(p.matches("mdx.a"));
}

TEST(Pattern, HashIsZeroOrMoreTokensAnywhere) {
  EXPECT_TRUE(parsed("a.#").matches("a"));
  EXPECT_TRUE(parsed("#.a").matches("a"));
  EXPECT_TRUE(parsed("a.#.z").matches("a.z"));
  EXPECT_TRUE(parsed("a.#.z").matches("a.b.c.z"));
  EXPECT_TRUE(parsed("a.#.z").matches("a.z.z"));
  EXPECT_FALSE(parsed("a.#.z").matches("a.b"));
  EXPECT_TRUE(parsed("#.a.#.b.#").matches("x.a.y.a.b"));
  EXPECT_FALSE(parsed("#.a.#.b.#").matches("b.a"));
}

TEST(Pattern, KnowsThatItMatchesEverything) {
  EXPECT_TRUE(parsed(">").matches_everything());
  EXPECT_TRUE(parsed("#").matches_everything());
  EXPECT_FALSE(parsed("*").matches_everything());
}

TEST(Pattern, ManyHashesAreNotExponential) {
  std::string text, name;
  for (int i = 0; i < 40; ++i) text += "#.a.";
  for (int i = 0; i < 126; ++i) name += "a.";
  const pattern p = parsed(text + "b");
  EXPECT_FALSE(p.matches(name + "c"));
  EXPECT_TRUE(p.matches(name + "b"));
}

// The definition, word for word.
using tokens = std::vector<std::string>;

bool reference(const tokens& p, std::size_t i, const tokens& s, std::size_t j) {
  if (i == p.size()) return j == s.size();
  if (p[i] == "#") return reference(p, i + 1, s, j) || (j < s.size() && reference(p, i, s, j + 1));
  if (j == s.size()) return false;
  if (p[i] == ">") return true;
  return (p[i] == "*" || p[i] == s[j]) && reference(p, i + 1, s, j + 1);
}

std::string joined(const tokens& parts) {
  std::string text;
  for (const auto& part : parts) text += (text.empty() ? "" : ".") + part;
  return text;
}

std::vector<tokens> all_sequences(const tokens& alphabet, std::size_t longest) {
  std::vector<tokens> all, last{{}};
  for (std::size_t length = 1; length <= longest; ++length) {
    std::vector<tokens> next;
    for (const auto& head : last) {
      for (const auto& token : alphabet) {
        next.push_back(head);
        next.back().push_back(token);
      }
    }
    all.insert(all.end(), next.begin(), next.end());
    last = std::move(next);
  }
  return all;
}

bool greater_is_last(const tokens& p) {
  for (std::size_t i = 0; i + 1 < p.size(); ++i)
    if (p[i] == ">") return false;
  return true;
}

// Two patterns of n and m tokens that overlap have a common subject of at most n + m tokens; `c`
// represents any other token.
template <std::size_t SubjectCount>
void compare_with_reference(const std::vector<tokens>& patterns,
                            const std::vector<tokens>& subjects) {
  ASSERT_EQ(subjects.size(), SubjectCount);
  std::vector<std::bitset<SubjectCount>> sets(patterns.size());
  std::vector<pattern> compiled;
  for (std::size_t i = 0; i < patterns.size(); ++i) {
    compiled.push_back(parsed(joined(patterns[i])));
    for (std::size_t j = 0; j < subjects.size(); ++j) {
      sets[i][j] = reference(patterns[i], 0, subjects[j], 0);
      ASSERT_EQ(compiled[i].matches(joined(subjects[j])), sets[i][j])
          << compiled[i].text() << " on " << joined(subjects[j]);
    }
  }
  for (std::size_t i = 0; i < patterns.size(); ++i) {
    for (std::size_t j = 0; j < patterns.size(); ++j)
      ASSERT_EQ(compiled[i].overlaps(compiled[j]), (sets[i] & sets[j]).any())
          << compiled[i].text() << " and " << compiled[j].text();
  }
}

TEST(Pattern, AgreesWithTheReferenceOnAllShortPatterns) {
  std::vector<tokens> patterns = all_sequences({"a", "b", "*", ">", "#"}, 3);
  std::erase_if(patterns, [](const tokens& p) { return !greater_is_last(p); });
  compare_with_reference<3 + 9 + 27 + 81 + 243 + 729>(patterns, all_sequences({"a", "b", "c"}, 6));
}

TEST(Pattern, AgreesWithTheReferenceOnRandomLongerPatterns) {
  std::mt19937_64 random(test::seed());
  const tokens alphabet{"a", "b", "*", "#", "#", ">"};
  std::vector<tokens> patterns;
  while (patterns.size() < 150) {
    tokens p(4);
    for (auto& token : p) token = alphabet[random() % alphabet.size()];
    if (greater_is_last(p)) patterns.push_back(p);
  }
  compare_with_reference<9840>(patterns, all_sequences({"a", "b", "c"}, 8));
}

}  // namespace
}  // namespace bus::subject
