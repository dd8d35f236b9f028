"""Media with false headers: files that claim, or expand to, far more than they contain. See ``hostile``."""

import random
import struct
import zlib
from collections.abc import Iterator, Mapping

from tests.hostile import chunk, id3


def false_claims(honest: Mapping[str, bytes]) -> Iterator[tuple[str, bytes]]:
    """Files that claim, or expand to, far more than they contain."""
    yield from _false_waves()
    yield from _false_tables(honest["a.m4a"])
    yield "tag.mp3", id3([], claims=256 << 20) + honest["a.mp3"]
    yield "cover.mp3", id3([(b"APIC", b"\0image/png\0\3\0" + _huge_picture(12_000))]) + honest["a.mp3"]
    yield "language.opus", _with_long_comment(honest["a.opus"])
    for number, claim in enumerate(_LENGTH_TAGS):
        yield f"length{number}.mka", with_length_tag(honest["a.mka"], claim)
    yield "flac-1hz.flac", _with_flac_rate(honest["a.flac"], 1)
    yield (
        "nested.mka",
        honest["a.mka"] + b"\x10\x43\xa7\x70\x01" + b"\xff" * 7 + b"\xb6\x01\xff\xff\xff\xff\xff\xff\xff" * 20_000,
    )
    yield "streams.ts", b"".join(_transport_packet(pid) for pid in range(32, 1_032))
    for name, start in {
        "zip": b"PK\3\4",
        "gzip": b"\x1f\x8b\x08",
        "pdf": b"%PDF-1.7\n",
        "elf": b"\x7fELF\2\1\1",
    }.items():
        yield f"{name}.mp4", start + random.Random(name).randbytes(50_000)
    yield "page.mp4", b"<!doctype html><html><body>404</body></html>\n" * 100


def _wave(*, rate: int, channels: int = 1, bits: int = 16, claims: int | None = None, body: int = 10_000) -> bytes:
    block = channels * bits // 8
    head = struct.pack("<HHIIHH", 1, channels, rate, rate * block & 0xFFFFFFFF, block & 0xFFFF, bits)
    size = body if claims is None else claims
    riff = b"RIFF" + struct.pack("<I", size + 36 & 0xFFFFFFFF) + b"WAVE"
    return riff + chunk(b"fmt ", head) + b"data" + struct.pack("<I", size) + bytes(body)


def _false_waves() -> Iterator[tuple[str, bytes]]:
    for rate in (0, 1, 7, 768_000, 2**31 - 1, 2**31, 2**32 - 1):
        yield f"rate{rate}.wav", _wave(rate=rate)
    for channels in (0, 64, 65, 255, 65_535):
        yield f"channels{channels}.wav", _wave(rate=48_000, channels=channels)
    for size in (0, 100 * 3600 * 8_000, 0xFFFFFFFE, 0xFFFFFFFF):
        yield f"size{size}.wav", _wave(rate=8_000, bits=8, claims=size, body=8_000)
    yield "bits0.wav", _wave(rate=8_000, bits=0)
    ds64 = chunk(b"ds64", struct.pack("<QQQI", 2**63, 2**63, 2**62, 0))
    rf64 = _wave(rate=8_000, claims=0xFFFFFFFF, body=8_000)
    yield "ds64.wav", b"RF64\xff\xff\xff\xffWAVE" + ds64 + rf64[12:]
    w64 = [b"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb\x04\xc1\0\0", b"wave\xf3\xac\xd3\x11\x8c\xd1\0\xc0\x4f\x8e\xdb\x8a"]
    yield "giant.w64", w64[0] + struct.pack("<Q", 2**63) + w64[1] + w64[1] + struct.pack("<Q", 2**62) + bytes(5_000)


def _false_tables(m4a: bytes) -> Iterator[tuple[str, bytes]]:
    """Tables of an mp4 with billions of entries, and with time stamps years apart."""
    for table, at in ((b"stts", 8), (b"stsz", 12), (b"stsc", 8), (b"stco", 8)):
        for count in (0x0FFFFFFF, 0xFFFFFFFF):
            changed = bytearray(m4a)
            struct.pack_into(">I", changed, m4a.index(table) + at, count)
            yield f"{table.decode()}{count:x}.m4a", bytes(changed)
    for number, step in enumerate((0x7FFFFFFF, 0xFFFFFFFF)):
        changed = bytearray(m4a)
        struct.pack_into(">I", changed, m4a.index(b"stts") + 16, step)
        yield f"step{number}.m4a", bytes(changed)


def _huge_picture(side: int) -> bytes:
    """A PNG of *side* times *side* pixels of eight bytes: a few hundred kilobytes that expand to gigabytes."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    megabyte = packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)
    pixels = b"\x78\xda" + megabyte * (side * (1 + 8 * side) >> 20)
    parts = ((b"IHDR", struct.pack(">IIBBBBB", side, side, 16, 6, 0, 0, 0)), (b"IDAT", pixels), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in parts
    )


def _with_flac_rate(flac: bytes, rate: int) -> bytes:
    """The rate in STREAMINFO, and frames that refer to it."""
    changed = bytearray(flac)
    word = int.from_bytes(flac[18:26]) & ~(0xFFFFF << 44)
    changed[18:26] = (word | rate << 44).to_bytes(8)
    return bytes(changed)


def _with_long_comment(ogg: bytes) -> bytes:
    """Two megabytes of control characters as the language of a track: six times as long in JSON."""
    comment = b"LANGUAGE=" + b"\x01" * (2 << 20)
    vendor = struct.pack("<I", 1) + b"x" + struct.pack("<I", 1)
    tags = b"OpusTags" + vendor + struct.pack("<I", len(comment)) + comment
    head, rest = ogg[: ogg.index(b"OggS", 4)], ogg[ogg.index(b"OggS", ogg.index(b"OpusTags")) :]
    return head + b"".join(_ogg_pages(tags, serial=ogg[14:18])) + rest


_LENGTH_TAGS = ("9" * 400 + ":00:00.0", "9" * 5_000 + ":00:00.0", "00:00:00." + "9" * 5_000, "-1:00:00", "1" * 900_000)
"""The element of a track's length."""


def with_length_tag(matroska: bytes, claim: str) -> bytes:
    """Matroska tags before its sound: the length of its first track is *claim*."""
    uid = matroska.index(b"\x73\xc5")
    uid_size = matroska[uid + 2] & 0x7F
    track = _element(b"\x63\xc0", _element(b"\x63\xc5", matroska[uid + 3 : uid + 3 + uid_size]))
    tag = _element(b"\x45\xa3", b"DURATION") + _element(b"\x44\x87", claim.encode())
    tags = _element(b"\x12\x54\xc3\x67", _element(b"\x73\x73", track + _element(b"\x67\xc8", tag)))
    segment, sound = matroska.index(b"\x18\x53\x80\x67") + 4, matroska.index(b"\x1f\x43\xb6\x75")
    return matroska[:segment] + b"\x01" + b"\xff" * 7 + matroska[segment + 8 : sound] + tags + matroska[sound:]


def _element(kind: bytes, body: bytes) -> bytes:
    """A part of a Matroska file."""
    return kind + (len(body) | 1 << 56).to_bytes(8) + body


def _ogg_pages(packet: bytes, *, serial: bytes) -> Iterator[bytes]:
    """A packet over as many pages as it needs; the second page of its stream is the first of them."""
    whole = 255 * 255
    for number, at in enumerate(range(0, len(packet) + 1, whole), 1):
        part = packet[at : at + whole]
        last = len(part) < whole
        lacing = b"\xff" * (len(part) // 255) + (bytes((len(part) % 255,)) if last else b"")
        granule = 0 if last else 2**64 - 1
        head = b"OggS\0" + bytes((number > 1,)) + struct.pack("<Q", granule) + serial + struct.pack("<I", number)
        page = bytearray(head + bytes(4) + bytes((len(lacing),)) + lacing + part)
        struct.pack_into("<I", page, 22, _ogg_sum(page))
        yield bytes(page)


def _ogg_sum(page: bytes | bytearray) -> int:
    total = 0
    for byte in page:
        total = (total << 8 & 0xFFFFFFFF) ^ _OGG_TABLE[total >> 24 ^ byte]
    return total


def _ogg_entry(byte: int) -> int:
    value = byte << 24
    for _ in range(8):
        value = (value << 1 ^ (0x04C11DB7 if value & 1 << 31 else 0)) & 0xFFFFFFFF
    return value


_OGG_TABLE = [_ogg_entry(byte) for byte in range(256)]


def _transport_packet(pid: int) -> bytes:
    """A packet of sound on a stream that no table announces."""
    packet = b"\0\0\1\xc0\0\0\x80\x80\5\x21\0\1\0\1" + b"\xff\xfb\x90\xc4" * 40
    return (b"\x47" + struct.pack(">H", 0x4000 | pid) + b"\x10" + packet)[:188].ljust(188, b"\xff")
