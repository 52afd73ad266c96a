"""`rookery log info`, `rookery log verify` and `rookery repair`: what they print and how they end."""

import json
import re
import stat
import subprocess
from pathlib import Path

import pytest

from rookery.api.cli import main
from rookery.server.data_directory import lock_directory
from rookery.server.exit_code import ExitCode
from support.log_files import LAST_MARK_SIZE, make_newer
from support.memory_broker import Broker
from support.process import rookery_command, start_rookery


def fill(directory: Path, count: int = 3) -> Path:
    """A broker's log, and its only segment."""
    (directory / "log").mkdir(parents=True)
    broker = Broker(data=directory / "log", min_session_expiry_seconds=1)
    reader = broker.connect("reader", clean_start=False, session_expiry_interval=1000)
    reader.subscribe("a/#", qos=1)
    reader.drop()
    writer = broker.connect("writer")
    for number in range(count):
        writer.publish("a/b", b"message %d" % number, qos=1)
    broker.close()
    (path,) = (directory / "log").glob("*.log")
    return path


def test_info_tells_segments_and_records_by_kind(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = fill(tmp_path)
    assert main(["log", "info", str(tmp_path)]) == ExitCode.OK
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["segment", "bytes", "position", "commits", "records", "begun"]
    assert lines[1].split()[:3] == [path.name, str(path.stat().st_size), "0"]
    counts = {kind: int(count) for kind, count, _, _ in (line.split() for line in lines[2:-1])}
    assert counts["message"] == counts["queued"] == 3
    assert counts["subscribed"] == 1
    assert re.fullmatch(rf"total: 1 segments, {path.stat().st_size} bytes, \d+ commits, \d+ records", lines[-1])


def test_info_for_programs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = fill(tmp_path)
    content = bytearray(path.read_bytes())
    place = content.index(b"message 1")
    content[place] ^= 1
    path.write_bytes(content)
    assert main(["log", "info", "--json", str(tmp_path)]) == ExitCode.OK
    report = json.loads(capsys.readouterr().out)
    assert report["is_damaged"]
    assert report["records"]["message"] == 2
    assert report["record_bytes"].keys() == report["records"].keys()
    (segment,) = report["segments"]
    (hole,) = segment["holes"]
    assert hole["path"] == str(path)
    assert hole["offset"] < place < hole["offset"] + hole["bytes"]


def test_verify_ends_with_65_and_names_the_first_bad_place(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = fill(tmp_path)
    assert main(["log", "verify", str(tmp_path)]) == ExitCode.OK
    assert capsys.readouterr().out.startswith("good: 1 segments")
    content = bytearray(path.read_bytes())
    place = content.index(b"message 1")
    content[place] ^= 1
    path.write_bytes(content)
    assert main(["log", "verify", str(tmp_path)]) == ExitCode.DATA
    captured = capsys.readouterr()
    assert captured.out == ""
    bad, hint = captured.err.splitlines()
    match = re.fullmatch(rf"rookery: {path}: offset (\d+): (\d+) bytes are damaged or missing", bad)
    assert match is not None
    assert int(match[1]) < place < int(match[1]) + int(match[2])
    assert "rookery repair" in hint
    assert path.read_bytes() == content


def test_verify_never_calls_a_flipped_bit_good(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = fill(tmp_path)
    whole = path.read_bytes()
    for place in range(len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << place % 8
        path.write_bytes(damaged)
        code = main(["log", "verify", str(tmp_path)])
        captured = capsys.readouterr()
        if place < len(whole) - LAST_MARK_SIZE:
            assert code == ExitCode.DATA, place
            assert str(path) in captured.err
        else:  # the mark of an orderly stop, before which nothing is missing
            assert code == ExitCode.OK
            assert "a commit that was not finished" in captured.out
        assert path.read_bytes() == damaged


def test_verify_tells_a_cut_at_every_byte(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = fill(tmp_path, count=1)
    whole = path.read_bytes()
    plain = []
    for cut in range(1, len(whole)):
        path.write_bytes(whole[:cut])
        assert main(["log", "verify", str(tmp_path)]) == ExitCode.OK  # as a process that was killed leaves it
        printed = capsys.readouterr().out
        if "a commit that was not finished" not in printed:
            plain.append(cut)
        assert path.read_bytes() == whole[:cut]
    # Only where a record ends, and behind the header, nothing shows.
    assert plain[0] == 64
    assert len(plain) < 20
    assert len(whole) - LAST_MARK_SIZE in plain


def test_later_format_is_refused_by_all(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = fill(tmp_path)
    make_newer(path)
    for command in (["log", "info"], ["log", "verify"], ["repair"]):
        assert main([*command, str(tmp_path)]) == ExitCode.DATA
        expected = f"rookery: {path}: has format 2, this version of Rookery reads up to 1\n"
        assert capsys.readouterr().err == expected


def test_what_is_no_data_directory_is_one_line_and_exit_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for command in (["log", "info"], ["log", "verify"], ["repair"]):
        assert main([*command, str(tmp_path / "none")]) == ExitCode.USAGE
        (line,) = capsys.readouterr().err.splitlines()
        assert line == f"rookery: data directory {tmp_path / 'none'}: it has no folder log"


def test_repair_says_what_is_lost_and_where_the_old_log_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = fill(tmp_path)
    content = bytearray(path.read_bytes())
    content[content.index(b"message 1")] ^= 1
    path.write_bytes(content)
    with lock_directory(tmp_path):
        assert main(["repair", str(tmp_path)]) == ExitCode.UNAVAILABLE
    assert "in use by process" in capsys.readouterr().err
    assert main(["repair", str(tmp_path)]) == ExitCode.OK
    hole, total, where = capsys.readouterr().out.splitlines()
    assert hole.startswith(f"{path}: offset ")
    assert re.fullmatch(r"saved \d+ records, lost \d+ bytes", total)
    set_aside = Path(where.removeprefix("the damaged log is now "))
    assert (set_aside / path.name).read_bytes() == content
    assert main(["log", "verify", str(tmp_path)]) == ExitCode.OK
    capsys.readouterr()
    assert main(["repair", str(tmp_path)]) == ExitCode.OK
    assert capsys.readouterr().out.startswith("nothing to repair: ")


def test_broker_refuses_a_damaged_log_and_starts_on_the_repaired_one(tmp_path: Path) -> None:
    path = fill(tmp_path, count=20)
    content = bytearray(path.read_bytes())
    place = content.index(b"message 11")
    content[place] ^= 1
    path.write_bytes(content)
    options = ("--mqtt", "127.0.0.1:0", "--api", "127.0.0.1:0", "--data", str(tmp_path))
    refused = subprocess.run(rookery_command("serve", *options), capture_output=True, text=True, timeout=20)
    assert refused.returncode == ExitCode.DATA
    assert str(path) in refused.stderr
    assert subprocess.run(rookery_command("repair", str(tmp_path)), capture_output=True, timeout=20).returncode == 0
    with start_rookery(*options) as broker:
        for command, code in ((["log", "verify"], ExitCode.UNAVAILABLE), (["log", "info"], ExitCode.OK)):
            assert main([*command, str(tmp_path)]) == code
        broker.stop()
    assert stat.S_IMODE((tmp_path / "log").stat().st_mode) == 0o700
    assert all(stat.S_IMODE(file.stat().st_mode) == 0o600 for file in (tmp_path / "log").iterdir())


def test_backup_and_restore(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    size = fill(tmp_path / "data").stat().st_size
    data, backup, new = (str(tmp_path / name) for name in ("data", "backup", "new"))
    assert main(["backup", data, backup]) == ExitCode.OK
    assert capsys.readouterr().out == f"backup {backup}: 1 files, {size} bytes\n"
    assert main(["log", "verify", backup]) == ExitCode.OK
    capsys.readouterr()
    assert main(["restore", backup, new]) == ExitCode.OK
    assert capsys.readouterr().out == f"data directory {new}: 1 files, {size} bytes restored\n"
    for arguments, code, complaint in (
        (["backup", data, backup], ExitCode.USAGE, f"backup {backup}: it exists already"),
        (["backup", backup + "x", new + "x"], ExitCode.USAGE, f"data directory {backup}x: it has no folder log"),
        (["restore", backup, new], ExitCode.USAGE, f"data directory {new}: it has log already, which would be"),
        (["restore", data, new + "y"], ExitCode.DATA, f"backup {data}: it has no backup.json, so it is none"),
    ):
        assert main(arguments) == code
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"rookery: {complaint}")
    with lock_directory(tmp_path / "locked"):
        assert main(["restore", backup, str(tmp_path / "locked")]) == ExitCode.UNAVAILABLE


def test_compact_tells_what_it_gave_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = fill(tmp_path, 100).stat().st_size
    assert main(["log", "compact", str(tmp_path)]) == ExitCode.OK
    (after,) = (path.stat().st_size for path in (tmp_path / "log").glob("*.log"))
    assert capsys.readouterr().out == f"{before} bytes before, {after} bytes now\n"
    assert main(["log", "compact", str(tmp_path / "none")]) == ExitCode.USAGE
