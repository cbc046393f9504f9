/// chat: four workers process messages of thousands of users, each user's messages in order.
///
/// The group has order `key`, and the key is the user: one message of a user is out at a time.
/// There are no partitions, so a hot user does not delay others: here its first message is stuck at
/// a worker until the messages of all others have been shown.

#include "example.hpp"

#include <array>
#include <cstdint>
#include <map>

namespace {

using namespace std::chrono_literals;
using example::expect;
using example::must;

constexpr int users = 3000, messages_each = 3, hot_messages = 6000;
constexpr const char* hot_user = "hot";

void declare(bus::session& session) {
  for (const char* name : {"chat", "shown"}) {
    bus::stream_config stream;
    stream.name = name;
    stream.subjects = {stream.name + ".>"};
    must(session.add_stream(stream));
  }
}

/// `number` counts the messages of the user.
void send(bus::publisher& chat, const std::string& user, int number) {
  const bus::header headers[] = {{"key", user}};
  must(chat.publish_to("chat." + user, std::to_string(number), headers), chat);
}

void show_messages(const std::string& bus_name) {
  bus::session session = must(bus::open(bus_name));
  bus::publisher screen = must(session.publisher("shown.message"));
  bus::subscriber_options options;
  options.start = bus::start::all();
  bus::subscriber unstuck = must(session.subscribe("unstuck", options));
  bus::consumer worker =
      must(session.consume("chat.>", {.group = "screens", .order = bus::group_order::key}));
  example::stop_on_sigterm(worker);
  worker.run([&](bus::lease& message) {
    const bus::header headers[] = {{"user", message.header("key").value_or("")}};
    if (headers[0].value == hot_user && message.text() == "1" && !unstuck.next(20s))
      throw std::runtime_error("the other users were held up");
    must(screen.publish(message.text(), headers), screen);
  });
}

/// Reads `count` shown messages and checks that each is the next one of its user.
void watch(bus::subscriber& screen, int count, bool hot, std::map<std::string, int>& last) {
  for (int i = 0; i < count; ++i) {
    const auto shown = screen.next(20s);
    if (!shown) throw std::runtime_error("nothing shown for 20 seconds");
    const std::string user(shown->header("user").value_or(""));
    expect((user == hot_user) == hot, "the hot user holds nobody up");
    expect(std::to_string(++last[user]) == shown->text(), "messages of " + user + " in order");
  }
}

void chat() {
  const example::bus_of_this_run bus("chat");
  bus::session session = must(bus::open(bus.name()));
  declare(session);
  bus::subscriber screen = must(session.subscribe("shown.>"));
  const auto work = [&] { show_messages(bus.name()); };
  std::array workers = {example::process(work), example::process(work), example::process(work),
                        example::process(work)};

  bus::publisher chat = must(session.publisher("chat.x"));
  send(chat, hot_user, 1);
  for (int number = 1, hot = 2; number <= messages_each; ++number)
    for (int user = 1; user <= users; ++user) {
      send(chat, "user" + std::to_string(user), number);
      if (hot <= hot_messages) send(chat, hot_user, hot++);
    }

  std::map<std::string, int> last;
  watch(screen, users * messages_each, false, last);
  std::printf("%d messages of %d users shown in order, while the hot user was stuck\n",
              users * messages_each, users);
  bus::publisher unstick = must(session.publisher("unstuck"));
  must(unstick.publish("go on"), unstick);
  watch(screen, hot_messages, true, last);
  std::printf("%d messages of the hot user shown in order\n", hot_messages);
  for (auto& worker : workers) worker.end("worker");
}

}  // namespace

int main() { return example::run(chat); }
