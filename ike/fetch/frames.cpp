#include "ike/fetch/frames.hpp"

namespace culvert::ike::fetch {
namespace {

constexpr std::size_t kLengthBytes = 4;

template <typename T>
void append(std::vector<std::uint8_t>& out, T value) {
  for (int shift = 8 * (static_cast<int>(sizeof(T)) - 1); shift >= 0; shift -= 8) {
    out.push_back(static_cast<std::uint8_t>(value >> shift));
  }
}

/// The frame with its length in front.
std::vector<std::uint8_t> framed(const std::vector<std::uint8_t>& frame) {
  std::vector<std::uint8_t> out;
  out.reserve(kLengthBytes + frame.size());
  append(out, static_cast<std::uint32_t>(frame.size()));
  out.insert(out.end(), frame.begin(), frame.end());
  return out;
}

}  // namespace

std::vector<std::uint8_t> encode(const Request& request) {
  std::vector<std::uint8_t> frame;
  append(frame, request.id);
  append(frame, request.most_bytes);
  append(frame, request.most_milliseconds);
  append(frame, static_cast<std::uint16_t>(request.url.size()));
  frame.insert(frame.end(), request.url.begin(), request.url.end());
  frame.insert(frame.end(), request.body.begin(), request.body.end());
  return framed(frame);
}

std::vector<std::uint8_t> encode(const Answer& answer) {
  std::vector<std::uint8_t> frame;
  append(frame, answer.id);
  frame.push_back(answer.ok ? 1 : 0);
  frame.insert(frame.end(), answer.body.begin(), answer.body.end());
  return framed(frame);
}

wire::Parsed<Request> parse_request(wire::Bytes frame) {
  wire::Reader reader(frame);
  const auto id = reader.u64("id");
  if (!id) return std::unexpected(id.error());
  const auto bytes = reader.u32("most bytes");
  if (!bytes) return std::unexpected(bytes.error());
  const auto milliseconds = reader.u32("most milliseconds");
  if (!milliseconds) return std::unexpected(milliseconds.error());
  const auto length = reader.u16("URL length");
  if (!length) return std::unexpected(length.error());
  const auto url = reader.bytes(*length, "URL");
  if (!url) return std::unexpected(url.error());
  const wire::Bytes body = reader.rest();
  return Request{*id,
                 *bytes,
                 *milliseconds,
                 std::string(url->begin(), url->end()),
                 {body.begin(), body.end()}};
}

wire::Parsed<Answer> parse_answer(wire::Bytes frame) {
  wire::Reader reader(frame);
  const auto id = reader.u64("id");
  if (!id) return std::unexpected(id.error());
  const auto ok = reader.u8("result");
  if (!ok) return std::unexpected(ok.error());
  if (*ok > 1) return std::unexpected(reader.invalid("result", "neither 0 nor 1"));
  const wire::Bytes body = reader.rest();
  return Answer{*id, *ok == 1, {body.begin(), body.end()}};
}

bool Frames::add(wire::Bytes bytes) {
  bytes_.insert(bytes_.end(), bytes.begin(), bytes.end());
  wire::Reader reader(bytes_);
  const auto length = reader.u32("length");
  return !length || *length <= longest_;
}

std::optional<std::vector<std::uint8_t>> Frames::next() {
  wire::Reader reader(bytes_);
  const auto length = reader.u32("length");
  if (!length || *length > longest_) return std::nullopt;
  const auto frame = reader.bytes(*length, "frame");
  if (!frame) return std::nullopt;
  std::vector<std::uint8_t> result(frame->begin(), frame->end());
  bytes_.erase(bytes_.begin(),
               bytes_.begin() + static_cast<std::ptrdiff_t>(kLengthBytes + result.size()));
  return result;
}

}  // namespace culvert::ike::fetch
