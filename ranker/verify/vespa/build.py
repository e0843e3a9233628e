"""The Java class path: Vespa's jars and our few classes, built once into the user's cache.

The folder's name holds the Vespa version and a hash of the sources, so that new sources are built
again.  It has everything that `java -cp` needs: no Maven and no network after the first build.
"""

import fcntl
import hashlib
import logging
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from ranker.errors import MissingTool, VerifyError
from ranker.files import cache_folder

__all__ = ["VESPA_VERSION", "cache_folder", "class_path", "is_built", "java", "maven"]

VESPA_VERSION = "8.700.24"
"""The Vespa release that the tests run with."""

SOURCES = Path(__file__).parent / "java"
JAR = "ranker-verify.jar"
LEAST_JAVA = 17
BUILD_TIMEOUT_S = 1800

log = logging.getLogger(__name__)


def java() -> Path:
    """Return the Java virtual machine of JAVA_HOME, or of PATH.

    Raises:
        MissingTool: there is none, or it is too old for Vespa's classes.
    """
    advice = f"install a JDK of version {LEAST_JAVA} or newer, or set JAVA_HOME to one"
    program = _program("java", home="JAVA_HOME")
    if program is None:
        raise MissingTool(f"no JDK: there is no `java` on PATH; {advice}")
    version = _java_version(program)
    if version < LEAST_JAVA:
        raise MissingTool(f"no JDK that Vespa runs on: {program} is Java {version}; {advice}")
    return program


def maven() -> Path:
    """Return Maven, which only the first build needs.

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
    """Return the class path; build it if it is not in this user's cache.

    Processes that need it at the same time wait for the first one's build.

    Raises:
        MissingTool: there is no JDK, or no Maven for the first build.
        VerifyError: the build failed.
    """
    java()
    folder = _folder(version)
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with folder.with_name(f"{folder.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # the OS releases it when the process exits
            if not folder.is_dir():
                _build(folder, version)
    return os.pathsep.join([str(folder / JAR), str(folder / "jars" / "*")])


def is_built(version: str = VESPA_VERSION) -> bool:
    """Return True if nothing must be built for this Vespa version; a build takes half a minute."""
    return _folder(version).is_dir()


def _folder(version: str) -> Path:
    if not re.fullmatch(r"\d+\.\d+\.\d+", version):
        raise VerifyError(f"expected a Vespa version like {VESPA_VERSION}, got {version!r}")
    digest = hashlib.sha256()
    for path in sorted(SOURCES.rglob("*")):
        if path.suffix in (".java", ".xml"):
            digest.update(path.relative_to(SOURCES).as_posix().encode())
            digest.update(path.read_bytes())
    return cache_folder() / f"vespa-{version}-{digest.hexdigest()[:12]}"


def _build(folder: Path, version: str) -> None:
    """Build next to the folder, then rename, so that a broken build is never used."""
    program = maven()
    log.info("building the class path of Vespa %s into %s (once)", version, folder)
    # In the same folder, since a rename must not cross file systems.
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".vespa-") as name:
        work = Path(name)
        shutil.copytree(SOURCES, work, dirs_exist_ok=True)
        _run_maven(program, work, version)
        made = work / "made"
        made.mkdir()
        (work / "target" / JAR).rename(made / JAR)
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
            f"Maven could not build the class path of Vespa {version}: {reason}; "
            "the first build needs Maven Central, later runs do not"
        )


def _program(name: str, *, home: str) -> Path | None:
    """Find a program in the folder that an environment variable names, else on PATH."""
    places = [os.path.join(os.environ[home], "bin")] if os.environ.get(home) else []
    programs = (shutil.which(name, path=path) for path in [*places, None])
    return next((Path(program) for program in programs if program), None)


def _java_version(program: Path) -> int:
    """Return the feature version, e.g. 17; 0 where the program does not print one."""
    done = subprocess.run([program, "-version"], capture_output=True, text=True, check=False)
    version = re.search(r'version "(\d+)', done.stderr + done.stdout)
    return int(version[1]) if version else 0
