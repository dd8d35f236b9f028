"""Which of ffmpeg's demuxers may read a recording, and what is said of a file in another format.

Touches: nothing. Allowed are those of audio and video that open no other file, no device and no address. Not among
them: playlists and manifests, which name other files; ``mlv`` and ``vobsub``, which open the files beside theirs;
scripts and devices; images, subtitles and raw video, which have no sound; trackers, which are programs; and samples
without a header, of which nobody knows the rate.
"""

from __future__ import annotations

ALLOWED = (
    "3dostr,3g2,3gp,4xm,aac,aax,ac3,ace,acm,act,adp,ads,adx,aea,afc,aiff,aix,alp,amr,amrnb,amrwb,apc,ape,apm,"
    "aptx,aptx_hd,argo_asf,argo_brp,argo_cvg,asf,asf_o,ast,au,avi,avr,avs,bethsoftvid,bfi,bfstm,bink,binka,"
    "bit,bmv,boa,brstm,c93,caf,cdxl,codec2,daud,dcstr,derf,dfa,dhav,dsf,dsicin,dss,dts,dtshd,dv,dxa,ea,"
    "eac3,epaf,film_cpk,flac,flv,fsb,fwse,g722,g723_1,g726,g726le,g729,gdv,genh,gsm,gxf,hca,hcom,hnm,idcin,"
    "iff,ifv,ilbc,ipmovie,ircam,iss,ivr,jv,kux,kvag,live_flv,lmlm4,loas,luodat,lvf,lxf,m4a,m4v,matroska,mca,"
    "mgsts,mj2,mlp,mm,mmf,mods,moflex,mov,mp3,mp4,mpc,mpc8,mpeg,mpegts,msf,mtaf,mtv,musx,mv,mvi,mxf,mxg,nc,"
    "nistsphere,nsp,nsv,nut,nuv,oga,ogg,oma,paf,pmp,pp_bnk,psxstr,pva,pvf,qcp,r3d,redspark,rl2,rm,roq,rpl,rsd,"
    "rso,s337m,sbc,scd,sds,sdx,sga,shn,siff,sln,smjpeg,smk,smush,sol,sox,spdif,svag,svs,swf,tak,thp,"
    "tiertexseq,tmv,truehd,tta,ty,vag,vividas,vivo,vmd,voc,vpk,vqf,w64,wav,wc3movie,webm,wsaud,wsd,wsvqa,wtv,"
    "wv,wve,xa,xmv,xvag,xwma,yop"
)
"""Names of demuxers, as the option ``format_whitelist`` takes them; a name that ffmpeg does not know is no error."""

_OPEN_OTHERS = frozenset({
    "avisynth", "concat", "dash", "hls", "imf", "lavfi", "mlv", "rtp", "rtsp", "sap", "sdp", "vapoursynth", "vobsub",
    "webm_dash_manifest",
})  # fmt: skip
_SAMPLES = frozenset({
    "alaw", "dfpwm", "f32be", "f32le", "f64be", "f64le", "mulaw", "s16be", "s16le", "s24be", "s24le", "s32be", "s32le",
    "s8", "u16be", "u16le", "u24be", "u24le", "u32be", "u32le", "u8", "vidc",
})  # fmt: skip
_SILENT = frozenset({
    "ass", "ffmetadata", "gif", "h264", "hevc", "ico", "image2", "lrc", "microdvd", "mpjpeg", "sami", "sbg", "srt",
    "subviewer", "tedcaptions", "tty", "webvtt", "xbin",
})  # fmt: skip


def refusal(name: str) -> tuple[str, str]:
    """Message and advice for a file that ffmpeg takes for the format *name*; empty if it is not known."""
    if name in _OPEN_OTHERS:
        return f"is a playlist or a script ({name}): it names other files", "use the recording itself"
    if name in _SAMPLES:
        return (
            f"has samples without a header ({name})",
            f"give it one: ffmpeg -f {name} -ar 8000 -ac 1 -i FILE -c:a flac FILE.flac, with its rate and channels",
        )
    if not name or name in _SILENT or name.endswith("_pipe"):
        what = f" ({name})" if name else ""
        return f"is in a format without sound{what}", "use the recording itself, in a media container"
    return (
        f"is in a format that is not read here ({name})",
        "if you trust it, convert it: ffmpeg -i FILE -vn -c:a flac FILE.flac",
    )
