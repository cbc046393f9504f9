// bus pub: publishes an argument, standard input as one message, or each of its lines.

#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <iostream>
#include <iterator>
#include <memory>
#include <thread>

#include "commands.hpp"

namespace tools {

namespace {

struct options {
  std::string subject;
  std::string payload;
  bool has_payload = false;
  bool lines = false;
  std::uint64_t count = 1;
  double rate = 0;
  std::vector<std::string> headers;
  std::string key;
  bool exclusive = false;
  std::string timeout;
  std::string confirm = "memory";
};

// Sleeps until message number `sent` is due.
void pace(std::chrono::steady_clock::time_point begin, std::uint64_t sent, double rate) {
  if (rate <= 0) return;
  const auto due = begin + std::chrono::duration_cast<std::chrono::nanoseconds>(
                               std::chrono::duration<double>(static_cast<double>(sent) / rate));
  std::this_thread::sleep_until(due);
}

bus::error input_error() {
  return {bus::errc::invalid_argument, errno, "cannot read the payload from standard input",
          "it is closed, or not readable",
          "give the payload as an argument, or redirect a file: bus pub SUBJECT < FILE"};
}

int run(const context& c, const options& o) {
  std::vector<bus::header> headers;
  for (const std::string& text : o.headers) {
    const auto colon = text.find(':');
    if (colon == std::string::npos || colon == 0)
      return c.usage("invalid header '" + text + "'", "it must be KEY:VALUE");
    headers.push_back(
        {std::string_view(text).substr(0, colon), std::string_view(text).substr(colon + 1)});
  }
  if (!o.key.empty()) headers.push_back({"key", o.key});
  auto session = c.open("pub", true);
  if (!session) return c.fail(session.error());
  bus::publisher_options how;
  if (o.exclusive) how.mode = bus::publish_mode::exclusive;
  if (!o.timeout.empty()) {
    const auto timeout = parse_duration(o.timeout);
    if (!timeout)
      return c.usage("invalid --timeout '" + o.timeout + "'",
                     "it is not a duration such as 500ms or 5s");
    how.send_timeout = *timeout;
  }
  if (o.confirm == "disk") how.confirm = bus::confirm::disk;
  auto publisher = session->publisher(o.subject, how);
  if (!publisher) return c.fail(publisher.error());
  catch_interrupts();

  std::uint64_t sent = 0, dropped = 0, bytes = 0, last_sequence = 0;
  int status = 0;
  const auto begin = std::chrono::steady_clock::now();
  const auto send = [&](std::string_view text) {
    pace(begin, sent + dropped, o.rate);
    const bus::published done =
        headers.empty() ? publisher->publish(text) : publisher->publish(text, headers);
    if (done) {
      ++sent;
      bytes += text.size();
      last_sequence = done.sequence;
      return true;
    }
    if (done.status == bus::publish_status::dropped) {
      ++dropped;
      return true;
    }
    status = c.fail(publisher->last_error());
    return false;
  };
  if (o.lines) {
    std::string line;
    while (!interrupted() && std::getline(std::cin, line) && send(line)) {
    }
    if (status == 0 && std::ferror(stdin) != 0) status = c.fail(input_error());
  } else {
    std::string payload = o.payload;
    if (!o.has_payload) payload.assign(std::istreambuf_iterator<char>(std::cin), {});
    if (!o.has_payload && std::ferror(stdin) != 0) return c.fail(input_error());
    for (std::uint64_t i = 0; i < o.count && !interrupted() && send(payload); ++i) {
    }
  }
  if (status == 0 && c.json) {
    std::printf("%s\n", dump({{"subject", o.subject},
                              {"stream", publisher->stream()},
                              {"published", sent},
                              {"dropped", dropped},
                              {"bytes", bytes},
                              {"last_sequence", last_sequence}})
                            .c_str());
  } else if (status == 0 && dropped != 0) {
    std::fprintf(
        stderr, "bus: %llu of %llu messages were dropped: the ring was full (overflow=drop_new)\n",
        static_cast<unsigned long long>(dropped), static_cast<unsigned long long>(dropped + sent));
  }
  return status != 0 ? status : dropped != 0 ? exit_loss : 0;
}

}  // namespace

void add_pub(CLI::App& app, context& c) {
  auto o = std::make_shared<options>();
  auto* command = app.add_subcommand("pub", "Publish messages");
  command->add_option("subject", o->subject, "Subject, for example md.eq.AAPL")->required();
  auto* payload = command->add_option("payload", o->payload,
                                      "Payload; without it standard input is one message");
  command->add_flag("--lines", o->lines, "Each line of standard input is a message")
      ->excludes(payload);
  command->add_option("--count,-n", o->count, "Publish it this many times")
      ->check(CLI::PositiveNumber);
  command->add_option("--rate", o->rate, "At most this many messages per second")
      ->check(CLI::PositiveNumber);
  command->add_option("--header,-H", o->headers, "KEY:VALUE, repeatable");
  command->add_option("--key", o->key,
                      "Key: messages of one key keep their order in a stream of several lanes");
  command->add_flag("--exclusive", o->exclusive, "Be the only publisher of the lane");
  command->add_option("--timeout", o->timeout,
                      "How long to wait for space (overflow=block; default: the stream's)");
  command
      ->add_option("--confirm", o->confirm,
                   "Wait until each message is in memory (the ring) or on disk (synced; durable "
                   "streams only) before publishing the next")
      ->capture_default_str()
      ->check(CLI::IsMember({"none", "memory", "disk"}));
  command->footer(
      "Examples:\n  bus pub md.eq.AAPL 101.25\n  bus pub logs.app --lines < app.log\n  bus pub "
      "load.test x --count 100000 --rate 5000\n  bus pub orders.new 42 --confirm disk");
  command->callback([o, payload, &c] {
    o->has_payload = payload->count() != 0;
    c.run = [o, &c] { return run(c, *o); };
  });
}

}  // namespace tools
