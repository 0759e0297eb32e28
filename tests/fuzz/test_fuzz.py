"""The tools behind make fuzz and make kill tell what they are for, and a few files of each kind are read or refused."""

import json
import os
import signal
import sys
import time
from pathlib import Path

import kill
import kinds
import mutate
import numpy as np
import pytest
from kinds import KINDS, Kind

import fuzz
from atoken.core.errors import ReadError

ENDS = {
    b"result": None,
    b"named": ReadError("a.bin is damaged"),
    b"plain": ValueError("a.bin is damaged"),
    b"unnamed": ReadError("it is damaged"),
    b"long": ReadError("a.bin " + "x" * 1000),
    b"strange": TypeError("a.bin"),
    b"memory": MemoryError("a.bin"),
}


def read(path: Path) -> object:
    data = path.read_bytes()
    if data == b"dies":
        os.kill(os.getpid(), signal.SIGKILL)
    if data == b"hangs":
        time.sleep(60)
    if ENDS[data] is not None:
        raise ENDS[data]
    return data


@pytest.fixture
def fake(monkeypatch):
    """A kind whose files say how reading them ends: case N by the N-th of the names."""
    names = [*ENDS, b"dies", b"hangs", b"result"]
    kind = Kind(len(names), 1.0, lambda folder: [{"a.bin": b"result"}], lambda sound, other, rng: {}, read)
    monkeypatch.setitem(KINDS, "fake", kind)
    monkeypatch.setattr(fuzz, "case", lambda kind, seeds, number, seed: (seeds[0], {"a.bin": names[number]}))
    monkeypatch.setattr(fuzz, "SECONDS", 1.0)
    return names


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="forks, and limits the address space")
def test_every_end_is_told_and_what_dies_or_hangs_stops_nothing(fake):
    tally = fuzz.run("fake", fuzz.sound_files("fake"), range(len(fake)), 0, 60.0, 1)
    assert tally.ends == {"results": 2, "refused": 1, "other": 7}
    ends = {fake[number]: end for number, end in tally.failures}
    assert ends.keys() == {b"plain", b"unnamed", b"long", b"strange", b"memory", b"dies", b"hangs"}
    assert "names no file" in ends[b"unnamed"]
    assert "no sentence" in ends[b"long"]
    assert "TypeError" in ends[b"strange"]
    assert "ValueError" in ends[b"plain"]
    assert "-9" in ends[b"dies"]
    assert "took over" in ends[b"hangs"]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="forks, and limits the address space")
def test_failures_are_printed_kept_and_the_end_of_the_run(fake, tmp_path, capsys):
    arguments = ["--kinds", "fake", "--keep", str(tmp_path / "kept"), "--jobs", "2"]
    assert fuzz.main(arguments) == 1
    printed = capsys.readouterr().out
    assert "--seed 0 --case fake:5" in printed
    assert (tmp_path / "kept/fake-5/a.bin").read_bytes() == b"strange"
    fake[:] = [b"result", b"named"]
    assert fuzz.main([*arguments, "--count", "2"]) == 0


def test_a_sound_file_that_is_not_read_ends_the_run(monkeypatch):
    monkeypatch.setitem(KINDS, "fake", Kind(1, 1.0, lambda _: [{"a.bin": b"strange"}], mutate.of_files, read))
    with pytest.raises(SystemExit, match=r"a\.bin"):
        fuzz.sound_files("fake")


def test_cases_depend_on_seed_and_number_alone():
    seeds = [{"a.json": json.dumps({"a": [1, 2, {"b": "c"}]}).encode()}, {"b.png": bytes(range(256))}]
    cases = [fuzz.case("pictures", seeds, number, seed) for number in range(50) for seed in (0, 1)]
    assert cases == [fuzz.case("pictures", seeds, number, seed) for number in range(50) for seed in (0, 1)]
    changed = [next(iter(files.values())) for _, files in cases]
    assert len(set(changed)) > 80
    assert sum(files != sound for sound, files in cases) > 90


def test_json_is_changed_in_its_entries_and_in_the_json_inside_them():
    value = {"name": "x", "shape": [1, 2, 3], "inner": json.dumps({"a": [1, 2]})}
    made = [json.dumps(mutate.of_json(value, np.random.default_rng(number))) for number in range(200)]
    assert len(set(made)) > 100
    inner = [entry for text in made if isinstance(entry := json.loads(text).get("inner"), str) and entry[:1] == "{"]
    assert set(inner) - {value["inner"]}


def test_token_files_are_sealed_again_so_that_their_headers_are_reached(tmp_path):
    seeds = fuzz.sound_files("tokens")
    reached = 0
    for number in range(200):
        _, files = fuzz.case("tokens", seeds, number, 0)
        ((name, data),) = files.items()
        (tmp_path / name).write_bytes(data)
        try:
            KINDS["tokens"].read(tmp_path / name)
        except ValueError as error:
            reached += not any(word in str(error) for word in ("checksum", "truncated", "not a token file", "empty"))
    assert reached > 20, reached


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="forks, and limits the address space")
@pytest.mark.parametrize("kind", list(kinds.KINDS))
def test_a_few_files_of_each_kind_give_a_result_or_one_sentence(kind):
    tally = fuzz.run(kind, fuzz.sound_files(kind), range(60), 1, 30.0, 1)
    assert sum(tally.ends.values()) > 0
    assert tally.failures == []


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="forks")
def test_an_interrupted_command_is_seen_and_what_it_leaves(tmp_path, monkeypatch):
    def command():
        out = Path(sys.argv[1])
        out.mkdir(exist_ok=True)
        try:
            for name in ("a.json", "b.json"):
                (out / name).write_text('{"n": 1}')
                time.sleep(0.2)
        except KeyboardInterrupt:
            sys.exit(130)
        if sys.argv[2] == "bad":
            (out / f".{os.getpid()}.tmp").write_text("left")

    monkeypatch.setattr("atoken.cli.main", command)
    for way, wrong in (("good", False), ("bad", True)):
        monkeypatch.setitem(kill.COMMANDS, "fake", f"{{out}} {way}")
        place = tmp_path / way
        place.mkdir()
        tally = kill.campaign("fake", None, place, 3, 60.0, 0)
        kills, _ = tally.pop("kills"), tally.pop("too late", 0)
        assert kills == 3
        assert bool(tally) is wrong


def test_half_written_files_and_differences_are_told(tmp_path):
    expected = {"a.json": {"n": 1}, "b.json": {"n": 1}, "c.txt": b"x"}
    (tmp_path / "a.json").write_text('{"n":')
    (tmp_path / "b.json").write_text('{"n": 2, "seconds": 5}')
    (tmp_path / ".1-2.json").write_text("")
    assert [line.split()[0] for line in kill.halves(tmp_path, expected)] == ["a.json"]
    (tmp_path / "a.json").write_text('{"n": 1, "seconds": 5}')
    assert kill.differences(tmp_path, expected) == ["c.txt is missing", ".1-2.json is left over", "b.json differs"]
