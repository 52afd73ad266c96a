"""Reading certificates again: at SIGHUP, and when their files have changed."""

from collections.abc import Mapping

import trio

from rookery.server.log import get_logger

from .contexts import TlsContexts, TlsFileError

WATCH_S = 5.0  # between two looks at the files; a certificate is renewed weeks before it ends

_log = get_logger(__name__)


class TlsFiles:
    """Those of all listeners."""

    def __init__(self, contexts: Mapping[str, TlsContexts]) -> None:
        self._contexts = contexts

    def __bool__(self) -> bool:
        return bool(self._contexts)

    async def reload(self) -> dict[str, object]:
        """Read all again. Raises TlsFileError that tells of all that are wrong; their listeners go on as before."""
        await self._reload(dict(self._contexts))
        return {"listeners": list(self._contexts)}

    async def watch(self) -> None:
        """Read the files of a listener again when they have changed, until cancelled."""
        while True:
            await trio.sleep(WATCH_S)
            changed = {name: each for name, each in self._contexts.items() if each.have_files_changed()}
            if not changed:
                continue
            try:
                await self._reload(changed)
            except TlsFileError as error:
                _log.error("certificates_not_reloaded", reason=str(error))
            else:
                _log.info("certificates_reloaded", listeners=list(changed))

    async def _reload(self, contexts: Mapping[str, TlsContexts]) -> None:
        problems = []
        for each in contexts.values():
            try:
                await each.reload()
            except TlsFileError as error:
                problems.append(str(error))
        if problems:
            raise TlsFileError("; ".join(problems))
