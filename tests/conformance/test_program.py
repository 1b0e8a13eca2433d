"""What the program prints and returns. The cases of these tests are made here."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from conformance import __main__ as program
from conformance import difference, instruments
from conformance.run import Task, Verdict, judge, sample

CASE = {"args": ["-p", "15001"], "env": {}, "machine": {"ipv6": False, "dns_servers_v4": [], "dns_servers_v6": []}}


@pytest.fixture
def cases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "iptables/cases"
    folder.mkdir(parents=True)
    for number in range(3):
        (folder / f"case-{number}.json").write_text(json.dumps(CASE | {"expected_restore_input": ["* nat"]}))
    monkeypatch.setenv("CONFORMANCE", str(tmp_path))
    return tmp_path


def test_without_cases_it_says_so_and_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CONFORMANCE", "nowhere")
    assert program.main(["iptables"]) == 1
    assert "no conformance cases at" in capsys.readouterr().err


def test_a_difference_is_a_result_and_no_error(cases: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = cases / "report.json"
    assert program.main(["iptables", "--sample", "2", "--json", str(report)]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0] == "iptables: 0 of 2"
    assert sum(line.startswith("iptables/case-") for line in out) == 2
    assert "differences in 1 places" in out[1]
    assert len(json.loads(report.read_text())) == 2


def test_a_judge_that_crashes_fails_the_run(cases: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (cases / "iptables/cases/case-1.json").write_text("{}")
    assert program.main(["iptables", "--case", "case-1"]) == 1
    assert capsys.readouterr().out.splitlines()[:2] == ["iptables: 0 of 1", "iptables/case-1: crashed"]


def test_an_unknown_group_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        program.main(["nothing"])
    assert "no group nothing" in capsys.readouterr().err


def test_rows_that_cover_nothing_are_named() -> None:
    said = program.unused([Verdict(group="bootstrap", case="x", rows=frozenset())])
    assert any("istiod is known by its DNS name" in line for line in said)
    assert all("simulation" not in line for line in said)


def test_a_failing_case_shows_its_most_frequent_fields_first() -> None:
    found = [difference.of(str(place), "often", 1, 2) for place in range(3)]
    found += [difference.of("", f"seldom{number}", 1, 2) for number in range(5)]
    lines = program.described(Verdict(group="g", case="c", differences=tuple(reversed(found))))
    assert lines[0] == "g/c: 8 differences in 4 places"
    assert "often" in lines[1]
    assert lines[-1] == "    and 2 more fields"


def nothing(_: Path) -> Iterator[difference.Difference]:
    return iter(())


def test_a_sample_is_the_same_for_the_same_seed() -> None:
    tasks = [Task(group=group, path=Path(f"{n}.json"), judge=nothing) for group in "ab" for n in range(20)]
    chosen = sample(tasks, 5, 1)
    assert [task.group for task in chosen] == ["a"] * 5 + ["b"] * 5
    assert chosen == sample(tasks, 5, 1)
    assert chosen != sample(tasks, 5, 2)
    assert judge(tasks[0]).passed


def test_the_folder_of_cases_is_beside_the_repository_unless_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CONFORMANCE", raising=False)
    repository = Path(__file__).parents[2]
    assert instruments.root() == repository.parent / "shared/conformance"
    monkeypatch.setenv("CONFORMANCE", "../elsewhere")
    assert instruments.root().resolve() == repository.parent / "elsewhere"
