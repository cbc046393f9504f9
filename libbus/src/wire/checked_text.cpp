#include "wire/checked_text.hpp"

#include "base/crc32c.hpp"

namespace bus::wire {

namespace {

constexpr std::string_view sum_mark = "\ncrc32c ";

std::string sum_of(std::string_view text) {
  return std::to_string(base::crc32c(0, text.data(), text.size()));
}

}  // namespace

std::string with_checksum(const nlohmann::json& what) {
  const std::string body = what.dump(2);
  return body + std::string(sum_mark) + sum_of(body) + "\n";
}

std::optional<nlohmann::json> checked(std::string_view text) {
  const std::size_t mark = text.rfind(sum_mark);
  if (mark == std::string_view::npos ||
      text.substr(mark + sum_mark.size()) != sum_of(text.substr(0, mark)) + "\n")
    return std::nullopt;
  auto json = nlohmann::json::parse(text.substr(0, mark), nullptr, false);
  if (json.is_discarded()) return std::nullopt;
  return json;
}

}  // namespace bus::wire
