// Which engine a gateway has: on this processor, on one without AES-NI, and as configured.
#include "crypto/esp/engine_choice.hpp"

#include <cstdlib>
#include <string>

// Version 1.3 else names SHA1 and others anew, which are OpenSSL's too.
#define NO_COMPAT_IMB_API_053
#include <intel-ipsec-mb.h>

#include "esp_packet.hpp"

using namespace culvert::crypto;
using namespace culvert::crypto::esp;
using namespace culvert::crypto::test;
using Catch::Contains;
using Catch::StartsWith;

namespace {

std::string name_of(const EngineChoice& choice) { return std::string(choice.make()->name()); }

bool has_aes() { return (imb_get_feature_flags() & IMB_FEATURE_AESNI) != 0; }

}  // namespace

TEST_CASE("engine choice: IPsec-MB where the processor has AES-NI, and nothing to explain",
          "[esp]") {
  if (!has_aes()) {
    WARN("this processor has no AES-NI");
    return;
  }
  CHECK(why_no_ipsec_mb().empty());
  const auto choice = choose_engine(EngineWish::automatic);
  REQUIRE(choice.has_value());
  CHECK_THAT(name_of(*choice), StartsWith("ipsec-mb "));
  CHECK(choice->reason.empty());
  CHECK(make_engine()->name() == choice->make()->name());
}

TEST_CASE("engine choice: OpenSSL where the processor lacks AES-NI, and why", "[esp]") {
  CHECK_THAT(why_no_ipsec_mb(Processor::without_aes),
             StartsWith("the processor lacks ") && Contains("AES-NI"));
  const auto choice = choose_engine(EngineWish::automatic, Processor::without_aes);
  REQUIRE(choice.has_value());
  CHECK_THAT(name_of(*choice), StartsWith("openssl 3."));
  CHECK_THAT(choice->reason,
             StartsWith("IPsec-MB cannot run: the processor lacks ") && Contains("AES-NI"));
}

TEST_CASE("engine choice: IPsec-MB alone is refused where it cannot run, with the reason",
          "[esp]") {
  const auto refused = choose_engine(EngineWish::ipsec_mb, Processor::without_aes);
  REQUIRE_FALSE(refused.has_value());
  CHECK_THAT(refused.error(), StartsWith("the processor lacks ") && Contains("AES-NI"));
  if (!has_aes()) return;
  const auto choice = choose_engine(EngineWish::ipsec_mb);
  REQUIRE(choice.has_value());
  CHECK_THAT(name_of(*choice), StartsWith("ipsec-mb "));
  CHECK(choice->reason == "as configured");
}

TEST_CASE("engine choice: OpenSSL as configured, whatever the processor has", "[esp]") {
  for (const Processor processor : {Processor::as_it_is, Processor::without_aes}) {
    const auto choice = choose_engine(EngineWish::openssl, processor);
    REQUIRE(choice.has_value());
    CHECK_THAT(name_of(*choice), StartsWith("openssl 3."));
    CHECK(choice->reason == "as configured");
  }
}

TEST_CASE("engine choice: all engines of a choice take each other's keys", "[esp]") {
  for (const Processor processor : {Processor::as_it_is, Processor::without_aes}) {
    const auto choice = choose_engine(EngineWish::automatic, processor);
    REQUIRE(choice.has_value());
    const auto control = choice->make(), worker = choice->make();
    for (const auto& [suite, form] : kTransforms) {
      const auto key = expand(*control, suite, Buffer(key_bytes(suite), 9));
      Packet packet(form, *key, Buffer(nonce_bytes(form), 1), Buffer(8, 2), Buffer(112, 3));
      seal_one(*worker, suite, packet);
      open_one(*control, suite, packet);
      INFO(control->name() << ", " << suite.name());
      CHECK(packet.verified());
    }
  }
}

TEST_CASE("engine choice: the library in memory is of the version that this was built for",
          "[esp]") {
  INFO("built for " << IMB_VERSION_STR << ", running with " << imb_get_version_str());
  CHECK(imb_get_version() >> 16U == unsigned{IMB_VERSION_NUM} >> 16U);
  // Who builds against a library beside the machine's own says which it must be.
  if (const char* wanted = std::getenv("CULVERT_TEST_IPSEC_MB")) {
    CHECK_THAT(std::string(imb_get_version_str()), StartsWith(wanted));
  }
}
