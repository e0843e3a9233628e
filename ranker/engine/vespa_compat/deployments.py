"""Deployments: packages into sessions, one session at a time into the container.

A package is unpacked, checked and its model is tried before anything changes; what is activated is
written into the store in the same transaction as the contract of the documents.
"""

import asyncio
import logging
from collections.abc import Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TypeVar

from ranker.artifacts.bundle import HASHES
from ranker.engine.vespa_compat.admission import admit
from ranker.engine.vespa_compat.application_server import ActiveApplication, Container
from ranker.engine.vespa_compat.sessions import Sessions
from ranker.errors import ArtifactError, RankerError
from ranker.files import sha256
from ranker.package.application import Package

__all__ = ["DeployFault", "Deployments"]

logger = logging.getLogger(__name__)

_T = TypeVar("_T")


@dataclass
class DeployFault(Exception):
    """A deployment that gets an error instead of an answer.

    Attributes:
        code: Vespa's error code (`HttpErrorResponse.java`).
        message: what is wrong.
    """

    code: str
    message: str

    def __str__(self) -> str:
        return self.message


class Deployments:
    """Deployments into a container, one at a time; each goes on where its client goes away.

    Args:
        container: serves what is activated.
        folder: where the packages are kept.

    Attributes:
        container: as given.
        wanted: number of the session that was activated last, or is about to be; 0 for none.

    Raises:
        ArtifactError: the folder cannot be used.
    """

    def __init__(self, container: Container, folder: Path) -> None:
        self.container = container
        self.wanted = container.session or 0
        self._sessions = Sessions(folder, container.session)
        self._turn = asyncio.Lock()
        self._tasks: set[asyncio.Task[Any]] = set()

    def start(self, package: Package | None, *, deploy: bool = False) -> None:
        """Have the container serve what was activated last, or a package that is new.

        Args:
            package: the admitted package that the engine is started with.  Where it is the one
                of the last start, a later deployment outlives this start.
            deploy: whether to serve the package in any case.

        Raises:
            RankerError: the package cannot be served, or is damaged.
        """
        number = self.container.session
        given = None if package is None else sha256(package.path / HASHES)
        if package is not None and (deploy or number is None or given != self.container.given):
            self._start_with(package, given)
        elif number is not None:
            self._start_again(number, package)
        else:
            logger.info("no application yet: deploy one")

    def _start_with(self, package: Package, given: str | None) -> None:
        """Serve a package, as a new session."""
        self.container.require_fits(package.manifest)
        number = self._sessions.create_from(package.path)
        try:
            served = self.container.load(package, number)
            self._sessions.prepared(number)
            self.container.start(served, given)
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
            except (RankerError, DeployFault) as error:
                raise ArtifactError(
                    f"the application that was deployed last cannot be served: {error}; serve "
                    "another one: ranker serve APP --data DATA --deploy"
                ) from error
        self.container.start(self.container.load(package, number))
        self._activated(number)

    def upload(self) -> IO[bytes]:
        """A file for a package that comes in, gone when it is closed."""
        return self._sessions.upload()

    async def deploy(self, archive: IO[bytes]) -> tuple[int, ActiveApplication]:
        """Unpack, check, load and serve; nothing is left of what cannot be served.

        Args:
            archive: the zip file; it is closed.

        Returns:
            Number of the session, and what is served now.

        Raises:
            DeployFault: the package cannot be served; what was served before is.
        """
        return await self._done(self._deploy(archive))

    async def create(self, archive: IO[bytes]) -> int:
        """Unpack a package into a new session; its number.

        Raises:
            DeployFault: it cannot be unpacked.
        """
        return await self._done(self._create(archive))

    async def prepare(self, number: int) -> ActiveApplication:
        """Check a session; what it would serve, closed again.

        Raises:
            DeployFault: there is no such session, or it cannot be served.
        """
        return await self._done(self._prepare(number))

    async def activate(self, number: int) -> None:
        """Serve a prepared session.

        Raises:
            DeployFault: there is no such session, a newer one is active, or it cannot be served.
        """
        await self._done(self._activate(number))

    async def _deploy(self, archive: IO[bytes]) -> tuple[int, ActiveApplication]:
        with archive:
            async with self._turn:
                number = await self._unpack(archive)
                try:
                    return number, await self._load_and_serve(number)
                except BaseException:
                    if number != self.container.session:
                        await asyncio.to_thread(self._sessions.drop, number)
                    raise

    async def _create(self, archive: IO[bytes]) -> int:
        with archive:
            async with self._turn:
                return await self._unpack(archive)

    async def _prepare(self, number: int) -> ActiveApplication:
        async with self._turn:
            if number == self._sessions.active:
                raise DeployFault("BAD_REQUEST", f"Session is active: {number}")
            if self._sessions.created(number) is None and self._sessions.folder(number) is None:
                raise _no_session(number)
            served = await self._load(number)
            await asyncio.to_thread(served.scorer.close)
            return served

    async def _activate(self, number: int) -> None:
        async with self._turn:
            self._check_activation(number)
            await self._load_and_serve(number)

    async def _unpack(self, archive: IO[bytes]) -> int:
        try:
            return await asyncio.to_thread(self._sessions.create, archive)
        except RankerError as error:
            raise DeployFault("BAD_REQUEST", str(error)) from error

    async def _load_and_serve(self, number: int) -> ActiveApplication:
        served = await self._load(number)
        self.wanted = number
        try:
            await self.container.activate(served)
        except BaseException as error:
            self.wanted = self._sessions.active
            served.scorer.close()
            if isinstance(error, RankerError):
                raise DeployFault("ACTIVATION_CONFLICT", str(error)) from error
            raise
        await asyncio.to_thread(self._activated, number)
        return served

    async def _load(self, number: int) -> ActiveApplication:
        """The application of a session, checked and loaded; the session is prepared then."""

        def load() -> ActiveApplication:
            folder = self._sessions.created(number)
            package = self._package(number) if folder is None else admit(folder)
            self.container.require_fits(package.manifest)
            served = self.container.load(package, number)
            if folder is not None:
                self._sessions.prepared(number)
            return served

        try:
            return await asyncio.to_thread(load)
        except DeployFault:
            raise
        except Exception as error:
            if not isinstance(error, RankerError):  # what a hostile file can make a library raise
                logger.exception("a package cannot be loaded")
            raise DeployFault("INVALID_APPLICATION_PACKAGE", self._reason(number, error)) from error

    def _package(self, number: int) -> Package:
        folder = self._sessions.folder(number)
        if folder is None:
            raise _no_session(number)
        return admit(folder)

    def _reason(self, number: int, error: Exception) -> str:
        """Why a package cannot be served, without the folder of the session in it."""
        said = str(error) if isinstance(error, RankerError) else f"{type(error).__name__}: {error}"
        for folder in (self._sessions.created(number), self._sessions.folder(number)):
            if folder is not None:
                said = said.replace(f"{folder}/", "").replace(f" {folder}", "")
                said = said.replace(str(folder), "the package")
        return f"Invalid application package: {said}"

    def _check_activation(self, number: int) -> None:
        if self._sessions.created(number) is not None:
            raise DeployFault("BAD_REQUEST", f"Session {number} is not prepared")
        active = self._sessions.active
        if number < active:
            raise DeployFault(
                "ACTIVATION_CONFLICT",
                f"Cannot activate session {number} because the currently active session "
                f"({active}) is newer; deploy the package again",
            )
        if self._sessions.folder(number) is None:
            raise _no_session(number)

    def _activated(self, number: int) -> None:
        self._sessions.activated(number)
        self.wanted = number

    async def _done(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Work that goes on to its end where the client goes away."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return await asyncio.shield(task)


def _no_session(number: int) -> DeployFault:
    return DeployFault("NOT_FOUND", f"Local session {number} for 'default' was not found")
