"""Every ESP suite as scapy's IPsec layer writes it, and as OpenSSL does where scapy has no such code.

scapy 2.5 knows neither AES-GMAC nor extended sequence numbers under HMAC; both are written here from
their RFCs on Python's `cryptography`, which is OpenSSL.
"""

import hashlib
import hmac
import struct
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from scapy.layers.ipsec import ESP, IPSecIntegrityError, SecurityAssociation, _ESPPlain


@dataclass(frozen=True)
class Suite:
    """`name` as in our configuration; sizes in octets."""

    name: str
    cipher: str          # scapy's name, "GMAC" for ours
    cipher_key: int
    salt: int
    icv: int
    digest: str = ""     # of HMAC

    @property
    def integrity_key(self):
        return hashlib.new(self.digest).digest_size if self.digest else 0

    @property
    def keymat(self):
        return self.cipher_key + self.salt + self.integrity_key


_HMACS = [("sha256", "sha256", 16), ("sha384", "sha384", 24), ("sha512", "sha512", 32),
          ("sha1", "sha1", 12)]

SUITES = (
    [Suite(f"aes{bits}gcm16", "AES-GCM", bits // 8, 4, 16) for bits in (128, 192, 256)]
    + [Suite("chacha20poly1305", "CHACHA20-POLY1305", 32, 4, 16)]
    + [Suite(f"aes{bits}ccm{icv}", "AES-CCM", bits // 8, 3, icv)
       for bits in (128, 256) for icv in (16, 8)]
    + [Suite(f"aes{bits}gmac", "GMAC", bits // 8, 4, 16) for bits in (128, 192, 256)]
    + [Suite(f"aes{bits}-{word}", "AES-CBC", bits // 8, 0, icv, digest)
       for bits in (128, 192, 256) for word, digest, icv in _HMACS]
    + [Suite(f"aes{bits}ctr-{word}", "AES-CTR", bits // 8, 4, icv, digest)
       for bits in (128, 192, 256) for word, digest, icv in _HMACS]
    + [Suite(f"null-{word}", "NULL", 0, 0, icv, digest) for word, digest, icv in _HMACS])


class _Gmac:
    """RFC 4543 §3.3: the packet is authenticated from the SPI to the trailer and not encrypted."""

    name, block_size, iv_size, icv_size, salt_size, is_aead = "GMAC", 1, 8, 16, 4, True

    def check_key(self, key):
        AESGCM(key)

    def generate_iv(self):
        return b"\x00\x01\x02\x03\x04\x05\x06\x07"

    def pad(self, esp):
        esp.padlen = -(len(esp.data) + 2) % 4
        esp.padding = bytes(range(1, esp.padlen + 1))
        return esp

    @staticmethod
    def _authenticated(esp, text, esn_en, esn):
        high = struct.pack("!L", esn) if esn_en else b""
        return struct.pack("!L", esp.spi) + high + struct.pack("!L", esp.seq) + text

    def encrypt(self, sa, esp, key, icv_size=None, esn_en=False, esn=0):
        text = esp.iv + esp.data_for_encryption()
        icv = AESGCM(key).encrypt(sa.crypt_salt + esp.iv, b"",
                                  self._authenticated(esp, text, esn_en, esn))
        return ESP(spi=esp.spi, seq=esp.seq, data=text + icv)

    def decrypt(self, sa, esp, key, icv_size=None, esn_en=False, esn=0):
        text, icv = esp.data[:-16], esp.data[-16:]
        try:
            AESGCM(key).decrypt(sa.crypt_salt + text[:8], icv,
                                self._authenticated(esp, text, esn_en, esn))
        except InvalidTag as error:
            raise IPSecIntegrityError(error) from error
        padding, next_header = text[-2], text[-1]
        end = len(text) - 2 - padding
        return _ESPPlain(spi=esp.spi, seq=esp.seq, iv=text[:8], data=text[8:end],
                         padding=text[end:-2], padlen=padding, nh=next_header, icv=icv)


class _Hmac:
    """RFC 4303 §2.2.1: with ESN the high half follows what is sent, in the ICV's computation only."""

    def __init__(self, suite, sa):
        self.name, self.icv_size, self._digest, self._sa = suite.name, suite.icv, suite.digest, sa

    def _mac(self, data, key):
        high = struct.pack("!L", self._sa.esn) if self._sa.esn_en else b""
        return hmac.new(key, data + high, self._digest).digest()[:self.icv_size]

    def sign(self, packet, key, **_):
        packet.data += self._mac(bytes(packet), key)
        return packet

    def verify(self, packet, key, **_):
        data = bytes(packet[ESP])
        if not hmac.compare_digest(self._mac(data[:-self.icv_size], key), data[-self.icv_size:]):
            raise IPSecIntegrityError(f"{self.name}: the ICV differs")


def security_association(suite, keymat, spi, tunnel_header, nat_t_header, esn):
    """One direction, as scapy's object. With ESN set `.esn` to the high half before each packet."""
    assert len(keymat) == suite.keymat
    cipher_part = keymat[:suite.cipher_key + suite.salt]
    is_ours = suite.cipher == "GMAC"
    sa = SecurityAssociation(
        ESP, spi=spi, crypt_algo="AES-GCM" if is_ours else suite.cipher,
        crypt_key=cipher_part or None,
        crypt_icv_size=None if suite.digest else suite.icv,
        tunnel_header=tunnel_header, nat_t_header=nat_t_header, esn_en=esn, esn=0)
    if is_ours:
        sa.crypt_algo = _Gmac()
    if suite.digest:
        sa.auth_algo = _Hmac(suite, sa)
        sa.auth_key = keymat[suite.cipher_key + suite.salt:]
    return sa


__all__ = ["SUITES", "Suite", "security_association"]
