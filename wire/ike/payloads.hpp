// Parse and build of each payload's body (what follows the generic header), for this room only.
// A `build` fills what its `parse` reads; a Writer that overflows says so at the end.
#pragma once

#include "wire/ike/message.hpp"

namespace culvert::wire::ike {

[[nodiscard]] Parsed<SecurityAssociation> parse_security_association(Reader body);
[[nodiscard]] Parsed<KeyExchange> parse_key_exchange(Reader body);
[[nodiscard]] Parsed<Identification> parse_identification(Reader body, PayloadType type);
[[nodiscard]] Parsed<Authentication> parse_authentication(Reader body);
[[nodiscard]] Parsed<Nonce> parse_nonce(Reader body);
[[nodiscard]] Parsed<Notify> parse_notify(Reader body);
[[nodiscard]] Parsed<Delete> parse_delete(Reader body);
[[nodiscard]] Parsed<VendorId> parse_vendor_id(Reader body);
[[nodiscard]] Parsed<TrafficSelectors> parse_traffic_selectors(Reader body, PayloadType type);
[[nodiscard]] Parsed<Certificate> parse_certificate(Reader body);
[[nodiscard]] Parsed<CertificateRequest> parse_certificate_request(Reader body);
[[nodiscard]] Parsed<Opaque> parse_opaque(Reader body, PayloadType type);
[[nodiscard]] Parsed<Unknown> parse_unknown(Reader body, PayloadType type, bool critical);
/// `first_inner` stood in the next-payload field of the SK payload's generic header.
[[nodiscard]] Parsed<Encrypted> parse_encrypted(Reader body, PayloadType first_inner);

[[nodiscard]] Parsed<EncryptedFragment> parse_encrypted_fragment(Reader body,
                                                                 PayloadType first_inner);

void build(const SecurityAssociation& payload, Writer& writer);
void build(const KeyExchange& payload, Writer& writer);
void build(const Identification& payload, Writer& writer);
void build(const Authentication& payload, Writer& writer);
void build(const Nonce& payload, Writer& writer);
void build(const Notify& payload, Writer& writer);
void build(const Delete& payload, Writer& writer);
void build(const VendorId& payload, Writer& writer);
void build(const TrafficSelectors& payload, Writer& writer);
void build(const Certificate& payload, Writer& writer);
void build(const CertificateRequest& payload, Writer& writer);
void build(const Opaque& payload, Writer& writer);
void build(const Unknown& payload, Writer& writer);
void build(const Encrypted& payload, Writer& writer);
void build(const EncryptedFragment& payload, Writer& writer);

}  // namespace culvert::wire::ike
