#pragma once
/// typed: publishers and subscribers of trivially copyable structs. The first typed publisher of a
/// subject records its type; another type or layout is refused with `type_mismatch` on either side.
/// Each message is marked as typed or not: typed subscribers do not get the messages of untyped
/// publishers.
///
/// Threads, Cost, Lifetime   as publisher and subscriber; types are compared once per subject

#include <cstring>
#include <memory>
#include <source_location>
#include <string_view>
#include <type_traits>
#include <utility>

#include <bus/publisher.hpp>
#include <bus/session.hpp>
#include <bus/subscriber.hpp>

namespace bus {

namespace detail {

constexpr std::uint64_t type_hash_of(std::string_view text, std::uint64_t seed) noexcept {
  for (const char c : text) seed = (seed ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
  return seed;
}

template <class T>
constexpr std::string_view type_name() noexcept {
  if constexpr (requires {
                  { T::bus_type } -> std::convertible_to<std::string_view>;
                }) {
    return T::bus_type;
  } else {
    return __PRETTY_FUNCTION__;
  }
}

/// Hash of name, layout, size and alignment. A struct may define `static constexpr std::string_view
/// bus_type = "quote/2";` (a name that is stable across compilers and namespaces) and `static
/// constexpr std::string_view bus_layout = "..."` (its fields, in order).
template <class T>
constexpr std::uint64_t type_hash() noexcept {
  std::uint64_t h = type_hash_of(type_name<T>(), 0xcbf29ce484222325u);
  if constexpr (requires {
                  { T::bus_layout } -> std::convertible_to<std::string_view>;
                })
    h = type_hash_of(T::bus_layout, h);
  h = (h ^ sizeof(T)) * 0x100000001b3u;
  h = (h ^ alignof(T)) * 0x100000001b3u;
  return h == 0 ? 1 : h;
}

BUS_EXPORT result<void> claim_type(publisher_core& core, std::uint64_t type,
                                   std::string_view type_name, std::size_t bytes);
BUS_EXPORT void expect_type(subscriber_core& core, std::uint64_t type, std::string_view type_name,
                            std::size_t bytes);

}  // namespace detail

/// Types whose bytes are valid in another process. Padding bytes are sent unchanged.
template <class T>
concept plain_message =
    std::is_trivially_copyable_v<T> && std::is_standard_layout_v<T> && !std::is_pointer_v<T> &&
    alignof(T) <= 32;

template <class T>
class typed_publisher {
  static_assert(plain_message<T>,
                "T must be trivially copyable, standard layout, aligned to at most 32");

 public:
  /// Errors: as session::publisher; type_mismatch (the subject has another type)
  static result<typed_publisher> open(session& on, std::string_view subject,
                                      publisher_options options = {}) {
    auto made = on.publisher(subject, std::move(options));
    if (!made) return std::move(made.error());
    auto claimed =
        detail::claim_type(*made->core_, detail::type_hash<T>(), detail::type_name<T>(), sizeof(T));
    if (!claimed) return std::move(claimed.error());
    return typed_publisher(std::move(*made));
  }

  published publish(const T& value) noexcept {
    return untyped_.publish(std::as_bytes(std::span(&value, 1)));
  }
  /// For batches, headers and loans: its messages to its own subject are marked as typed.
  publisher& untyped() noexcept { return untyped_; }

 private:
  explicit typed_publisher(publisher untyped) noexcept : untyped_(std::move(untyped)) {}
  publisher untyped_;
};

template <class T>
class typed_subscriber {
  static_assert(plain_message<T>,
                "T must be trivially copyable, standard layout, aligned to at most 32");

 public:
  /// A subject of another type, or of none, sets failure() to `type_mismatch` and is not delivered.
  /// The same holds for a message of an untyped publisher, whatever its size.
  /// Errors: as session::subscribe
  static result<typed_subscriber> open(session& on, std::string_view pattern,
                                       subscriber_options options = {}) {
    auto made = on.subscribe(pattern, std::move(options));
    if (!made) return std::move(made.error());
    detail::expect_type(*made->core_, detail::type_hash<T>(), detail::type_name<T>(), sizeof(T));
    return typed_subscriber(std::move(*made));
  }

  /// Calls `fn(const T&, const message&)`; otherwise as subscriber::poll().
  template <class Fn>
  std::size_t poll(std::size_t max, Fn&& fn) {
    return untyped_.poll(max, [&](const message& m) { fn(value_of(m), m); });
  }
  std::optional<T> next(std::chrono::nanoseconds wait) {
    const auto m = untyped_.next(wait);
    if (!m) return std::nullopt;
    return value_of(*m);
  }
  subscriber& untyped() noexcept { return untyped_; }

 private:
  static T value_of(const message& m) noexcept {
    T value;
    std::memcpy(&value, m.payload().data(), sizeof(T));
    return value;
  }
  explicit typed_subscriber(subscriber untyped) noexcept : untyped_(std::move(untyped)) {}
  subscriber untyped_;
};

}  // namespace bus
