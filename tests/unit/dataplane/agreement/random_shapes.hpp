// What a random SA is like: its mode, its suite, how it treats headers and sizes, whom it is for.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "channel/messages.hpp"
#include "config/header_options.hpp"
#include "crypto/suite.hpp"
#include "tests/model/esp_model.hpp"
#include "tests/unit/dataplane/agreement/addresses.hpp"
#include "tests/unit/dataplane/agreement/random_fragments.hpp"
#include "tests/unit/dataplane/pipeline/gateway.hpp"
#include "wire/traffic_selector.hpp"

namespace culvert::test {

/// What an SA is like, beside its keys and numbers.
struct Shape {
  bool transport = false, outer_v6 = false, udp = false;
  config::HeaderOptions headers;
};

class RandomShapes : protected RandomFragments {
 protected:
  using RandomFragments::RandomFragments;

  /// As often as not with the headers that most packets take the short ways with.
  Shape any_shape() {
    Shape shape{one_in(3), one_in(3), one_in(4), {}};
    if (one_in(2)) shape.headers = any_headers();
    return shape;
  }
  config::HeaderOptions any_headers() {
    using config::CopyDscp;
    static const std::vector<CopyDscp> kDscp = {CopyDscp::out, CopyDscp::in, CopyDscp::both,
                                                CopyDscp::none};
    static const std::vector<config::DontFragment> kDf = {
        config::DontFragment::copy, config::DontFragment::set, config::DontFragment::clear};
    static const std::vector<std::uint16_t> kPadded = {100, 576, 1400,
                                                       config::HeaderOptions::kPadToPath};
    config::HeaderOptions headers;
    headers.copy_dscp = any(kDscp);
    headers.dscp = static_cast<std::uint8_t>(below(64));
    headers.copy_ecn = !one_in(3);
    headers.copy_flow_label = one_in(2);
    headers.df = any(kDf);
    if (one_in(2)) headers.fragmentation = config::FragmentationOrder::after;
    headers.mss_clamp = !one_in(4);
    headers.hop_limit = static_cast<std::uint8_t>(1 + below(255));
    if (one_in(4)) headers.tfc_padding = any(kPadded);
    return headers;
  }

  /// As often as not the one that most packets take the short ways with.
  crypto::EspSuite any_suite() {
    using crypto::Encryption;
    static const std::vector<std::uint16_t> kKeys = {128, 192, 256}, kCcmKeys = {128, 256};
    static const std::vector<Encryption> kOthers = {
        Encryption::chacha20_poly1305, Encryption::aes_ccm_16, Encryption::aes_ccm_8,
        Encryption::null_aes_gmac,     Encryption::aes_cbc,    Encryption::aes_cbc,
        Encryption::aes_ctr,           Encryption::null};
    static const std::vector<crypto::Integrity> kIntegrities = {
        crypto::Integrity::hmac_sha1_96, crypto::Integrity::hmac_sha2_256_128,
        crypto::Integrity::hmac_sha2_384_192, crypto::Integrity::hmac_sha2_512_256};
    crypto::EspSuite suite{Encryption::aes_gcm_16, any(kKeys), crypto::Integrity::none};
    if (one_in(2)) return suite;
    suite.encryption = any(kOthers);
    switch (suite.encryption) {
      case Encryption::chacha20_poly1305:
        suite.key_bits = 256;
        break;
      case Encryption::aes_ccm_16:
      case Encryption::aes_ccm_8:
        suite.key_bits = any(kCcmKeys);
        break;
      case Encryption::null:
        suite.key_bits = 0;
        [[fallthrough]];
      case Encryption::aes_cbc:
      case Encryption::aes_ctr:
        suite.integrity = any(kIntegrities);
        break;
      case Encryption::none:
      case Encryption::aes_gcm_16:
      case Encryption::null_aes_gmac:
        break;
    }
    return suite;
  }

  test::SaOptions sa_options(const Shape& shape) {
    test::SaOptions options;
    if (shape.outer_v6) {
      options.outer_local = kHere.at(1);
      options.outer_remote = kThere.at(1);
    }
    options.udp = shape.udp;
    options.esn = one_in(2);
    static const std::vector<std::uint32_t> kWindows = {32, 64, 256, 1024};
    options.window = any(kWindows);
    if (one_in(6))
      options.window = static_cast<std::uint32_t>(one_in(2) ? 65536 : 32 + below(4000));
    options.suite = any_suite();
    if (shape.transport) {
      options.mode = channel::SaMode::transport;
      options.local_selectors = {kHere.at(shape.outer_v6)};
      options.remote_selectors = {one_in(4) ? any(kNets4) : kThere.at(shape.outer_v6)};
      return options;
    }
    options.local_selectors.clear();
    options.remote_selectors.clear();
    for (std::size_t pairs = 1 + below(3); pairs > 0; --pairs) {
      options.local_selectors.push_back(any(one_in(3) ? kNets6 : kNets4));
      options.remote_selectors.push_back(any(one_in(3) ? kNets6 : kNets4));
    }
    return options;
  }
  /// To a protocol, and now and then to ports or to fragments that have none.
  void narrow(test::SaOptions& options) {
    static const std::vector<std::string> kSome = {
        "[udp]", "[tcp]",        "[udp/4000-4004]", "[tcp/4002-4006]",
        "[47]",  "[udp/opaque]", "[udp/opaque]",    "[udp/opaque]",
        "[1]",   "[icmp/8]",     "[icmp/3-11]",     "[icmp/3.1]",
        "[58]",  "[icmpv6/129]", "[icmpv6/1-3]"};
    const std::string& some = any(kSome);
    for (auto* side : {&options.local_selectors, &options.remote_selectors}) {
      for (std::string& text : *side) text += some;
    }
  }
  /// Of texts: whether they say which ports or messages.
  static bool names_ports(const std::vector<std::string>& selectors) {
    return std::ranges::any_of(selectors, [](const std::string& text) {
      const auto selector = wire::TrafficSelector::parse(text).value();
      return !selector.any_port() && !selector.opaque_port();
    });
  }
  static model::EspSa keys_of(const channel::InstallSa& sa) {
    const auto key = sa.key.view();
    return {{key.begin(), key.end()},
            static_cast<std::uint32_t>(sa.spi),
            sa.esn,
            sa.suite.encryption,
            sa.suite.integrity};
  }
};

}  // namespace culvert::test
