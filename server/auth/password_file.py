"""The password file: one line per user, its password as an Argon2id hash.

    # comment
    acme/bob:$argon2id$v=19$m=19456,t=2,p=1$...$...

`rookery passwd` writes it. The user name of CONNECT is `tenant/user`; a name that the file does not have is left to the
next authenticator, after as long as a wrong password takes. A file with a line that is not understood is refused whole.
"""

import fcntl
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

import trio

from rookery.core.events import ConnectRequested

from .authenticator import Admitted, Decision
from .chain import BAD_CREDENTIALS, NOT_MINE, NotMine
from .passwords import PasswordVerifier, check_hash
from .scram import parse_username

MODE = 0o600
LINES_MAXIMUM = 1_000_000


class PasswordFileError(Exception):
    """A password file that cannot be used: `FILE:LINE: reason`, never with the hash itself."""


def read_passwords(file: Path) -> dict[str, str]:
    """`tenant/user` -> hash. Raises PasswordFileError; the cause is an OSError when the file cannot be read."""
    try:
        text = file.read_bytes().decode()
    except OSError as error:
        raise PasswordFileError(f"{file}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        bad_line = error.object.count(b"\n", 0, error.start) + 1
        raise PasswordFileError(f"{file}:{bad_line}: not UTF-8") from None
    lines = text.split("\n")
    if len(lines) > LINES_MAXIMUM:
        raise PasswordFileError(f"{file}: {len(lines)} lines; at most {LINES_MAXIMUM} are allowed")
    hashes: dict[str, str] = {}
    for number, line in enumerate(lines, start=1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        username, _, hash_line = line.rpartition(":")  # A name may hold colons, a hash holds none.
        try:
            parse_username(username)
            check_hash(hash_line)
            if username in hashes:
                raise ValueError(f"{username} stands in an earlier line, too")
        except ValueError as error:
            raise PasswordFileError(f"{file}:{number}: {error}") from None
        hashes[username] = hash_line
    return hashes


def edit_passwords(file: Path, changes: Mapping[str, str | None]) -> None:
    """Give users these hashes, None takes a user out; the file is made when there is none. Comments stay.

    The file is replaced in one step, is readable by its owner only, and editors wait for each other. Raises
    PasswordFileError (nothing has changed then), and KeyError for a user to take out who is not there.
    """
    file = file.resolve()  # A symbolic link goes on pointing to it.
    try:
        directory = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise PasswordFileError(f"{file}: {error.strerror or error}") from error
    try:
        fcntl.flock(directory, fcntl.LOCK_EX)
        _replace(file, _edited_lines(file, changes))
        os.fsync(directory)
    except OSError as error:
        raise PasswordFileError(f"{file}: {error.strerror or error}") from error
    finally:
        os.close(directory)


def _edited_lines(file: Path, changes: Mapping[str, str | None]) -> list[str]:
    present = read_passwords(file) if file.exists() else {}
    left = dict(changes)
    for username, hash_line in changes.items():
        if hash_line is None and username not in present:
            raise KeyError(username)
        if hash_line is not None:
            try:
                parse_username(username)
                check_hash(hash_line)
                if "\n" in username or "\r" in username or username != username.strip() or username.startswith("#"):
                    raise ValueError("a name that begins with # or space, or holds a line end, cannot be kept here")
            except ValueError as error:
                raise PasswordFileError(f"{username!r}: {error}") from None
    lines = []
    for line in file.read_text(encoding="utf-8").split("\n") if file.exists() else []:
        username = "" if line.strip().startswith("#") else line.strip().rpartition(":")[0]
        if username not in left:
            lines.append(line)
        elif (hash_line := left.pop(username)) is not None:
            lines.append(f"{username}:{hash_line}")
    while lines and not lines[-1]:
        lines.pop()
    lines.extend(f"{username}:{hash_line}" for username, hash_line in left.items())
    return lines


def _replace(file: Path, lines: list[str]) -> None:
    descriptor, name = tempfile.mkstemp(prefix=f".{file.name}.", dir=file.parent)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            os.fchmod(stream.fileno(), MODE)
            if file.exists():  # An administrator may edit what belongs to the account of the broker.
                owner = file.stat()
                os.fchown(stream.fileno(), owner.st_uid, owner.st_gid)
            stream.writelines(f"{line}\n" for line in lines)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(name, file)
    except BaseException:
        os.unlink(name)
        raise


class PasswordFileAuthenticator:
    """Users and passwords of a file that can be read again. Made by open."""

    leaves_lastingly = True

    def __init__(self, file: Path, hashes: Mapping[str, str], verifier: PasswordVerifier) -> None:
        self._file = file
        self._hashes = hashes
        self._verifier = verifier

    @classmethod
    def open(cls, file: Path, verifier: PasswordVerifier) -> "PasswordFileAuthenticator":
        """Reads the file; raises PasswordFileError."""
        return cls(file, read_passwords(file), verifier)

    @property
    def user_count(self) -> int:
        return len(self._hashes)

    async def reload(self) -> dict[str, object]:
        """Read the file again; clients that are connected stay. Raises PasswordFileError, the old users stay then."""
        self._hashes = await trio.to_thread.run_sync(read_passwords, self._file)
        return {"users": self.user_count}

    def decide(self, request: ConnectRequested) -> Decision | NotMine | None:
        """Who was right a short while ago is admitted at once; a hash has to be waited for."""
        username = request.tenant_and_user
        if not username or not request.password:
            return NOT_MINE
        hash_line = self._hashes.get(username)
        remember_s = 0.0 if hash_line is None else self._verifier.remembered_for_s(hash_line, request.password)
        return _admitted(username, remember_s) if remember_s else None

    async def authenticate(self, request: ConnectRequested) -> Decision | NotMine:
        """See Link."""
        username = request.tenant_and_user
        if not username or not request.password:
            return NOT_MINE
        hash_line = self._hashes.get(username)
        is_right = await self._verifier.verify(hash_line, request.password)
        # The file may have been read again meanwhile: a user who was taken out, or has a new password, is not let in.
        if hash_line is None:
            return NOT_MINE
        if is_right and self._hashes.get(username) == hash_line:
            return _admitted(username, self._verifier.remembered_for_s(hash_line, request.password))
        return BAD_CREDENTIALS


def _admitted(username: str, remember_s: float) -> Admitted:
    return Admitted(*parse_username(username), remember_s=remember_s)
