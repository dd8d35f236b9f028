"""Hostile media: files that name other files, and valid files that were damaged. ``false_claims`` has false headers.

Everything is a function of its arguments: the same seed gives the same bytes. No file is larger than a few
megabytes; the danger is what it expands to.
"""

import itertools
import random
import struct
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

from tests import speech

SECONDS = 2
_PICTURE = ("-map", "1", "-c:v", "mpeg4")
_BROADCAST = ("-map", "1", "-c:v", "mpeg2video", "-r", "25", "-ar", "48000")
HONEST: Mapping[str, tuple[str, ...]] = {
    "a.wav": (),
    "rf.wav": ("-rf64", "always"),
    "ms.wav": ("-c:a", "adpcm_ms"),
    "a.w64": (),
    "a.aiff": (),
    "a.au": (),
    "a.caf": (),
    "a.voc": ("-ar", "8000"),
    "a.flac": (),
    "a.mp3": (),
    "a.opus": ("-ar", "48000"),
    "a.ogg": ("-c:a", "libvorbis"),
    "a.aac": (),
    "a.ac3": ("-ar", "48000"),
    "a.tta": (),
    "a.wv": (),
    "a.m4a": ("-c:a", "aac"),
    "fragments.mp4": ("-c:a", "aac", "-movflags", "frag_keyframe+empty_moov+default_base_moof"),
    "a.mp4": (*_PICTURE, "-c:a", "aac"),
    "alac.mov": ("-c:a", "alac"),
    "a.mkv": (*_PICTURE, "-c:a", "libvorbis"),
    "a.mka": ("-c:a", "wavpack"),
    "a.webm": ("-ar", "48000"),
    "a.ts": _BROADCAST,
    "a.mpg": (*_BROADCAST, "-c:a", "mp2"),
    "a.mxf": _BROADCAST,
    "a.avi": _PICTURE,
    "a.flv": ("-ar", "22050"),
    "a.wma": (),
    "a.nut": (),
    "a.rm": ("-c:a", "real_144", "-ar", "8000"),
}
"""One short recording in every common container, by name, with the arguments of ffmpeg that make it."""


def write_honest(folder: Path) -> dict[str, bytes]:
    """The recordings of ``HONEST``, made in *folder* by one ffmpeg without dates and version names."""
    wav = speech.write_wav(folder / "source.wav", speech.tape(seconds=SECONDS, seed=7))
    command = ["ffmpeg", "-nostdin", "-y", "-v", "error", "-i", str(wav)]
    command += ["-f", "lavfi", "-i", f"color=c=blue:s=64x48:r=5:d={SECONDS}"]
    for name, options in HONEST.items():
        command += [*options, "-map", "0", "-fflags", "+bitexact", "-flags", "+bitexact", str(folder / name)]
    subprocess.run(command, check=True)
    return {name: (folder / name).read_bytes() for name in HONEST}


# ---------------------------------------------------------------- files that name other files

_REDIRECTORS = {
    "hls.m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{it}\n#EXT-X-ENDLIST\n",
    "hls.mp4": "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{it}\n#EXT-X-ENDLIST\n",
    "hls.wav": "\ufeff#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{it}\n",
    "hls.mp3": "\n\n  #EXTM3U\n#EXT-X-MEDIA-SEQUENCE:0\n#EXTINF:9,\n{it}\n",
    "hls-key.m3u8": '#EXTM3U\n#EXT-X-KEY:METHOD=AES-128,URI="{it}"\n#EXT-X-MAP:URI="{it}"\n#EXTINF:9,\n{it}\n',
    "hls-master.m3u8": "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n{it}\n",
    "concat.ffconcat": "ffconcat version 1.0\nfile '{it}'\n",
    "concat.wav": "ffconcat version 1.0\nfile '{it}'\nduration 9\noption safe 0\n",
    "concat.txt": "file '{it}'\n",
    "dash.mpd": (
        '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" profiles="p"><Period>'
        '<AdaptationSet><Representation id="1" mimeType="audio/wav" bandwidth="1"><BaseURL>{it}</BaseURL>'
        "</Representation></AdaptationSet></Period></MPD>"
    ),
    "imf.xml": (
        '<?xml version="1.0"?><CompositionPlaylist xmlns="http://www.smpte-ra.org/schemas/2067-3/2016">'
        "<Id>urn:uuid:1</Id><SegmentList><Segment><SequenceList><Resource>{it}</Resource></SequenceList>"
        "</Segment></SegmentList></CompositionPlaylist>"
    ),
    "smooth.ismc": '<SmoothStreamingMedia><StreamIndex Url="{it}"/></SmoothStreamingMedia>',
    "session.sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns={it}\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio 5004 RTP/AVP 0\n",
    "rtsp.mov": "RTSPtext\n{it}\n",
    "quicktime.mov": '<?xml version="1.0"?><?quicktime type="application/x-quicktime-media-link"?><embed src="{it}"/>',
    "link.ram": "{it}\n",
    "link.rm": "{it}\n",
    "link.asx": '<asx version="3.0"><entry><ref href="{it}"/></entry></asx>',
    "link.wma": "[Reference]\nRef1={it}\n",
    "link.pls": "[playlist]\nFile1={it}\nNumberOfEntries=1\n",
    "link.xspf": "<playlist><trackList><track><location>{it}</location></track></trackList></playlist>",
    "link.smil": '<smil><body><audio src="{it}"/></body></smil>',
    "link.cue": 'FILE "{it}" WAVE\n  TRACK 01 AUDIO\n    INDEX 01 00:00:00\n',
    "picture.svg": '<svg xmlns:xlink="http://www.w3.org/1999/xlink"><image xlink:href="{it}"/></svg>',
    "script.avs": 'WavSource("{it}")\n',
    "vobsub.idx": "# VobSub index file, v7 (do not modify this line!)\nid: en, index: 0\n# {it}\n",
    "words.lrc": "[ti:{it}]\n[00:01.00]{it}\n",
    "words.srt": "1\n00:00:01,000 --> 00:00:02,000\n{it}\n",
    "words.ass": "[Script Info]\nAudio File: {it}\n[Events]\nDialogue: 0,0:00:01.00,0:00:02.00,Default,,0,0,0,,{it}\n",
    "words.vtt": "WEBVTT\n\n00:01.000 --> 00:02.000\n{it}\n",
    "words.json": '{{"captions":[{{"duration":1,"content":"{it}","startOfParagraph":true,"startTime":0}}]}}',
    "metadata.mp4": ";FFMETADATA1\ntitle={it}\n",
}
_PROTOCOLS = (
    *("subfile,,start,0,end,0,,:{file}", "concat:{file}|{file}", "crypto:{file}", "async:{file}", "cache:{file}"),
    *("file:{file}", "tee:{file}", "unix:{file}", "pipe:0", "data:audio/wav;base64,UklGRg==", "{url}/a.wav"),
    *("tcp://{host}", "udp://{host}", "rtmp://{host}/a", "gopher://{host}/a", "ftp://{host}/a", "hls+{url}/a"),
)
NAMES = (
    "concat:canary.wav|canary.wav",
    "subfile,,start,0,end,9,,:canary.wav",
    "http:/x.mp3",
    "data:,x",
    "-i",
    "%03d.wav",
)
"""Names of a recording."""


def redirectors(canary: Path, port: int) -> Iterator[tuple[str, bytes]]:
    """Texts that name *canary*, and a server at *port* of this machine, in every way that a program might follow."""
    url = f"http://127.0.0.1:{port}"
    for name, text in _REDIRECTORS.items():
        yield f"file-{name}", text.format(it=canary).encode()
        if name.startswith(("hls", "concat", "dash")):
            yield f"near-{name}", text.format(it=canary.name).encode()
        if name.startswith(("hls.m", "concat.ff", "dash", "session", "rtsp", "quicktime", "link")):
            yield f"net-{name}", text.format(it=f"{url}/a.wav").encode()
    for number, protocol in enumerate(_PROTOCOLS):
        it = protocol.format(file=canary, url=url, host=f"127.0.0.1:{port}")
        yield f"protocol{number}.ffconcat", _REDIRECTORS["concat.ffconcat"].format(it=it).encode()


def referrers(honest: Mapping[str, bytes], canary: Path) -> Iterator[tuple[str, bytes]]:
    """Real containers that refer to *canary* in the ways of their formats."""
    path = bytes(canary)
    yield "dref-url.m4a", _with_data_reference(honest["a.m4a"], b"url ", b"file://" + path + b"\0")
    yield "dref-alias.mov", _with_data_reference(honest["alac.mov"], b"alis", _alias(path))
    yield "segments.mka", _with_linked_segments(honest["a.mka"], canary.name.encode())
    yield "id3.mp3", id3([(b"WOAF", path), (b"LINK", b"PIC" + path + b"\0")]) + honest["a.mp3"]
    yield "gab2.avi", _avi_with_subtitles(f"#EXTM3U\n#EXTINF:9,\n{canary}\n".encode())


def _atom(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", 8 + len(body)) + kind + body


def _with_data_reference(data: bytes, kind: bytes, target: bytes) -> bytes:
    """An mp4 whose samples are declared to be in *target*: every box around ``dref`` grows."""
    entry = _atom(kind, b"\0\0\0\0" + target)
    at = data.index(b"dref") - 4
    grown = _atom(b"dref", struct.pack(">II", 0, 1) + entry)
    old = struct.unpack_from(">I", data, at)[0]
    head = bytearray(data[:at])
    for box in (b"moov", b"trak", b"mdia", b"minf", b"dinf"):
        where = data.rindex(box, 0, at) - 4
        size = struct.unpack_from(">I", head, where)[0]
        struct.pack_into(">I", head, where, size + len(grown) - old)
    return bytes(head) + grown + data[at + old :]


def _alias(path: bytes) -> bytes:
    """A Macintosh alias record: of the volume "disk", and in its part 2 the absolute path, with colons."""
    target = b"disk" + path.replace(b"/", b":")
    head = bytes(10) + b"\4" + b"disk".ljust(39, b"\0") + bytes((63,)) + path[-63:].ljust(63, b"\0") + bytes(36)
    return head + struct.pack(">HH", 2, len(target)) + target + bytes(len(target) % 2) + struct.pack(">hH", -1, 0)


def _with_linked_segments(data: bytes, name: bytes) -> bytes:
    """A Matroska file that names *name* as its next part."""
    at = data.index(b"\x15\x49\xa9\x66") + 4
    width = 9 - data[at].bit_length()
    size = int.from_bytes(data[at : at + width]) & ((1 << 7 * width) - 1)
    links = b"\x3e\x83\xbb" + bytes((0x80 | len(name),)) + name + b"\x3e\xb9\x23\x90" + bytes(16)
    info = data[at + width : at + width + size] + links
    segment = data.index(b"\x18\x53\x80\x67") + 4
    unknown = data[:segment] + b"\x01" + b"\xff" * 7 + data[segment + 8 : at]
    return unknown + (len(info) | 1 << 56).to_bytes(8) + info + data[at + width + size :]


def id3(frames: list[tuple[bytes, bytes]], *, claims: int | None = None) -> bytes:
    """The tag before an mp3; *claims* is the length that it states."""
    body = b"".join(kind + struct.pack(">IH", len(text), 0) + text for kind, text in frames)
    size = len(body) if claims is None else claims
    return b"ID3\x03\0\0" + bytes(size >> shift & 0x7F for shift in (21, 14, 7, 0)) + body


def chunk(kind: bytes, body: bytes) -> bytes:
    """A part of a RIFF file."""
    return kind + struct.pack("<I", len(body)) + body + bytes(len(body) % 2)


def _avi_with_subtitles(script: bytes) -> bytes:
    """An AVI with a playlist where its subtitles should be: ffmpeg probes them with a separate demuxer."""
    stream = struct.pack("<4s4sIHHIIIIIII8x", b"txts", b"\0" * 4, 0, 0, 0, 0, 1, 25, 0, 1, 0, 0)
    sound = struct.pack("<4s4sIHHIIIIIII8x", b"auds", b"\1\0\0\0", 0, 0, 0, 0, 1, 8000, 0, 16000, 0, 0)
    lists = b"".join(
        chunk(b"LIST", b"strl" + chunk(b"strh", header) + chunk(b"strf", form))
        for header, form in ((sound, struct.pack("<HHIIHH", 1, 1, 8000, 16000, 2, 16)), (stream, b""))
    )
    header = chunk(b"LIST", b"hdrl" + chunk(b"avih", struct.pack("<14I", 40000, 0, 0, 16, 1, 0, 2, *[0] * 7)) + lists)
    text = b"GAB2\0\2\0" + struct.pack("<I", 2) + b"\0\0" + struct.pack("<HI", 4, len(script)) + script
    movie = chunk(b"LIST", b"movi" + chunk(b"01tx", text) + chunk(b"00wb", bytes(16000)))
    return chunk(b"RIFF", b"AVI " + header + movie)


# ---------------------------------------------------------------- damaged files


def broken(honest: Mapping[str, bytes], seed: int) -> Iterator[tuple[str, bytes]]:
    """Endless damaged files: bits flipped, parts removed, doubled or exchanged, sizes increased."""
    names = sorted(honest)
    for number in itertools.count():
        dice = random.Random(f"{seed}/{number}")
        name = names[number % len(names)]
        data = bytearray(honest[name])
        for _ in range(dice.choice((1, 1, 2, 5))):
            dice.choice(_BREAKS)(data, dice)
        yield f"{number:05d}-{name}", bytes(data)


def _offset(data: bytearray, dice: random.Random) -> int:
    """An offset, more often in the headers."""
    return dice.randrange(dice.choice((min(64, len(data)), min(1024, len(data)), len(data))) or 1)


def _truncate(data: bytearray, dice: random.Random) -> None:
    del data[_offset(data, dice) + 1 :]


def _flip(data: bytearray, dice: random.Random) -> None:
    for _ in range(dice.choice((1, 1, 8, 64, 512))):
        data[_offset(data, dice)] ^= 1 << dice.randrange(8)


def _blow_up(data: bytearray, dice: random.Random) -> None:
    at = _offset(data, dice)
    worst = dice.choice((b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f", b"\x80\0\0\0"))
    data[at : at + 4] = worst[: len(data) - at]


def _cut_out(data: bytearray, dice: random.Random) -> None:
    at = _offset(data, dice)
    if at:
        del data[at : at + dice.randrange(1, 4096)]


def _repeat(data: bytearray, dice: random.Random) -> None:
    at = _offset(data, dice)
    data[at:at] = bytes(data[at : at + dice.randrange(1, 4096)]) * dice.choice((1, 2, 50))


def _blank(data: bytearray, dice: random.Random) -> None:
    at = _offset(data, dice)
    length = min(dice.randrange(1, 4096), len(data) - at)
    data[at : at + length] = bytes(length) if dice.random() < 0.5 else dice.randbytes(length)


_BREAKS = (_truncate, _flip, _flip, _blow_up, _blow_up, _cut_out, _repeat, _blank)
