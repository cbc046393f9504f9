/// schema_drift: publishers begin to leave out a field that one worker needs. The first dead letter
/// raises an alarm. A worker that does not need the field replaces the old one, and the dead
/// letters are published again. No message is lost or processed twice.

#include "example.hpp"

#include <cstdint>
#include <set>

namespace {

using namespace std::chrono_literals;
using example::expect;
using example::must;
using example::note;

constexpr int users = 100, with_plan = 60, until_alarm = 80;

void declare(bus::session& session) {
  for (const char* name : {"signups", "invoices"}) {
    bus::stream_config stream;
    stream.name = name;
    stream.subjects = {stream.name + ".>"};
    must(session.add_stream(stream));
  }
  bus::group_config group;
  group.name = "billing";
  group.stream = "signups";
  must(session.add_group(group));
}

/// Publishes "USER PLAN", and after the drift only "USER".
void sign_up(bus::publisher& signups, int user) {
  const std::string text = std::to_string(user);
  must(signups.publish(user <= with_plan ? text + " gold" : text), signups);
}

void bill(const std::string& bus_name, bool needs_plan) {
  bus::session session = must(bus::open(bus_name));
  bus::publisher invoices = must(session.publisher("invoices.new"));
  bus::consumer worker = must(session.consume("", {.group = "billing", .stream = "signups"}));
  example::stop_on_sigterm(worker);
  worker.run([&](bus::lease& signup) {
    const std::string_view text = signup.text();
    // not nack(): every retry would fail
    if (needs_plan && text.find(' ') == text.npos)
      note(signup.reject("no plan"));
    else
      must(invoices.publish(text.substr(0, text.find(' '))), invoices);
  });
}

/// Publishes the dead letters again to their original subjects, and drops them. All groups of the
/// stream get them again: a group that has done them must recognize them, by content or a header.
std::size_t redrive(bus::session& session) {
  const auto letters = must(session.dead_letters("signups", "billing"));
  if (letters.empty()) return 0;
  bus::publisher again = must(session.publisher(letters.front().subject));
  for (const bus::dead_letter& letter : letters) {
    std::vector<bus::header> headers;
    for (const auto& [key, value] : letter.headers) headers.push_back({key, value});
    must(again.publish_to(letter.subject, letter.payload, headers), again);
  }
  // Only those that were published again: new ones may have arrived meanwhile.
  must(session.drop_dead_letters("signups", "billing", letters.back().sequence));
  return letters.size();
}

void schema_drift() {
  const example::bus_of_this_run bus("schema_drift");
  bus::session session = must(bus::open(bus.name()));
  declare(session);
  bus::subscriber invoices = must(session.subscribe("invoices.>"));
  bus::subscriber alarm = must(session.subscribe("_dlq.signups.billing"));
  example::process old_worker([&] { bill(bus.name(), true); });

  bus::publisher signups = must(session.publisher("signups.web"));
  int user = 0;
  while (user < until_alarm) sign_up(signups, ++user);
  const auto letter = alarm.next(20s);
  if (!letter) throw std::runtime_error("no alarm for 20 seconds");
  std::printf("alarm: %s: %s: '%s'\n",
              std::string(letter->header("death-reason").value_or("")).c_str(),
              std::string(letter->header("death-error").value_or("")).c_str(),
              std::string(letter->text()).c_str());
  expect(letter->text() == std::to_string(with_plan + 1), "the alarm reports the first one");

  old_worker.end("old worker");
  example::process new_worker([&] { bill(bus.name(), false); });
  while (user < users) sign_up(signups, ++user);
  const auto redriven = redrive(session);

  std::set<std::string> billed;
  for (int i = 0; i < users; ++i) {
    const auto invoice = invoices.next(20s);
    if (!invoice) throw std::runtime_error("no invoice for 20 seconds");
    expect(billed.insert(std::string(invoice->text())).second, "nobody is billed twice");
  }
  new_worker.end("new worker");
  const auto info = must(session.group("signups", "billing"));
  expect(info.dead_letters_kept == 0 && info.counts.dead == redriven && redriven > 0 &&
             info.counts.settled == users && info.counts.pending + info.counts.unclaimed == 0,
         "every signup was billed, dead letters too");
  std::printf("%d users billed once, %zu of them from the dead letters\n", users, redriven);
}

}  // namespace

int main() { return example::run(schema_drift); }
