#include <array>
#include <cmath>
#include <string>

#include <arpa/inet.h>
#include <catch2/catch.hpp>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "runtime/metrics_endpoint.hpp"

using namespace culvert::runtime;

namespace {

std::string scrape(std::uint16_t port) {
  const int descriptor = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  REQUIRE(::connect(descriptor, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0);
  const std::string request = "GET /metrics HTTP/1.0\r\n\r\n";
  REQUIRE(::send(descriptor, request.data(), request.size(), 0) ==
          static_cast<ssize_t>(request.size()));
  std::string answer;
  std::array<char, 4096> buffer;
  for (ssize_t count = 0; (count = ::recv(descriptor, buffer.data(), buffer.size(), 0)) > 0;) {
    answer.append(buffer.data(), static_cast<std::size_t>(count));
  }
  ::close(descriptor);
  return answer;
}

bool contains(const std::string& text, const std::string& line) {
  return text.find(line) != std::string::npos;
}

}  // namespace

TEST_CASE("metrics: the memory of this process, as every exporter names it") {
  const auto family = process_memory();
  CHECK(family.name == "process_resident_memory_bytes");
  REQUIRE(family.metric.size() == 1);
  CHECK(family.metric[0].gauge.value > 1e6);
  CHECK(family.metric[0].gauge.value < 1e12);
}

TEST_CASE("metrics: what was published last is what a scrape reads") {
  MetricsSnapshot snapshot;
  const auto endpoint = MetricsEndpoint::create("127.0.0.1:0", snapshot);
  REQUIRE(endpoint);
  REQUIRE((*endpoint)->port() != 0);
  CHECK(contains(scrape((*endpoint)->port()), "200 OK"));

  snapshot.publish({Family::counter("culvert_drops_total", "Packets dropped")
                        .add({{"reason", "no_route"}, {"direction", "out"}}, 4)
                        .take(),
                    Family::gauge("culvert_child_up", "Both directions are alive")
                        .add({{"child", "say \"hi\"\n"}}, 1)
                        .take()});
  const std::string text = scrape((*endpoint)->port());

  CHECK(contains(text, "# TYPE culvert_drops_total counter"));
  CHECK(contains(text, "culvert_drops_total{reason=\"no_route\",direction=\"out\"} 4"));
  CHECK(contains(text, "culvert_child_up{child=\"say \\\"hi\\\"\\n\"} 1"));
}

TEST_CASE("metrics: a histogram is cumulative and ends at infinity") {
  const std::array bounds{1.0, 2.0, 4.0};
  const std::array<std::uint64_t, 4> counts{3, 0, 2, 1};
  const auto family =
      Family::histogram("culvert_worker_burst_packets", "x").add({}, bounds, counts, 20).take();
  const auto& histogram = family.metric.at(0).histogram;
  REQUIRE(histogram.bucket.size() == 4);
  CHECK(histogram.bucket[0].cumulative_count == 3);
  CHECK(histogram.bucket[1].cumulative_count == 3);
  CHECK(histogram.bucket[2].cumulative_count == 5);
  CHECK(histogram.bucket[3].cumulative_count == 6);
  CHECK(std::isinf(histogram.bucket[3].upper_bound));
  CHECK(histogram.sample_count == 6);
  CHECK(histogram.sample_sum == 20);
}

TEST_CASE("metrics: an address that is taken is an error with the address in it") {
  const auto first = MetricsEndpoint::create("127.0.0.1:0", [] { return MetricFamilies{}; });
  REQUIRE(first);
  const std::string address = "127.0.0.1:" + std::to_string((*first)->port());
  const auto second = MetricsEndpoint::create(address, [] { return MetricFamilies{}; });
  REQUIRE_FALSE(second);
  CHECK(contains(second.error(), address));
}
