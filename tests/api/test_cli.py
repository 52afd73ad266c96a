"""The command line, short of serving: what it prints and how it ends."""

import io
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from rookery.api.cli import main
from rookery.server.auth.scram import ScramCredential
from rookery.server.exit_code import ExitCode
from support.process import start_rookery

HEAVY = ("trio", "pydantic", "quart", "hypercorn", "structlog", "rookery.core")


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No configuration file and no variable of ours is around."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ROOKERY_CONFIG", raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def test_version_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == ExitCode.OK
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("rookery ")
    assert "trio" in line


def test_version_and_help_import_nothing_heavy(pytestconfig: pytest.Config) -> None:
    script = "import sys; from rookery.api.cli import main; main([sys.argv[1]]); print(*sys.modules)"
    for option in ("--version", "--help"):
        command = [sys.executable, "-c", script, option]
        output = subprocess.run(command, capture_output=True, text=True, check=True, cwd=pytestconfig.rootpath)
        modules = output.stdout.splitlines()[-1].split()
        assert not [name for name in modules if name in HEAVY]


@pytest.mark.parametrize("arguments", [["--help"], ["serve", "--help"], ["check", "-h"]])
def test_help_is_no_error(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == ExitCode.OK
    assert capsys.readouterr().out.startswith("Usage: rookery")


@pytest.mark.parametrize(
    ("arguments", "mention"),
    [
        (["serve", "--frobnicate"], "--frobnicate"),
        (["frobnicate"], "frobnicate"),
        (["serve", "somewhere"], "somewhere"),
        (["serve", "--shards", "many"], "many"),
        (["serve", "--mqtt"], "--mqtt"),
    ],
)
def test_mistyped_command_is_one_line_and_exit_code_2(
    arguments: list[str], mention: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == ExitCode.USAGE
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    assert line.startswith("rookery: ")
    assert mention in line


def test_scram_credential_is_made_of_the_first_line_of_input(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("pencil\n"))
    assert main(["scram-credential", "--iterations", "5000"]) == ExitCode.OK
    (line,) = capsys.readouterr().out.splitlines()
    credential = ScramCredential.parse(line)
    assert credential.iterations == 5000
    assert credential == ScramCredential.of_password("pencil", iterations=5000, salt=credential.salt)


@pytest.mark.parametrize(
    ("text", "arguments", "mention"),
    [("", [], "empty"), ("\n", [], "empty"), ("a\x07", [], "cannot be used"), ("a", ["--iterations", "1"], "4096")],
)
def test_scram_credential_of_nothing_usable_is_one_line_and_exit_code_2(
    text: str, arguments: list[str], mention: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(text))
    assert main(["scram-credential", *arguments]) == ExitCode.USAGE
    (line,) = capsys.readouterr().err.splitlines()
    assert mention in line


def test_no_command_shows_the_help_and_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == ExitCode.USAGE
    assert "Commands:" in capsys.readouterr().err


def test_check_prints_the_effective_configuration_with_origins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "broker.toml"
    file.write_text("[settings]\nMaxTopicLevels = 8\n", encoding="utf-8")
    monkeypatch.setenv("ROOKERY_API__BIND", "127.0.0.1:7")
    assert main(["check", "--config", str(file), "--mqtt", "127.0.0.1:9", "--shards", "2"]) == ExitCode.OK
    printed = capsys.readouterr().out
    for line in (
        f"# {file}",
        'bind = "127.0.0.1:9"  # flag --mqtt',
        'bind = "127.0.0.1:7"  # environment ROOKERY_API__BIND',
        "count = 2  # flag --shards",
        f"MaxTopicLevels = 8  # file {file}",
        f'dir = "{tmp_path / "state" / "rookery"}"  # default',
    ):
        assert line in printed.splitlines()
    assert tomllib.loads(printed)["settings"]["MaxTopicLevels"] == 8


@pytest.mark.parametrize("state", [None, "", "state"])
def test_data_is_kept_in_the_home_folder_where_no_state_folder_is_named(
    state: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_STATE_HOME")
    if state is not None:
        monkeypatch.setenv("XDG_STATE_HOME", state)  # A path that is not absolute counts as none.
    assert main(["check"]) == ExitCode.OK
    line = f'dir = "{tmp_path / ".local" / "state" / "rookery"}"  # default'
    assert line in capsys.readouterr().out.splitlines()
    assert not (tmp_path / ".local").exists()


def test_data_directory_of_the_configuration_is_taken_first(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", "--data", "memory"]) == ExitCode.OK
    assert 'dir = "memory"  # flag --data' in capsys.readouterr().out.splitlines()
    monkeypatch.setenv("ROOKERY_DATA__DIR", "memory")
    assert main(["check"]) == ExitCode.OK
    assert 'dir = "memory"  # environment ROOKERY_DATA__DIR' in capsys.readouterr().out.splitlines()


def test_served_without_a_directory_it_keeps_what_must_survive_in_the_state_folder() -> None:
    with start_rookery("--mqtt", "127.0.0.1:0", "--api", "127.0.0.1:0") as broker:
        folder = Path(broker.process.state_home) / "rookery"
        assert sorted(path.name for path in folder.iterdir() if path.is_dir()) == ["log"]
        assert folder.stat().st_mode & 0o777 == 0o700
        broker.stop()


@pytest.mark.parametrize("command", ["check", "serve"])
def test_problems_of_the_configuration_are_one_line_each_and_exit_code_78(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "broker.toml"
    file.write_text("[mqtt]\nbnid = 1\n[settings]\nMaximumQoS = 3\n", encoding="utf-8")
    assert main([command, "--config", str(file), "--shards", "0"]) == ExitCode.CONFIG
    captured = capsys.readouterr()
    assert captured.out == ""
    assert sorted(captured.err.splitlines()) == [
        f"rookery: mqtt.bnid: unknown key; did you mean bind? (file {file})",
        f"rookery: settings.MaximumQoS: 3 is out of range; valid is 0 to 2 (file {file})",
        "rookery: shards.count: Input should be greater than or equal to 1 (flag --shards)",
    ]


def test_insecure_flag_allows_what_is_refused_without_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--mqtt", "0.0.0.0:1883"]) == ExitCode.CONFIG
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("rookery: mqtt.bind: 0.0.0.0:1883 is open to other machines")
    assert "--insecure" in line
    assert main(["check", "--mqtt", "0.0.0.0:1883", "--insecure"]) == ExitCode.OK


def test_file_that_we_may_not_read_is_exit_code_77(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def deny(*arguments: object) -> None:
        raise PermissionError(13, "Permission denied")

    file = tmp_path / "broker.toml"
    file.touch()
    # A test that runs as root is denied nothing by the file's mode.
    monkeypatch.setattr(Path, "read_bytes", deny)
    assert main(["check", "--config", str(file)]) == ExitCode.PERMISSION
    assert capsys.readouterr().err == f"rookery: {file}: Permission denied\n"
