"""Declared, locked and installed dependencies: none unused, none twice, and uv uses the index of pip."""

import ast
import base64
import hashlib
import http.server
import importlib.metadata
import importlib.util
import os
import re
import ssl
import subprocess
import sys
import threading
import tomllib
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme

ROOT = Path(__file__).parents[1]
INSTALL = ROOT / ".ci" / "install.py"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
LOCKS = sorted((ROOT / "requirements").glob("*.txt"))
SHIPPED, AROUND = ("controller", "chunk_job"), ("tests", "bench", "k8s")
# Used, but not by an import: the file and the text in it that uses the package.
ELSEWHERE = {
    "editables": ("pyproject.toml", 'requires = ["hatchling>=1.27", "editables>=0.5"]'),
    "hatchling": ("pyproject.toml", 'build-backend = "hatchling.build"'),
    "import-linter": ("Makefile", "lint-imports"),
    "mypy": ("Makefile", "-m mypy"),
    "nvidia-cublas-cu12": ("chunk_job/engine/device.py", "libcublas.so.12"),
    "pytest-timeout": ("pyproject.toml", '\ntimeout = "120"'),
    "pytest-xdist": ("Makefile", "-m pytest -n 2"),
    "ruff": ("Makefile", "-m ruff"),
    "types-html5lib": ("tests/controller/reports/test_html.py", "html5lib"),
    "types-jsonschema": ("tests/controller/domain/test_schema.py", "jsonschema"),
    "uv": ("Makefile", "-m uv"),
}

spec = importlib.util.spec_from_file_location("install", INSTALL)
assert spec is not None
assert spec.loader is not None
install = importlib.util.module_from_spec(spec)
spec.loader.exec_module(install)


def name_of(requirement: str) -> str:
    found = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert found, requirement
    return re.sub(r"[-_.]+", "-", found[0]).lower()


def declared(*groups: str) -> set[str]:
    return {name_of(one) for group in groups for one in PROJECT["dependency-groups"][group] if isinstance(one, str)}


def locked(path: Path) -> dict[str, list[str]]:
    """The version and hashes of every package."""
    blocks = re.findall(r"^(\S+)==(.*(?:\n    --hash=.*)+)", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {name: block.replace("\\", "").split() for name, block in blocks}


def imported(*folders: str) -> set[str]:
    """The packages that modules below *folders* import; a module of no installed package gives its own name."""
    modules = set()
    for path in (found for folder in folders for found in (ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                modules |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                modules.add(node.module.partition(".")[0])
    packages = importlib.metadata.packages_distributions()
    return {name_of(package) for module in modules for package in packages.get(module, [module])}


def used_elsewhere(package: str) -> bool:
    path, text = ELSEWHERE.get(package, ("README.md", "no text"))
    return text in (ROOT / path).read_text(encoding="utf-8")


def test_every_dependency_of_the_project_is_imported_by_what_is_shipped() -> None:
    base = {name_of(one) for one in PROJECT["project"]["dependencies"]}
    more = {name_of(one) for extra in PROJECT["project"]["optional-dependencies"].values() for one in extra}
    images = declared("controller", "chunk-job", "chunk-job-torch")
    known = imported(*SHIPPED)
    assert not {one for one in base | more | images if one not in known and not used_elsewhere(one)}


def test_every_tool_that_is_declared_is_used() -> None:
    known = imported(*SHIPPED, *AROUND)
    assert not {one for one in declared("dev", "build", "uv") if one not in known and not used_elsewhere(one)}


def test_no_exception_names_a_removed_dependency() -> None:
    assert declared("dev", "build", "uv", "chunk-job") >= ELSEWHERE.keys()


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.name)
def test_a_lock_has_versions_and_hashes_and_no_index(lock: Path) -> None:
    lines = [line for line in lock.read_text(encoding="utf-8").splitlines() if not line.lstrip().startswith("#")]
    wrong = [
        line for line in lines if not re.fullmatch(r"[\w.-]+==\S+( ; .+)? \\|    --hash=sha256:\w{64}( \\)?", line)
    ]
    assert lines
    assert not wrong
    assert locked(lock).keys() == {line.partition("==")[0] for line in lines if "==" in line and "--hash" not in line}


def test_a_package_in_two_locks_has_one_version_and_the_same_hashes() -> None:
    whole = locked(ROOT / "requirements" / "dev.txt")
    for lock in LOCKS:
        for package, entry in locked(lock).items():
            assert package not in whole or strip_markers(entry) == strip_markers(whole[package]), (lock.name, package)


def strip_markers(entry: list[str]) -> list[str]:
    return [entry[0], *(word for word in entry if word.startswith("--hash"))]


def test_pip_installs_the_uv_version_of_the_tools_lock() -> None:
    (bootstrapped,) = locked(ROOT / "requirements" / "uv.txt").items()
    assert bootstrapped == ("uv", locked(ROOT / "requirements" / "dev.txt")["uv"])


# ---------------------------------------------------------------- the settings of pip apply to uv

LISTED = """\
:env:.find-links='/nowhere https://wheels.example/'
:env:.index-url='https://variable.example/simple'
global.cert='/etc/trust.pem'
global.extra-index-url='\\nhttps://one.example/simple\\nhttps://two.example/simple'
global.index-url='https://file.example/simple'
install.trusted-host='one.example two.example:8443'
freeze.timeout='10'
"""


def test_a_variable_of_pip_wins_over_its_files() -> None:
    settings = install.pip_settings(LISTED)
    assert settings["index-url"] == "https://variable.example/simple"
    assert "timeout" not in settings


def test_uv_gets_the_index_certificates_and_hosts_of_pip() -> None:
    variables = install.uv_environment(install.pip_settings(LISTED), {"PATH": "/bin"})
    assert variables == {
        "PATH": "/bin",
        "SSL_CERT_FILE": "/etc/trust.pem",
        "UV_DEFAULT_INDEX": "https://variable.example/simple",
        "UV_FIND_LINKS": "https://wheels.example/",
        "UV_INDEX": "https://one.example/simple https://two.example/simple",
        "UV_INSECURE_HOST": "one.example two.example:8443",
    }


def test_without_a_bundle_uv_trusts_what_the_system_trusts() -> None:
    assert install.uv_environment({}, {})["UV_SYSTEM_CERTS"] == "true"
    assert "SSL_CERT_FILE" not in install.uv_environment({}, {})


def test_the_variables_that_win_over_pip_s_own_bundle_win_for_uv() -> None:
    variables = install.uv_environment(
        {"cert": "/pip.pem"}, {"REQUESTS_CA_BUNDLE": "/a.pem", "SSL_CERT_FILE": "/b.pem"}
    )
    assert variables == {"REQUESTS_CA_BUNDLE": "/a.pem", "SSL_CERT_FILE": "/a.pem"}


@pytest.mark.parametrize("own", ["UV_INDEX_URL", "UV_DEFAULT_INDEX"])
def test_uv_s_own_index_is_kept(own: str) -> None:
    variables = install.uv_environment({"index-url": "https://pip.example"}, {own: "https://uv.example"})
    assert [value for name, value in variables.items() if "INDEX" in name] == ["https://uv.example"]


# ---------------------------------------------------------------- a real index behind TLS that only pip's file names


@dataclass(frozen=True)
class Index:
    lock: Path
    environment: dict[str, str]

    def install(self, into: Path, *path: Path) -> subprocess.CompletedProcess[str]:
        """Run the installer with *path* in front of the PATH."""
        folders = os.pathsep.join([*map(str, path), self.environment["PATH"]])
        return subprocess.run(
            [sys.executable, INSTALL, "--into", into / "bin" / "python", self.lock],
            env=self.environment | {"PATH": folders},
            capture_output=True,
            text=True,
            check=False,
        )


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    served = tmp_path / "served"
    folder = served / "simple" / "stenofleet-tiny"
    folder.mkdir(parents=True)
    wheel = folder / "stenofleet_tiny-1.0-py3-none-any.whl"
    files = {
        "stenofleet_tiny.py": "",
        "stenofleet_tiny-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: stenofleet-tiny\nVersion: 1.0\n",
        "stenofleet_tiny-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    with zipfile.ZipFile(wheel, "w") as archive:
        record = "stenofleet_tiny-1.0.dist-info/RECORD,,\n"
        for name, text in files.items():
            digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
            record += f"{name},sha256={digest},{len(text)}\n"
            archive.writestr(name, text)
        archive.writestr("stenofleet_tiny-1.0.dist-info/RECORD", record)
    (folder / "index.html").write_text(f'<a href="{wheel.name}">{wheel.name}</a>')

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments: object) -> None:
            super().__init__(*arguments, directory=str(served))  # type: ignore[arg-type]

        def log_message(self, *arguments: object) -> None:
            pass

    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    trust = tmp_path / "trust.pem"
    authority.cert_pem.write_to_path(str(trust))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        variables = tmp_path / "pip.conf"
        variables.write_text(f"[global]\nindex-url = https://127.0.0.1:{server.server_port}/simple\ncert = {trust}\n")
        lock = tmp_path / "lock.txt"
        lock.write_text(f"stenofleet-tiny==1.0 --hash=sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}\n")
        others = re.compile("(PIP|UV|SSL)_|(REQUESTS|CURL)_CA_BUNDLE")
        plain = {name: value for name, value in os.environ.items() if not others.match(name)}
        caches = {"UV_CACHE_DIR": str(tmp_path / "uv"), "PIP_CACHE_DIR": str(tmp_path / "pip")}
        yield Index(lock, plain | caches | {"PIP_CONFIG_FILE": str(variables), "NO_PROXY": "127.0.0.1"})
        server.shutdown()


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """An environment without pip."""
    path = tmp_path / "bare"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", path], check=True)
    return path


@pytest.fixture
def broken_uv(tmp_path: Path) -> Path:
    """A folder with a uv that starts and then fails."""
    path = tmp_path / "broken"
    path.mkdir()
    (path / "uv").write_text('#!/bin/sh\n[ "$1" = --version ] || { echo "error: no such index" >&2; exit 2; }\n')
    (path / "uv").chmod(0o755)
    return path


def installer(environment: Path) -> str | None:
    """The tool that installed the package; None when it is not installed."""
    for path in environment.rglob("stenofleet_tiny-1.0.dist-info/INSTALLER"):
        return path.read_text(encoding="utf-8").strip()
    return None


@pytest.mark.process
def test_uv_installs_from_the_index_of_pip_s_file(index: Index, bare: Path) -> None:
    done = index.install(bare)
    assert (done.returncode, done.stderr) == (0, f"make: installing {index.lock}\n")
    assert installer(bare) == "uv"


@pytest.mark.process
def test_pip_installs_when_uv_fails_and_one_line_reports_it(index: Index, bare: Path, broken_uv: Path) -> None:
    done = index.install(bare, broken_uv)
    assert done.returncode == 0
    assert done.stderr.splitlines()[1:] == [
        "make: pip installs, which takes about a minute: uv failed (error: no such index)"
    ]
    assert installer(bare) == "pip"


@pytest.mark.process
def test_a_file_with_another_hash_is_installed_by_neither(index: Index, bare: Path) -> None:
    index.lock.write_text(f"stenofleet-tiny==1.0 --hash=sha256:{'0' * 64}\n")
    done = index.install(bare)
    assert done.returncode != 0
    assert "uv failed" in done.stderr
    assert "HASHES" in done.stderr
    assert installer(bare) is None


# ---------------------------------------------------------------- make venv, with an interpreter that records its calls

PYTHON = """\
#!/bin/sh
case "$*" in
    --version) echo Python 3.11 ;;
    "-m venv"*) echo created >>log; rm -rf .venv; mkdir -p .venv/bin; cp "$0" .venv/bin/python ;;
    *.ci/install.py*) echo installed >>log; [ ! -e fails ] || exit 1; [ ! -e killed ] || kill -9 $PPID ;;
esac
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    path = tmp_path / "check out"
    for name in ("Makefile", ".ci/need", ".ci/install.py", "pyproject.toml", "requirements/dev.txt"):
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes((ROOT / name).read_bytes())
    (path / "python").write_text(PYTHON)
    (path / "python").chmod(0o755)
    return path


def make_venv(checkout: Path) -> tuple[int, list[str]]:
    """Run ``make venv`` from another folder; returns the exit code and the recorded calls."""
    log = checkout / "log"
    log.write_text("")
    variables = {name: value for name, value in os.environ.items() if name not in {"MAKEFLAGS", "MFLAGS", "MAKELEVEL"}}
    command: list[str | Path] = ["make", "-C", checkout, "venv", f"PYTHON={checkout / 'python'}"]
    done = subprocess.run(command, env=variables, cwd="/", capture_output=True, text=True, check=False)
    return done.returncode, log.read_text().split()


def outdate(checkout: Path) -> None:
    os.utime(checkout / ".venv" / ".ready", (0, 0))


@pytest.mark.process
def test_the_environment_is_made_once_and_changed_when_the_lock_is(checkout: Path) -> None:
    assert make_venv(checkout) == (0, ["created", "installed"])
    assert make_venv(checkout) == (0, [])
    outdate(checkout)
    assert make_venv(checkout) == (0, ["installed"])
    assert make_venv(checkout) == (0, [])


@pytest.mark.process
@pytest.mark.parametrize("how", ["fails", "killed"])
def test_an_incomplete_environment_is_made_again(checkout: Path, how: str) -> None:
    (checkout / how).touch()
    code, did = make_venv(checkout)
    assert code != 0
    assert did == ["created", "installed"]
    (checkout / how).unlink()
    assert make_venv(checkout) == (0, ["created", "installed"])


@pytest.mark.process
@pytest.mark.parametrize("how,then", [("fails", ["installed"]), ("killed", ["created", "installed"])])
def test_a_change_that_fails_leaves_the_environment_and_one_that_is_killed_has_it_made_again(
    checkout: Path, how: str, then: list[str]
) -> None:
    make_venv(checkout)
    outdate(checkout)
    (checkout / how).touch()
    assert make_venv(checkout)[0] != 0
    (checkout / how).unlink()
    assert make_venv(checkout) == (0, then)
