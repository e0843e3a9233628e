"""Deployments: packages become sessions, and one session at a time becomes active.

A package is unpacked, checked and its model is tried before anything changes; the active session
is written into the store in the same transaction as the contract of the documents.
"""

import asyncio
import functools
import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Concatenate, ParamSpec, TypeVar

from ranker.artifacts.bundle import HASHES
from ranker.engine.vespa_compat.admission import admit
from ranker.engine.vespa_compat.application_server import ActiveApplication, ApplicationServer
from ranker.engine.vespa_compat.sessions import Sessions
from ranker.errors import ArtifactError, RankerError
from ranker.files import sha256
from ranker.package.application import Package

__all__ = ["DeployError", "Deployments"]

logger = logging.getLogger(__name__)

_P = ParamSpec("_P")
_T = TypeVar("_T")


@dataclass
class DeployError(Exception):
    """A deployment that is answered with an error.

    Attributes:
        code: Vespa's error code (`HttpErrorResponse.java`).
        message: what is wrong.
    """

    code: str
    message: str

    def __str__(self) -> str:
        return self.message


def _to_the_end(
    method: Callable[Concatenate["Deployments", _P], Coroutine[Any, Any, _T]],
) -> Callable[Concatenate["Deployments", _P], Coroutine[Any, Any, _T]]:
    """Let a method continue to its end even if its client disconnects."""

    @functools.wraps(method)
    async def shielded(deployments: "Deployments", /, *args: _P.args, **keywords: _P.kwargs) -> _T:
        task = asyncio.get_running_loop().create_task(method(deployments, *args, **keywords))
        deployments.tasks.add(task)
        task.add_done_callback(deployments.tasks.discard)
        return await asyncio.shield(task)

    return shielded


class Deployments:
    """Deployments into a server, one at a time; each continues if its client disconnects.

    Args:
        server: serves the active session.
        folder: the folder of the packages.

    Attributes:
        server: as given.
        wanted: number of the session that was activated last, or is about to be; 0 for none.
        tasks: the deployments in progress.

    Raises:
        ArtifactError: the folder cannot be used.
    """

    def __init__(self, server: ApplicationServer, folder: Path) -> None:
        self.server = server
        self.wanted = server.session or 0
        self._sessions = Sessions(folder, server.session)
        self._turn = asyncio.Lock()
        self.tasks: set[asyncio.Task[Any]] = set()

    def start(self, package: Package | None, *, deploy: bool = False) -> None:
        """Serve the session that was activated last, or a package that is new.

        Args:
            package: the admitted package that the engine is started with.  If it is also the
                package of the last start, a later deployment stays active.
            deploy: True to serve the package in any case.

        Raises:
            RankerError: the package cannot be served, or is damaged.
        """
        number = self.server.session
        given = None if package is None else sha256(package.path / HASHES)
        if package is not None and (deploy or number is None or given != self.server.given):
            self._start_with(package, given)
        elif number is not None:
            self._start_again(number, package)
        else:
            logger.info("no application yet: deploy one")

    def _start_with(self, package: Package, given: str | None) -> None:
        """Serve a package as a new session."""
        self.server.require_fits(package.manifest)
        number = self._sessions.create_from(package.path)
        try:
            application = self.server.load(package, number)
            self._sessions.prepared(number)
            self.server.start(application, given)
        except BaseException:
            self._sessions.drop(number)
            raise
        self._activated(number)

    def _start_again(self, number: int, package: Package | None) -> None:
        """Serve the active session."""
        if package is None or not self._sessions.is_active(package.path):
            if package is not None:
                logger.warning(
                    "%s is not served: session %d was deployed after it; to serve it, start with "
                    "--deploy, or deploy it",
                    package.path,
                    number,
                )
            try:
                package = self._package(number)
            except (RankerError, DeployError) as error:
                raise ArtifactError(
                    f"the application that was deployed last cannot be served: {error}; serve "
                    "another one: ranker serve APP --data DATA --deploy"
                ) from error
        self.server.start(self.server.load(package, number))
        self._activated(number)

    def upload(self) -> IO[bytes]:
        """Return a file for an uploaded package, which is deleted when it is closed."""
        return self._sessions.upload()

    @_to_the_end
    async def deploy(self, archive: IO[bytes]) -> tuple[int, ActiveApplication]:
        """Unpack, check, load and activate a package; nothing is left of one that is refused.

        Args:
            archive: the zip file; it is closed.

        Returns:
            Number of the session, and the application that is active now.

        Raises:
            DeployError: the package cannot be served; the active application stays active.
        """
        with archive:
            async with self._turn:
                number = await self._unpack(archive)
                try:
                    return number, await self._load_and_activate(number)
                except BaseException:
                    # The store names the active session; once it does, the folder is needed.
                    if number != self.server.session:
                        await asyncio.to_thread(self._sessions.drop, number)
                    raise

    @_to_the_end
    async def create(self, archive: IO[bytes]) -> int:
        """Unpack a package into a new session and return its number.

        Raises:
            DeployError: the package cannot be unpacked.
        """
        with archive:
            async with self._turn:
                return await self._unpack(archive)

    @_to_the_end
    async def prepare(self, number: int) -> ActiveApplication:
        """Check a session and return its application, whose model is closed again.

        Raises:
            DeployError: the session does not exist, or cannot be served.
        """
        async with self._turn:
            if number == self._sessions.active:
                raise DeployError("BAD_REQUEST", f"session {number} is already active")
            application = await self._load(number)
            await asyncio.to_thread(application.scorer.close)
            return application

    @_to_the_end
    async def activate(self, number: int) -> None:
        """Activate a prepared session.

        Raises:
            DeployError: the session does not exist, is older than the active one, or cannot be
                served.
        """
        async with self._turn:
            if self._sessions.created(number) is not None:
                raise DeployError("BAD_REQUEST", f"session {number} is not prepared yet")
            active = self._sessions.active
            if number < active:
                raise DeployError(
                    "ACTIVATION_CONFLICT",
                    f"session {number} is older than the active session {active}; deploy the "
                    "package again",
                )
            await self._load_and_activate(number)

    async def _unpack(self, archive: IO[bytes]) -> int:
        try:
            return await asyncio.to_thread(self._sessions.create, archive)
        except RankerError as error:
            raise DeployError("BAD_REQUEST", error.reason) from error

    async def _load_and_activate(self, number: int) -> ActiveApplication:
        application = await self._load(number)
        self.wanted = number  # first, so that no client takes the old one for converged
        try:
            await self.server.activate(application)
        except BaseException as error:
            self.wanted = self._sessions.active
            application.scorer.close()
            if isinstance(error, RankerError):
                raise DeployError("ACTIVATION_CONFLICT", str(error)) from error
            raise
        await asyncio.to_thread(self._activated, number)
        return application

    async def _load(self, number: int) -> ActiveApplication:
        """Check and load the application of a session, which is prepared from then on."""

        def load() -> ActiveApplication:
            folder = self._sessions.created(number)
            package = self._package(number) if folder is None else admit(folder)
            self.server.require_fits(package.manifest)
            application = self.server.load(package, number)
            if folder is not None:
                self._sessions.prepared(number)
            return application

        try:
            return await asyncio.to_thread(load)
        except DeployError:
            raise
        except RankerError as error:
            raise _invalid(error.reason) from error
        except Exception as error:  # a hostile file can make a library raise anything
            logger.exception("a package cannot be loaded")
            raise _invalid(f"{type(error).__name__}: {error}") from error

    def _package(self, number: int) -> Package:
        folder = self._sessions.folder(number)
        if folder is None:
            raise DeployError("NOT_FOUND", f"session {number} does not exist")
        return admit(folder)

    def _activated(self, number: int) -> None:
        self._sessions.activated(number)
        self.wanted = number


def _invalid(reason: str) -> DeployError:
    return DeployError("INVALID_APPLICATION_PACKAGE", f"the package cannot be served: {reason}")
