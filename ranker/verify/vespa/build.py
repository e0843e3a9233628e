"""The judge's class path: Vespa's jars and our few Java classes, built once into the user's cache.

The folder's name is the Vespa version and a hash of the sources, so a new ranker builds anew.  It
holds everything that `java -cp` needs: no Maven and no network after the first build.
"""

import contextlib
import fcntl
import hashlib
import logging
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from ranker.errors import MissingTool, VerifyError
from ranker.files import cache_folder

__all__ = ["VESPA_VERSION", "cache_folder", "class_path", "is_built", "java", "maven"]

VESPA_VERSION = "8.700.24"
"""The Vespa release that the tests run with."""

SOURCES = Path(__file__).parent / "java"
LEAST_JAVA = 17
BUILD_TIMEOUT_S = 1800

log = logging.getLogger(__name__)


def java() -> Path:
    """The Java virtual machine of JAVA_HOME, or of PATH.

    Raises:
        MissingTool: there is none, or it is too old for Vespa's classes.
    """
    advice = f"install a JDK of version {LEAST_JAVA} or newer, or set JAVA_HOME to one"
    program = _program("java", home="JAVA_HOME")
    if program is None:
        raise MissingTool(f"no JDK: there is no `java` on PATH; {advice}")
    found = _java_version(program)
    if found < LEAST_JAVA:
        raise MissingTool(f"no JDK that Vespa runs on: {program} is Java {found}; {advice}")
    return program


def maven() -> Path:
    """Maven, needed for the first build only.

    Raises:
        MissingTool: it is not on PATH.
    """
    program = _program("mvn", home="MAVEN_HOME")
    if program is None:
        raise MissingTool(
            "no Maven: there is no `mvn` on PATH; it fetches Vespa's own code once "
            "(about 190 MB); install Maven 3.8 or newer"
        )
    return program


def class_path(version: str = VESPA_VERSION) -> str:
    """The class path of the judge; builds it if this user has not had it yet.

    Processes that come at the same time wait for the first one's build.

    Raises:
        MissingTool: there is no JDK, or no Maven for the first build.
        VerifyError: the build failed.
    """
    java()
    folder = _folder(version)
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _lock(folder.with_name(f"{folder.name}.lock")):
            if not folder.is_dir():
                _build(folder, version)
    return os.pathsep.join([str(folder / "judge.jar"), str(folder / "jars" / "*")])


def is_built(version: str = VESPA_VERSION) -> bool:
    """Whether this user has the judge of this Vespa version; a build takes half a minute."""
    return _folder(version).is_dir()


def _folder(version: str) -> Path:
    return cache_folder() / f"judge-{_version(version)}-{_sources_hash()}"


def _build(folder: Path, version: str) -> None:
    """Build beside the folder, then rename: a broken build is never found by its name."""
    program = maven()
    log.info("building Vespa %s's own code as judge into %s (once)", version, folder)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".judge-") as name:
        work = Path(name)
        shutil.copytree(SOURCES, work, dirs_exist_ok=True)
        _run_maven(program, work, version)
        made = work / "made"
        made.mkdir()
        (work / "target" / "judge.jar").rename(made / "judge.jar")
        (work / "target" / "jars").rename(made / "jars")
        made.rename(folder)


def _run_maven(program: Path, work: Path, version: str) -> None:
    command = [str(program), "-q", "-B", f"-Dvespa.version={version}", "package"]
    try:
        done = subprocess.run(
            command, cwd=work, capture_output=True, text=True, timeout=BUILD_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise VerifyError(f"Maven did not finish within {BUILD_TIMEOUT_S} s in {work}") from error
    if done.returncode != 0:
        errors = [line[8:] for line in done.stdout.splitlines() if line.startswith("[ERROR] ")]
        reason = errors[0] if errors else (done.stderr.strip() or "no reason given")
        raise VerifyError(
            f"Maven could not build the judge for Vespa {version}: {reason}; "
            "the first build needs Maven Central, later ones nothing"
        )


@contextlib.contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Hold an exclusive lock; the kernel lets go of it even if the process is killed."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _sources_hash() -> str:
    digest = hashlib.sha256()
    for path in sorted(SOURCES.rglob("*")):
        if path.suffix in (".java", ".xml"):
            digest.update(path.relative_to(SOURCES).as_posix().encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def _version(version: str) -> str:
    if not re.fullmatch(r"\d+\.\d+\.\d+", version):
        raise VerifyError(f"expected a Vespa version like {VESPA_VERSION}, got {version!r}")
    return version


def _program(name: str, *, home: str) -> Path | None:
    """A program of the folder that an environment variable names, else of PATH."""
    places = [os.path.join(os.environ[home], "bin")] if os.environ.get(home) else []
    for path in [*places, None]:
        found = shutil.which(name, path=path)
        if found is not None:
            return Path(found)
    return None


def _java_version(program: Path) -> int:
    """The feature version, e.g. 17; 0 where the program does not say."""
    done = subprocess.run([program, "-version"], capture_output=True, text=True, check=False)
    found = re.search(r'version "(\d+)', done.stderr + done.stdout)
    return int(found.group(1)) if found else 0
