#include <string>
#include <string_view>

#include "target.hpp"
#include "wire/keeper_status.hpp"
#include "wire/message.hpp"
#include "wire/stream_json.hpp"

namespace bus::fuzz {

namespace {

void as_request(const nlohmann::json& request) {
  (void)wire::text_of(request, "do");
  (void)wire::text_of(request, "name");
  (void)wire::number_of(request, "below");
  (void)wire::number_of(request, "lane");
  if (!request.contains("stream")) return;
  const auto config = wire::stream_from_json(request["stream"]);
  if (!config) {
    require(config.error().code == errc::invalid_argument && !config.error().why.empty(),
            "a refusal says why");
    return;
  }
  require(config->send_timeout.count() >= 0 && config->max_age.count() >= 0 &&
              config->fsync_interval.count() >= 0,
          "times are not negative");
  // What was parsed can be written and parsed again.
  const auto written = wire::to_json(*config);
  const auto again = wire::stream_from_json(written);
  require(static_cast<bool>(again) && wire::to_json(*again) == written,
          "a configuration survives the way through JSON");
}

void as_answer(const nlohmann::json& answer) {
  auto checked = wire::check_answer(answer);
  if (!checked) {
    require(checked.error().code != errc::ok, "a refusal is an error");
    (void)checked.error().message();
    const auto told = wire::check_answer(wire::answer_of(checked.error()));
    require(!told && told.error().code == checked.error().code,
            "an error survives the way through JSON");
    return;
  }
  const auto info = wire::keeper_from_json(*checked);
  require(wire::keeper_from_json(wire::to_json(info)).logs.size() == info.logs.size(),
          "a status survives, too");
}

}  // namespace

// Input: a message as it arrives at the socket.
void control(input bytes) {
  const std::string_view all(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  const auto length = wire::body_bytes(all.substr(0, wire::head_bytes));
  if (!length) {
    require(length.error().code == errc::corrupt || length.error().code == errc::unsupported,
            "a head is refused");
    // A valid head is hard to guess: a body is also tried without one.
    if (all.empty() || all.front() != '{') return;
  }
  const std::string_view body = length ? all.substr(wire::head_bytes, *length) : all;
  if (length) require(*length <= wire::largest_body_bytes, "a body has a limit");
  const auto message = wire::unpack(body);
  if (!message) return;
  require(message->is_object(), "a message is an object");
  as_request(*message);
  as_answer(*message);
  // As when a request is repeated in an answer.
  const std::string packed = wire::pack(*message);
  const auto again = wire::body_bytes(std::string_view(packed).substr(0, wire::head_bytes));
  if (packed.size() <= wire::largest_body_bytes)
    require(again && *again == packed.size() - wire::head_bytes, "what is packed has a head");
}

}  // namespace bus::fuzz
