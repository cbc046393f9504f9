// A program outside the tree: publishes one message and reads it back.

#include <bus/bus.hpp>

#include <chrono>
#include <cstdio>

int main() {
  auto session = bus::open("installed");
  if (!session) return std::fprintf(stderr, "%s\n", session.error().message().c_str()), 1;
  auto subscriber = session->subscribe("install.>");
  if (!subscriber) return std::fprintf(stderr, "%s\n", subscriber.error().message().c_str()), 1;
  auto publisher = session->publisher("install.check");
  if (!publisher) return std::fprintf(stderr, "%s\n", publisher.error().message().c_str()), 1;
  if (!publisher->publish("hello"))
    return std::fprintf(stderr, "%s\n", publisher->last_error().message().c_str()), 1;
  const auto m = subscriber->next(std::chrono::seconds(20));
  if (!m || m->subject() != "install.check") return std::fprintf(stderr, "nothing came\n"), 1;
  std::printf("received %.*s\n", static_cast<int>(m->size()), m->text().data());
  return 0;
}
