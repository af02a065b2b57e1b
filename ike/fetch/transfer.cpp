#include "ike/fetch/transfer.hpp"

#include <array>
#include <cstring>
#include <memory>

#include <curl/curl.h>

namespace culvert::ike::fetch {
namespace {

constexpr long kMostRedirects = 2;
constexpr long kConnectMilliseconds = 3000;

struct EasyFree {
  void operator()(CURL* easy) const { curl_easy_cleanup(easy); }
};
struct ListFree {
  void operator()(curl_slist* list) const { curl_slist_free_all(list); }
};

struct Body {
  std::vector<std::uint8_t> bytes;
  std::size_t most = 0;
  bool too_long = false;
};

/// libcurl hands over a piece; anything but its size ends the transfer.
std::size_t take(const char* data, std::size_t size, std::size_t count, void* to) {
  Body& body = *static_cast<Body*>(to);
  const std::size_t piece = size * count;
  if (piece > body.most - body.bytes.size()) {
    body.too_long = true;
    return 0;
  }
  body.bytes.insert(body.bytes.end(), data, data + piece);
  return piece;
}

void set_bounds(CURL* easy, const Request& request) {
  curl_easy_setopt(easy, CURLOPT_URL, request.url.c_str());
  curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http");
  curl_easy_setopt(easy, CURLOPT_REDIR_PROTOCOLS_STR, "http");
  curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 1L);
  curl_easy_setopt(easy, CURLOPT_MAXREDIRS, kMostRedirects);
  // Empty, not unset: nothing of the environment or of a file counts.
  curl_easy_setopt(easy, CURLOPT_PROXY, "");
  curl_easy_setopt(easy, CURLOPT_NETRC, static_cast<long>(CURL_NETRC_IGNORED));
  curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(easy, CURLOPT_FAILONERROR, 1L);
  curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, kConnectMilliseconds);
  curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, static_cast<long>(request.most_milliseconds));
  curl_easy_setopt(easy, CURLOPT_MAXFILESIZE, static_cast<long>(request.most_bytes));
  curl_easy_setopt(easy, CURLOPT_USERAGENT, "culvert");
}

}  // namespace

bool prepare_transfers() { return curl_global_init(CURL_GLOBAL_ALL) == CURLE_OK; }

std::expected<std::vector<std::uint8_t>, std::string> transfer(const Request& request) {
  const std::unique_ptr<CURL, EasyFree> easy(curl_easy_init());
  if (easy == nullptr) return std::unexpected("libcurl does not begin");
  Body body{{}, request.most_bytes, false};
  std::array<char, CURL_ERROR_SIZE> why{};
  set_bounds(easy.get(), request);
  curl_easy_setopt(easy.get(), CURLOPT_WRITEFUNCTION, take);
  curl_easy_setopt(easy.get(), CURLOPT_WRITEDATA, &body);
  curl_easy_setopt(easy.get(), CURLOPT_ERRORBUFFER, why.data());
  std::unique_ptr<curl_slist, ListFree> headers;
  if (!request.body.empty()) {
    // RFC 6960 appendix A.1.
    headers.reset(curl_slist_append(nullptr, "Content-Type: application/ocsp-request"));
    curl_easy_setopt(easy.get(), CURLOPT_HTTPHEADER, headers.get());
    curl_easy_setopt(easy.get(), CURLOPT_POST, 1L);
    curl_easy_setopt(easy.get(), CURLOPT_POSTFIELDSIZE, static_cast<long>(request.body.size()));
    curl_easy_setopt(easy.get(), CURLOPT_POSTFIELDS, request.body.data());
  }
  const CURLcode result = curl_easy_perform(easy.get());
  if (body.too_long || result == CURLE_FILESIZE_EXCEEDED) {
    return std::unexpected("more than " + std::to_string(request.most_bytes) + " bytes");
  }
  if (result != CURLE_OK) {
    // Two failures of one cause read alike: libcurl's words tell how many milliseconds each took.
    if (result == CURLE_OPERATION_TIMEDOUT) return std::unexpected("no answer in time");
    if (result == CURLE_COULDNT_CONNECT) {
      long error = 0;
      curl_easy_getinfo(easy.get(), CURLINFO_OS_ERRNO, &error);
      return std::unexpected(std::string("cannot connect: ") +
                             std::strerror(static_cast<int>(error)));
    }
    return std::unexpected(why[0] != 0 ? std::string(why.data())
                                       : std::string(curl_easy_strerror(result)));
  }
  if (body.bytes.empty()) return std::unexpected("nothing came");
  return std::move(body.bytes);
}

}  // namespace culvert::ike::fetch
