#include "crypto/pki/distinguished_name.hpp"

#include <algorithm>
#include <ctime>

#include <openssl/err.h>
#include <openssl/objects.h>

#include "crypto/pki/openssl_x509.hpp"

namespace culvert::crypto {
namespace openssl {

std::string text_of(const X509_NAME* name) {
  const Bio out(BIO_new(BIO_s_mem()));
  if (out == nullptr || name == nullptr) return "";
  // Control characters and what is not ASCII come out escaped: it goes to logs and terminals.
  constexpr unsigned long kForm =
      XN_FLAG_SEP_CPLUS_SPC | ASN1_STRFLGS_RFC2253 | ASN1_STRFLGS_ESC_CTRL | ASN1_STRFLGS_ESC_MSB;
  X509_NAME_print_ex(out.get(), name, 0, kForm);
  char* text = nullptr;
  const long size = BIO_get_mem_data(out.get(), &text);
  return size > 0 ? std::string(text, static_cast<std::size_t>(size)) : std::string();
}

std::optional<std::int64_t> unix_seconds(const ASN1_TIME* time) {
  std::tm fields{};
  if (time == nullptr || ASN1_TIME_to_tm(time, &fields) != 1) return std::nullopt;
  return ::timegm(&fields);
}

std::string take_reason() {
  const unsigned long code = ERR_peek_last_error();
  const char* reason = code == 0 ? nullptr : ERR_reason_error_string(code);
  std::string text = reason != nullptr ? reason : "unknown reason";
  ERR_clear_error();
  return text;
}

}  // namespace openssl

namespace pki {
namespace {

char upper(char c) { return c >= 'a' && c <= 'z' ? static_cast<char>(c - 32) : c; }

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && text.front() == ' ') text.remove_prefix(1);
  while (!text.empty() && text.back() == ' ') text.remove_suffix(1);
  return text;
}

/// The text up to the next comma that no backslash stands before, with the backslashes taken out.
std::string next_part(std::string_view& rest) {
  std::string part;
  std::size_t at = 0;
  for (; at < rest.size() && rest[at] != ','; ++at) {
    if (rest[at] == '\\' && at + 1 < rest.size()) ++at;
    part += rest[at];
  }
  rest.remove_prefix(at < rest.size() ? at + 1 : at);
  return part;
}

openssl::X509Name decode(Bytes der) {
  const unsigned char* at = der.data();
  openssl::X509Name name(d2i_X509_NAME(nullptr, &at, static_cast<long>(der.size())));
  if (name != nullptr && at != der.data() + der.size()) name.reset();
  ERR_clear_error();
  return name;
}

}  // namespace

std::optional<std::vector<std::uint8_t>> parse_distinguished_name(std::string_view text) {
  const openssl::X509Name name(X509_NAME_new());
  if (name == nullptr) return std::nullopt;
  for (std::string_view rest = text; !rest.empty();) {
    const std::string part = next_part(rest);
    const std::size_t equals = part.find('=');
    if (equals == std::string::npos) return std::nullopt;
    std::string type(trimmed(std::string_view(part).substr(0, equals)));
    // The one word that people write and OpenSSL does not know.
    if (type == "E") type = "emailAddress";
    if (OBJ_txt2nid(type.c_str()) == NID_undef) std::ranges::transform(type, type.begin(), upper);
    const std::string_view value = trimmed(std::string_view(part).substr(equals + 1));
    if (value.empty() || X509_NAME_add_entry_by_txt(name.get(), type.c_str(), MBSTRING_UTF8,
                                                    reinterpret_cast<const unsigned char*>(
                                                        value.data()),  // bytes of the same text
                                                    static_cast<int>(value.size()), -1, 0) != 1) {
      ERR_clear_error();
      return std::nullopt;
    }
  }
  if (X509_NAME_entry_count(name.get()) == 0) return std::nullopt;
  const int size = i2d_X509_NAME(name.get(), nullptr);
  if (size <= 0) return std::nullopt;
  std::vector<std::uint8_t> der(static_cast<std::size_t>(size));
  unsigned char* out = der.data();
  i2d_X509_NAME(name.get(), &out);
  return der;
}

std::string distinguished_name_text(Bytes der) {
  const openssl::X509Name name = decode(der);
  return name == nullptr ? "(malformed name)" : openssl::text_of(name.get());
}

bool same_distinguished_name(Bytes a, Bytes b) {
  const openssl::X509Name first = decode(a), second = decode(b);
  return first != nullptr && second != nullptr && X509_NAME_cmp(first.get(), second.get()) == 0;
}

}  // namespace pki
}  // namespace culvert::crypto
