#pragma once
/// bus: includes the whole public interface.
///
///   auto session = bus::open();                                  // or bus::open("bus:///trading")
///   auto quotes = session->publisher("md.eq.AAPL");
///   if (!quotes->publish("101.25")) report(quotes->last_error());
///
///   auto feed = session->subscribe("md.>");
///   while (auto m = feed->next(std::chrono::seconds(1))) use(m->subject(), m->text());

#include <bus/error.hpp>
#include <bus/message.hpp>
#include <bus/log_files.hpp>
#include <bus/publisher.hpp>
#include <bus/recording.hpp>
#include <bus/replay.hpp>
#include <bus/session.hpp>
#include <bus/statistics.hpp>
#include <bus/stream_config.hpp>
#include <bus/subscriber.hpp>
#include <bus/typed.hpp>
#include <bus/version.hpp>
