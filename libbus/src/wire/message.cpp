#include "wire/message.hpp"

#include <array>
#include <cstring>

#include "base/assert.hpp"
#include "wire/stream_json.hpp"

namespace bus::wire {

namespace {

using nlohmann::json;

error broken(std::string why) {
  return {errc::corrupt, 0, "cannot decode a control message", std::move(why),
          "use the same version of libbus and busd"};
}

}  // namespace

std::string pack(const json& message) {
  const std::string body = message.dump(-1, ' ', false, json::error_handler_t::replace);
  BUS_ASSERT(body.size() <= largest_body_bytes, body.size());
  const std::array<std::uint32_t, 3> head{magic, version, static_cast<std::uint32_t>(body.size())};
  std::string packed(head_bytes, '\0');
  std::memcpy(packed.data(), head.data(), head_bytes);
  return packed + body;
}

result<std::uint32_t> body_bytes(std::string_view head) {
  std::array<std::uint32_t, 3> words{};
  if (head.size() != head_bytes) return broken("its header is truncated");
  std::memcpy(words.data(), head.data(), head_bytes);
  if (words[0] != magic) return broken("its magic number is wrong");
  if (words[1] != version)
    return error{errc::unsupported, 0, "cannot decode a control message",
                 "its version is " + std::to_string(words[1]) + ", this side supports " +
                     std::to_string(version),
                 "use the same version of libbus and busd"};
  if (words[2] > largest_body_bytes)
    return broken("it claims " + std::to_string(words[2]) + " bytes; at most " +
                  std::to_string(largest_body_bytes) + " are allowed");
  return words[2];
}

result<json> unpack(std::string_view body) {
  json parsed = json::parse(body, nullptr, false);
  if (parsed.is_discarded() || !parsed.is_object()) return broken("it is not a JSON object");
  return parsed;
}

json answer_of(const error& failure) {
  return {{"ok", false},
          {"error",
           {{"code", errc_name(failure.code)},
            {"errno", static_cast<std::uint64_t>(failure.os_errno)},
            {"what", failure.what},
            {"why", failure.why},
            {"fix", failure.fix}}}};
}

result<json> check_answer(json answer) {
  const auto ok = answer.find("ok");
  if (ok != answer.end() && ok->is_boolean() && ok->get<bool>()) return answer;
  const auto said = answer.find("error");
  if (said == answer.end()) return broken("the answer has neither ok nor error");
  error failure{errc::system, static_cast<int>(number_of(*said, "errno").value_or(0)),
                text_of(*said, "what").value_or("busd refused"), text_of(*said, "why").value_or(""),
                text_of(*said, "fix").value_or("")};
  const std::string code = text_of(*said, "code").value_or("");
  // Never `ok`: a refusal is an error, whatever code it carries.
  for (int c = static_cast<int>(errc::ok) + 1; c <= static_cast<int>(errc::system); ++c)
    if (code == errc_name(static_cast<errc>(c))) failure.code = static_cast<errc>(c);
  return failure;
}

}  // namespace bus::wire
