"""What the benchmark writes down."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from bench import polling, tasks
from bench.report import BEGIN, END, Result, Table, Target, growth_exponent, load, markdown, save, write_document

ROOT = Path(__file__).resolve().parents[3]


def result(title: str) -> Result:
    table = Table(["a", "b"])
    table.add(1, "two")
    return Result(title, [Target("speed", "≤ 1 s", "2 s", False)], [table], ["A note."], {"raw": [1]})


def test_exponents() -> None:
    assert growth_exponent([(10, 3), (100, 3), (1000, 3)]) == pytest.approx(0)
    assert growth_exponent([(10, 5), (100, 50), (1000, 500)]) == pytest.approx(1)
    assert growth_exponent([(10, 1), (100, 100)]) == pytest.approx(2)


def test_results_of_one_machine_are_kept_together(tmp_path: Path) -> None:
    file = tmp_path / "new/results.json"
    save(file, {"CPU": "this"}, "second", result("Second"))
    save(file, {"CPU": "this"}, "first", result("First"))
    text = markdown(load(file), ["first", "second", "third"])
    assert text.index("## First") < text.index("## Second")
    assert "| speed | ≤ 1 s | 2 s | NOT met |".replace(" ", "") in text.replace(" ", "")
    assert "A note." in text
    save(file, {"CPU": "other"}, "first", result("First"))
    assert list(load(file)["results"]) == ["first"]


def test_only_the_part_between_the_markers_is_written(tmp_path: Path) -> None:
    document = tmp_path / "document.md"
    document.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n", encoding="utf-8")
    write_document(document, f"{BEGIN}\nnew\n{END}")
    assert document.read_text(encoding="utf-8") == f"before\n{BEGIN}\nnew\n{END}\nafter\n"
    document.write_text("without", encoding="utf-8")
    with pytest.raises(RuntimeError, match="lost its markers"):
        write_document(document, "new")


def test_the_document_has_its_markers() -> None:
    text = (ROOT / "docs/benchmarks.md").read_text(encoding="utf-8")
    assert text.index(BEGIN) < text.index(END)


def test_the_settings_measured_are_the_defaults() -> None:
    defaults = yaml.safe_load((ROOT / "roles/ecs/defaults/main.yml").read_text(encoding="utf-8"))
    assert defaults["ecs_poll_seconds"] == tasks.POLL_SECONDS
    assert defaults["ecs_health_check_interval"] == polling.HEALTH_CHECK_SECONDS
    assert defaults["ecs_stop_timeout"] - 5 == tasks.STOP_SECONDS


def test_the_instance_is_that_of_the_template() -> None:
    document = yaml.safe_load(tasks.instance())
    assert document["run_launcher"]["class"] == "ReleaseRunLauncher"
    assert list(document["storage"]) == ["sqlite"]
