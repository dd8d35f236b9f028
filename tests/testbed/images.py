"""The project's images, built from its Dockerfile by buildah on a base of Debian's packages: no image registry needed.

Touches: a cache folder outside the checkout with buildah's storage, package registries, processes. Needs Linux, root.

    python -m tests.testbed.images         build both images, and print their archives
"""

import functools
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from pathlib import Path

from tests.testbed.go_build import cache_folder, locked

ROOT = Path(__file__).parents[2]
TARGETS = ("controller", "chunk-job")
PACKAGES = "/opt/stenofleet/lib/python3.11/site-packages"
DEMO_MODEL = f"{PACKAGES}/controller/demo/model"
_BASE = "localhost/stenofleet-base:bookworm"
_MOST_IMAGES = 100
_TRUST = Path("etc/ssl/certs/ca-certificates.crt")


def name(target: str) -> str:
    """The image of *target* with its tag, as a pod names it."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    return f"stenofleet-{target}:{version}"


@functools.cache
def archive(target: str) -> Path:
    """The image of *target* (controller or chunk-job) as a docker archive, built from the sources at the first call.

    Minutes the first time, seconds where only the project's code has changed.
    """
    with locked(_folder() / "lock"):
        _remove_old_layers()
        _base()
        identity = _build(target)
        path = _folder() / f"{target}-{identity}.tar"
        if not path.is_file():
            for old in _folder().glob(f"{target}-*.tar*"):
                old.unlink()
            fresh = path.with_suffix(".tar.new")
            _buildah("push", "--quiet", identity, f"docker-archive:{fresh}:{name(target)}")
            fresh.rename(path)
    return path


def _build(target: str) -> str:
    """Returns the image's id."""
    began_s = time.monotonic()
    with tempfile.NamedTemporaryFile("r") as id_file:
        _buildah(
            *("build", "--quiet", "--layers", "--isolation", "chroot"),
            *("--build-arg", f"BASE={_BASE}", "--build-arg", f"VERSION={name(target).rpartition(':')[2]}"),
            *("--target", target, "--tag", name(target), "--iidfile", id_file.name),
            *("--file", str(ROOT / "Dockerfile.gpu"), str(ROOT)),
        )
        identity = id_file.read().strip().removeprefix("sha256:")
    print(f"testbed: image {target} built in {time.monotonic() - began_s:.0f} s", file=sys.stderr)
    return identity


def _base() -> None:
    """A minimal Debian in buildah's storage, which trusts what this machine trusts, so that pip and apt work in it."""
    if _BASE in _buildah("images", "--format", "{{.Name}}:{{.Tag}}").split():
        return
    print("testbed: making a base image from Debian's packages (a minute, once)", file=sys.stderr)
    with tempfile.TemporaryDirectory(prefix="stenofleet-base-") as folder:
        root = Path(folder) / "root"
        subprocess.run(
            ["debootstrap", "--variant=minbase", "--include=ca-certificates", "bookworm", root],
            stdout=subprocess.DEVNULL,
            check=True,
        )
        for leftovers in ("var/cache/apt", "var/lib/apt/lists"):
            shutil.rmtree(root / leftovers)
            (root / leftovers).mkdir()
        (root / _TRUST).write_bytes((Path("/") / _TRUST).read_bytes())
        (root / "etc/pip.conf").write_text(f"[global]\ncert = /{_TRUST}\n")
        dockerfile = Path(folder) / "Dockerfile"
        dockerfile.write_text("FROM scratch\nCOPY root /\n")
        _buildah("build", "--quiet", "--isolation", "chroot", "--tag", _BASE, "--file", str(dockerfile), folder)


def _remove_old_layers() -> None:
    """Start with an empty storage after many changes: nothing else removes old layers from the cache."""
    if len(_buildah("images", "--all", "--quiet").split()) > _MOST_IMAGES:
        _buildah("rmi", "--all", "--force")


def _folder() -> Path:
    return cache_folder() / "images"


def _buildah(*arguments: str) -> str:
    """The output of buildah; RuntimeError with the end of its messages when it fails."""
    storage = ("--root", str(_folder() / "storage"), "--runroot", str(_folder() / "run"), "--storage-driver", "overlay")
    done = subprocess.run(
        ["buildah", *storage, *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"buildah {arguments[0]} {arguments[-1]}:\n{(done.stdout + done.stderr)[-3000:]}")
    return done.stdout


if __name__ == "__main__":
    for one in TARGETS:
        print(archive(one))
