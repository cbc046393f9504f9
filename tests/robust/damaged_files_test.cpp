// Damaged files: wrong owners, modes and kinds, truncated, extended, overwritten, of another
// version. Every call works or returns an error with a reason; nothing crashes, hangs or dies of
// SIGBUS.

#include <filesystem>
#include <functional>
#include <optional>

#include "layout/bus_files.hpp"
#include "layout/lane.hpp"
#include "layout/process.hpp"
#include "layout/segment_header.hpp"
#include "robust.hpp"

namespace {

using robust::bytes;
using robust::fails_with;
using robust::poke;
using robust::read_file;
using robust::run_in_child;
using robust::write_file;
using namespace std::chrono_literals;

/// A bus with a stream `s`, a small default stream, some messages, and one process that stays:
/// this one.
class DamagedFiles : public ::testing::Test {
 protected:
  void SetUp() override {
    ::alarm(110);
    auto session = bus::open(place_.url());
    ASSERT_TRUE(session);
    keeper_.emplace(std::move(*session));
    auto rest = test::small_stream("default", bus::overflow::drop_oldest);
    rest.subjects = {">"};
    ASSERT_TRUE(keeper_->add_stream(rest));
    auto config = test::small_stream("s", bus::overflow::block);
    config.send_timeout = 20ms;
    ASSERT_TRUE(keeper_->add_stream(config));
    bus::subscriber_options watching;
    watching.gate = false;
    auto reader = keeper_->subscribe("s.>", watching);
    auto writer = keeper_->publisher("s.keeper");
    ASSERT_TRUE(reader && writer);
    reader_.emplace(std::move(*reader));
    writer_.emplace(std::move(*writer));
    for (int i = 0; i < 10; ++i) ASSERT_TRUE(writer_->publish("before"));
    for (const auto& entry : std::filesystem::directory_iterator(place_.directory() + "/processes"))
      if (const std::string name = entry.path().filename();
          name.find_first_not_of("0123456789") == std::string::npos)
        process_ = entry.path();
    ASSERT_FALSE(process_.empty());
    files_ = {place_.directory() + "/control",        place_.stream("s") + "/stream",
              place_.stream("s") + "/subjects",       place_.stream("s") + "/lane-0",
              place_.stream("s") + "/lane-0.readers", process_};
    for (const auto& path : files_) pristine_.push_back(read_file(path));
  }
  void TearDown() override { ::alarm(0); }

  void restore() {
    for (std::size_t i = 0; i < files_.size(); ++i) write_file(files_[i], pristine_[i]);
  }

  /// Uses the bus in every way, like a program. Errors are accepted if they have a code and a
  /// reason.
  void use_everything() {
    const auto note = [](const bus::error& failure) {
      EXPECT_NE(failure.code, bus::errc::ok);
      EXPECT_FALSE(failure.what.empty());
      EXPECT_FALSE(failure.why.empty());
    };
    auto session = bus::open(place_.url());
    if (!session) return note(session.error());
    bus::subscriber_options from_all;
    from_all.start = bus::start::all();
    from_all.gate = false;
    auto subscriber = session->subscribe("s.>", from_all);
    if (!subscriber) note(subscriber.error());
    auto publisher = session->publisher("s.a");
    if (!publisher) note(publisher.error());
    if (publisher) {
      for (int i = 0; i < 3; ++i) {
        if (publisher->publish("after")) continue;
        note(publisher->last_error());
        break;
      }
    }
    if (subscriber) {
      std::size_t got = 0;
      (void)subscriber->poll(100, [&](const bus::message& m) {
        got += m.size() + m.subject().size() + m.headers().size();
      });
      (void)subscriber->next(1us);
      if (subscriber->failure()) note(*subscriber->failure());
    }
    if (auto info = session->stream("s"); !info) note(info.error());
    if (auto all = session->streams(); !all) note(all.error());
    if (auto all = session->processes(); !all) note(all.error());
    // Adding the stream again reads the existing one.
    if (auto added = session->add_stream(test::small_stream("s", bus::overflow::reject)); !added)
      note(added.error());
  }

  /// The error of the first call that needs file `index`; none when it works.
  std::optional<bus::error> error_of_use(std::size_t index) {
    auto session = bus::open(place_.url());
    if (index == 0) return session ? std::nullopt : std::optional(session.error());
    if (!session) return session.error();
    if (index == 1) {
      auto info = session->stream("s");
      return info ? std::nullopt : std::optional(info.error());
    }
    if (index == 5) {  // a process whose file is unreadable is not listed
      auto all = session->processes();
      if (!all) return all.error();
      return all->size() == 2
                 ? std::nullopt
                 : std::optional(bus::error{bus::errc::corrupt, 0, process_, "not listed", ""});
    }
    auto publisher = session->publisher("s.new");
    return publisher ? std::nullopt : std::optional(publisher.error());
  }
  ::testing::AssertionResult use_fails_with(std::size_t index, bus::errc code,
                                            const std::string& names) {
    const auto failure = error_of_use(index);
    if (!failure) return ::testing::AssertionFailure() << files_[index] << ": it worked";
    return robust::is_error(*failure, code, names) << " with " << files_[index];
  }
  std::string name_of(std::size_t index) const {
    return std::filesystem::path(files_[index]).filename();
  }

  test::scratch place_;
  std::optional<bus::session> keeper_;
  std::optional<bus::subscriber> reader_;
  std::optional<bus::publisher> writer_;
  std::string process_;
  std::vector<std::string> files_;
  std::vector<bytes> pristine_;
};

TEST_F(DamagedFiles, UndamagedTheyWork) {
  for (std::size_t i = 0; i < files_.size(); ++i) {
    const auto failure = error_of_use(i);
    EXPECT_FALSE(failure) << failure->message();
  }
  // The checker confuses neither one error with another nor success with an error.
  poke<std::uint64_t>(files_[3], 0, 0);
  EXPECT_TRUE(use_fails_with(3, bus::errc::corrupt, "lane-0"));
  EXPECT_FALSE(use_fails_with(3, bus::errc::unsupported, "lane-0"));
  EXPECT_FALSE(use_fails_with(3, bus::errc::corrupt, "another-file"));
  EXPECT_FALSE(use_fails_with(5, bus::errc::corrupt, ""));
  restore();
}

TEST_F(DamagedFiles, OfAnotherSizeAreCorrupt) {
  for (std::size_t i = 0; i < files_.size(); ++i) {
    const auto size = pristine_[i].size();
    for (const std::size_t changed : {std::size_t{0}, std::size_t{1}, std::size_t{63}, size / 2,
                                      size - 4096, size - 1, size + 1, size + 4096, size * 2}) {
      if (changed == size || ::testing::Test::HasFailure()) continue;
      SCOPED_TRACE(name_of(i) + " of " + std::to_string(size) + " bytes cut or grown to " +
                   std::to_string(changed));
      EXPECT_EQ(run_in_child(30,
                             [&] {
                               // The session that stays has the file mapped; only this child
                               // opens it now.
                               const auto other = files_[i] + ".aside";
                               std::filesystem::rename(files_[i], other);
                               bytes content = pristine_[i];
                               content.resize(changed);
                               write_file(files_[i], content);
                               EXPECT_TRUE(
                                   use_fails_with(i, bus::errc::corrupt, i == 5 ? "" : name_of(i)));
                               use_everything();
                               std::filesystem::rename(other, files_[i]);
                             }),
                "");
    }
  }
  restore();
  EXPECT_EQ(run_in_child(30, [&] { EXPECT_FALSE(error_of_use(3)); }), "");
}

TEST_F(DamagedFiles, OfAnotherVersionAreUnsupported) {
  using bus::layout::segment_header;
  for (std::size_t i = 0; i < files_.size(); ++i) {
    SCOPED_TRACE(name_of(i));
    // a process of another version is not listed
    const auto code = i == 5 ? bus::errc::corrupt : bus::errc::unsupported;
    const auto says = [&](const std::string& text) { return i == 5 ? std::string() : text; };
    const auto known =
        std::to_string(bus::layout::layout_major) + "." + std::to_string(bus::layout::layout_minor);
    poke<std::uint16_t>(files_[i], offsetof(segment_header, major), 7);
    poke<std::uint16_t>(files_[i], offsetof(segment_header, minor), 42);
    EXPECT_TRUE(use_fails_with(i, code, says("7.42")));
    EXPECT_TRUE(use_fails_with(i, code, says("supports " + known)));
    EXPECT_TRUE(use_fails_with(i, code, says(name_of(i))));
    restore();
    // A higher minor version only adds fields.
    poke<std::uint16_t>(files_[i], offsetof(segment_header, minor), 42);
    EXPECT_FALSE(error_of_use(i));
    restore();
    poke<std::uint32_t>(files_[i], offsetof(segment_header, abi), bus::layout::abi_tag ^ 0x30000u);
    EXPECT_TRUE(use_fails_with(i, code, says("architecture")));
    restore();
    poke<std::uint32_t>(files_[i], offsetof(segment_header, kind), 99);
    EXPECT_TRUE(use_fails_with(i, bus::errc::corrupt, says(name_of(i))));
    restore();
  }
}

// Every byte of the headers, and of the parts after them that matter, is changed before the bus
// is opened.
struct region {
  std::size_t file;
  std::uint64_t from;
  std::uint64_t bytes;
};
std::string region_name(const ::testing::TestParamInfo<region>& which) {
  static const char* const names[] = {"control", "stream",  "subjects",
                                      "lane",    "readers", "process"};
  return std::string(names[which.param.file]) + "_from_" + std::to_string(which.param.from);
}
class FlippedBytes : public DamagedFiles, public ::testing::WithParamInterface<region> {};

TEST_P(FlippedBytes, NeverCrashOrHang) {
  const region where = GetParam();
  test::shared_value<std::uint64_t> at, flip, errors, done;
  *at = where.from;
  const auto sweep = [&] {
    for (; *at < where.from + where.bytes; ++*at) {
      for (const unsigned mask : {0xffu, *at % 2 == 0 ? 0x01u : 0x80u}) {
        *flip = mask;
        ::alarm(25);
        const auto old = static_cast<unsigned char>(pristine_[where.file][*at]);
        poke<unsigned char>(files_[where.file], *at, static_cast<unsigned char>(old ^ mask));
        use_everything();
        if (error_of_use(where.file)) ++*errors;
        restore();
        ++*done;
        if (::testing::Test::HasFailure()) return;
      }
    }
  };
  const std::string end = run_in_child(100, sweep);
  EXPECT_EQ(end, "") << name_of(where.file) << ": byte " << *at << " xor " << *flip;
  EXPECT_EQ(*done, 2 * where.bytes);
  if (where.from == 0) {
    EXPECT_GE(*errors, 2 * 8u) << "at least a wrong magic is noticed";
  }
  // After the restore everything works as before.
  restore();
  EXPECT_EQ(run_in_child(30, [&] { EXPECT_FALSE(error_of_use(where.file)); }), "");
}

INSTANTIATE_TEST_SUITE_P(Files, FlippedBytes,
                         ::testing::Values(region{0, 0, 512}, region{1, 0, 512}, region{2, 0, 512},
                                           region{3, 0, 640}, region{4, 0, 512}, region{5, 0, 512},
                                           region{2, bus::layout::subjects_offset, 96},
                                           region{3, 4096, 256},
                                           region{3, bus::layout::lane_data_offset, 192},
                                           region{4, bus::layout::readers_offset, 64},
                                           region{5, bus::layout::process_slots_offset, 512}),
                         region_name);

TEST_F(DamagedFiles, OfAnotherKindAreRefused) {
  for (std::size_t i = 0; i < files_.size(); ++i) {
    const auto refused = [&](const std::string& kind) {
      SCOPED_TRACE(name_of(i) + " is " + kind);
      EXPECT_EQ(run_in_child(30,
                             [&] {
                               const auto failure = error_of_use(i);
                               ASSERT_TRUE(failure) << "it worked";
                               EXPECT_TRUE(failure->code == bus::errc::corrupt ||
                                           failure->code == bus::errc::permission)
                                   << bus::errc_name(failure->code) << ": " << failure->message();
                               EXPECT_NE(failure->message().find(name_of(i)), std::string::npos)
                                   << failure->message();
                               use_everything();
                             }),
                "");
    };
    const auto aside = files_[i] + ".aside";
    std::filesystem::rename(files_[i], aside);
    std::filesystem::create_symlink(aside, files_[i]);
    refused("a symbolic link");
    std::filesystem::remove(files_[i]);
    ASSERT_EQ(::mkfifo(files_[i].c_str(), 0600), 0);
    refused("a named pipe");
    std::filesystem::remove(files_[i]);
    std::filesystem::create_directory(files_[i]);
    refused("a directory");
    std::filesystem::remove(files_[i]);
    std::filesystem::rename(aside, files_[i]);
  }
}

TEST(WrongPermissions, OfTheDirectory) {
  ::alarm(100);
  test::scratch place;
  ASSERT_TRUE(bus::open(place.url()));
  for (const unsigned mode : {0777u, 0770u, 0702u, 01777u}) {
    ASSERT_EQ(::chmod(place.directory().c_str(), mode), 0);
    EXPECT_TRUE(fails_with(bus::open(place.url()), bus::errc::permission, place.directory()))
        << std::oct << mode;
  }
  ASSERT_EQ(::chmod(place.directory().c_str(), 0755), 0);  // readable by others, but not writable
  EXPECT_TRUE(bus::open(place.url()));
  ASSERT_EQ(::chmod(place.directory().c_str(), 0700), 0);

  // Not a directory of ours: a file, or a link, even to a good bus.
  const auto aside = place.root() + "/aside";
  std::filesystem::rename(place.directory(), aside);
  std::filesystem::create_symlink(aside, place.directory());
  EXPECT_TRUE(fails_with(bus::open(place.url()), bus::errc::permission, place.directory()));
  std::filesystem::remove(place.directory());
  write_file(place.directory(), {'x'});
  EXPECT_TRUE(fails_with(bus::open(place.url()), bus::errc::permission, place.directory()));
  std::filesystem::remove(place.directory());
  std::filesystem::create_symlink(place.root() + "/nowhere", place.directory());
  EXPECT_FALSE(bus::open(place.url()));
  std::filesystem::remove(place.directory());
  std::filesystem::rename(aside, place.directory());
  EXPECT_TRUE(bus::open(place.url()));
}

TEST(WrongPermissions, ASquattersBusIsNotUsed) {
  ::alarm(100);
  test::scratch place;
  // As root: a directory of the bus's name that an ordinary user owns.
  if (::geteuid() == 0) {
    ASSERT_TRUE(bus::open(place.url()));
    ASSERT_EQ(::chown(place.directory().c_str(), 65534, 65534), 0);
    EXPECT_TRUE(fails_with(bus::open(place.url()), bus::errc::permission, "65534"));
  }
  // Where nothing can be created, an ordinary user gets an error.
  EXPECT_EQ(run_in_child(60,
                         [&] {
                           ASSERT_EQ(::chmod(place.root().c_str(), 0555), 0);
                           robust::become_ordinary();
                           EXPECT_TRUE(fails_with(bus::open(place.url("mine")),
                                                  bus::errc::permission, place.directory("mine")));
                           ASSERT_EQ(::access(place.root().c_str(), W_OK), -1);
                         }),
            "");
  ASSERT_EQ(::chmod(place.root().c_str(), 0700), 0);
}

TEST(WrongPermissions, OfFilesAsAnOrdinaryUser) {
  test::scratch place;
  if (::geteuid() == 0) {
    ASSERT_EQ(::chown(place.root().c_str(), 65534, 65534), 0);
  }
  EXPECT_EQ(run_in_child(
                60,
                [&] {
                  robust::become_ordinary();
                  const std::string directory = place.directory();  // of this user
                  const std::string stream = directory + "/streams/s";
                  {
                    auto session = bus::open(place.url());
                    ASSERT_TRUE(session) << session.error().message();
                    ASSERT_TRUE(session->add_stream(test::small_stream("s", bus::overflow::block)));
                  }
                  struct denied {
                    std::string path;
                    unsigned mode, good;
                    std::function<bus::result<void>()> use;
                  };
                  const auto open = [&]() -> bus::result<void> {
                    auto session = bus::open(place.url());
                    if (!session) return std::move(session.error());
                    return {};
                  };
                  const auto publish = [&]() -> bus::result<void> {
                    auto session = bus::open(place.url());
                    if (!session) return std::move(session.error());
                    auto publisher = session->publisher("s.a");
                    if (!publisher) return std::move(publisher.error());
                    return {};
                  };
                  const auto subscribe = [&]() -> bus::result<void> {
                    auto session = bus::open(place.url());
                    if (!session) return std::move(session.error());
                    auto subscriber = session->subscribe("s.>");
                    if (!subscriber) return std::move(subscriber.error());
                    return {};
                  };
                  const auto broken = [&]() -> bus::result<void> {  // other streams are unaffected
                    auto session = bus::open(place.url());
                    if (!session) return std::move(session.error());
                    EXPECT_TRUE(session->subscribe("other.>"));
                    auto found = session->broken_streams();
                    if (!found.empty()) return std::move(found.front());
                    return {};
                  };
                  const auto add = [&]() -> bus::result<void> {
                    auto session = bus::open(place.url());
                    if (!session) return std::move(session.error());
                    return session->add_stream(test::small_stream("u", bus::overflow::block));
                  };
                  const std::vector<denied> all = {
                      {directory + "/control", 0000, 0600, open},
                      {directory + "/control", 0400, 0600, open},
                      {directory + "/processes", 0500, 0700, open},
                      {directory + "/streams", 0500, 0700, add},
                      {directory + "/lock", 0000, 0600, add},
                      {stream + "/lane-0", 0000, 0600, publish},
                      {stream + "/lane-0", 0400, 0600, publish},
                      {stream + "/subjects", 0400, 0600, publish},
                      {stream + "/lane-0", 0000, 0600, subscribe},
                      {stream + "/lane-0.readers", 0400, 0600, subscribe},
                      {stream + "/stream", 0000, 0600, broken},
                      {directory, 0000, 0700, open},
                  };
                  for (const auto& one : all) {
                    ASSERT_EQ(::chmod(one.path.c_str(), one.mode), 0) << one.path;
                    EXPECT_TRUE(fails_with(one.use(), bus::errc::permission))
                        << one.path << " with mode " << std::oct << one.mode;
                    ASSERT_EQ(::chmod(one.path.c_str(), one.good), 0);
                    const auto again = one.use();
                    EXPECT_TRUE(again || again.error().code == bus::errc::conflict)
                        << again.error().message();
                  }
                }),
            "");
}

}  // namespace
