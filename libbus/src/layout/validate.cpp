#include "layout/validate.hpp"

namespace bus::layout {

segment_header make_header(segment_kind kind, std::uint32_t header_bytes, std::uint64_t total_bytes,
                           std::uint64_t bus_id, std::uint64_t owner_id,
                           std::uint64_t created_ns) noexcept {
  segment_header made{};
  made.magic = segment_magic;
  made.major = layout_major;
  made.minor = layout_minor;
  made.abi = abi_tag;
  made.kind = kind;
  made.header_bytes = header_bytes;
  made.total_bytes = total_bytes;
  made.bus_id = bus_id;
  made.owner_id = owner_id;
  made.created_ns = created_ns;
  return made;
}

error corrupt(const std::string& path, std::string why) {
  return {errc::corrupt, 0, "cannot use " + path, std::move(why),
          "record what can be read (bus record '>' --all --to FILE), end the bus's processes, and "
          "remove its shared memory (bus rm): busd recreates streams that have a log"};
}

result<void> check_header(const segment_header& found, segment_kind kind, std::uint64_t file_bytes,
                          const std::string& path) {
  const segment_header header = found;  // read once
  if (header.magic != segment_magic) return corrupt(path, "its magic number is wrong");
  if (header.abi != abi_tag)
    return error{errc::unsupported, 0, "cannot use " + path,
                 "it was created on another architecture or byte order",
                 "use one architecture per bus, or another bus name"};
  if (header.major != layout_major)
    return error{
        errc::unsupported, 0, "cannot use " + path,
        "its layout version is " + std::to_string(header.major) + "." +
            std::to_string(header.minor) + ", this library supports " +
            std::to_string(layout_major) + "." + std::to_string(layout_minor),
        "use the library version that created it, and record what you need with it (bus record)"};
  if (header.kind != kind) return corrupt(path, "it is a segment of another kind");
  if (header.total_bytes != file_bytes)
    return corrupt(path, "it has " + std::to_string(file_bytes) + " bytes, but its header says " +
                             std::to_string(header.total_bytes) + ": truncated or overwritten");
  return {};
}

}  // namespace bus::layout
