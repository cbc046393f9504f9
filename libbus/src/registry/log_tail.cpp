#include "registry/log_tail.hpp"

#include <cerrno>

#include "os/failure.hpp"

namespace bus::registry {

std::string log_path(const std::string& stream_directory, std::uint32_t lane) {
  return stream_directory + "/log/lane-" + std::to_string(lane);
}

error log_tail::failed(int failure) const {
  if (failure == -ENOENT)
    return {errc::unavailable, ENOENT, "cannot read the log in " + directory_,
            "it does not exist: busd has not created it yet, or its directory was moved",
            "start busd with the directory it had (bus doctor)"};
  if (failure == -EBADMSG)
    return {errc::corrupt, 0, "cannot read the log in " + directory_,
            "neither its state nor any segment is intact", "bus stream verify shows what is left"};
  if (failure == -ESTALE)
    return {errc::corrupt, 0, "cannot read the log in " + directory_,
            "its files belong to another stream or lane",
            "put the lane's own directory back, and start busd again"};
  if (failure == -EPROTONOSUPPORT)
    return {errc::unsupported, 0, "cannot read the log in " + directory_,
            "it was written by a newer busd", "use the newer library here too"};
  return os::failure(-failure, "cannot read the log in " + directory_);
}

result<std::unique_ptr<log_tail>> log_tail::open(const std::string& stream_directory,
                                                 std::uint64_t stream_id, std::uint32_t lane) {
  std::unique_ptr<log_tail> made(new log_tail(log_path(stream_directory, lane)));
  const int failure = made->history_.open({stream_id, lane});
  if (failure != 0) return made->failed(failure);
  return made;
}

}  // namespace bus::registry
