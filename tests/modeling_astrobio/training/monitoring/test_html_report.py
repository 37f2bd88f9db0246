"""The report of a run: it shows what the files say, survives what they lack, and looks like a page in a browser."""

import itertools
import json
import math
import os
import re
import shutil
import subprocess
import time
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
import yaml

from modeling_astrobio.training.checkpoints import publish_folder
from modeling_astrobio.training.errors import RunFolderError
from modeling_astrobio.training.monitoring.html_report import REPORT_NAME, _marks, main, write_report
from modeling_astrobio.training.monitoring.report_files import Curve, read_run_files
from modeling_astrobio.training.monitoring.report_plots import downsample
from modeling_astrobio.training.monitoring.report_text import as_text, duration, gib, moment


GIB = 2**30
START = 1_780_000_000.0
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)


def training_row(step: int, last: int) -> dict:
    return {
        "step": step,
        "time": START + 0.5 * step,
        "epoch": step / last,
        "loss": 2 + 5 * math.exp(-8 * step / last) + 0.1 * math.sin(17 * step),
        "grad_norm": 1.5 + math.cos(13 * step),
        "learning_rate": 3e-3 * (1 - step / last),
        "steps_per_second": 2 + 0.1 * math.sin(step),
        "tokens_per_second": 4000 + 100 * math.sin(step),
        "data_wait_share": 0.02 + 0.01 * math.sin(5 * step),
        "memory_parameters_gib": 1.5,
        "memory_gradients_gib": 0.75,
        "memory_optimizer_gib": 3.0,
        "memory_other_gib": 2.25,
        "memory_peak_gib": 7.5,
        "eta_seconds": 0.5 * (last - step),
    }


def write_lines(path: Path, rows: list[dict], tail: str = "") -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + tail, encoding="utf-8")


def write_checkpoint(run_dir: Path, step: int) -> Path:
    staging = run_dir / ".staging"
    staging.mkdir()
    (staging / "model.safetensors").write_bytes(bytes(range(256)) * step)
    (staging / "trainer_state.json").write_text(json.dumps({"max_steps": 120, "log_history": []}), encoding="utf-8")
    publish_folder(staging, run_dir / f"checkpoint-{step}")
    return run_dir / f"checkpoint-{step}"


@pytest.fixture
def run_dir(tmp_path):
    """A run of 120 steps that has every file there can be."""
    folder = tmp_path / "my_run"
    (folder / "logs").mkdir(parents=True)
    (folder / "snapshots").mkdir()
    rows = []
    for step in range(1, 121):
        rows.append(training_row(step, 120))
        if step % 30 == 0:
            rows.append({"step": step, "time": START + 0.5 * step, "eval_loss": 2.5, "eval_accuracy": 0.375})
    write_lines(folder / "metrics.jsonl", rows)
    alert = {"time": START + 33, "step": 66, "kind": "loss_spike", "level": "error", "title": "Loss spike"}
    write_lines(folder / "alerts.jsonl", [{**alert, "text": "8.1 is above 7.2", "sent_to": ["log", "webhook"]}])
    rollback = {"step": 66, "reason": "loss spike", "loss": 8.125, "resumed_from": "checkpoint-60"}
    (folder / "rollbacks.json").write_text(json.dumps([rollback]), encoding="utf-8")
    recipe = {"model": {"preset": "nano"}, "training": {"max_steps": 120}}
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    device = {"parameters": GIB, "gradients": GIB, "optimizer": 2 * GIB, "activations": 3 * GIB}
    plan = {"model": "llm", "device_bytes": 7 * GIB, "device": device, "time": {"seconds": None}}
    (folder / "plan.json").write_text(json.dumps(plan), encoding="utf-8")
    figures = {"documents": {"perplexity": 12.375}, "answers": {"accuracy": 0.25, "interval_95": [0.125, 0.5]}}
    result = {
        "model": {"start": "nano", "parameters": 918_656, "trainable_parameters": 918_656},
        "training": {"steps": 120, "seconds": 61.0, "last_loss": 2.25},
        "evaluation": {"rows": 7, "models": {"trained": figures, "unigram": {"documents": {"perplexity": 77.5}}}},
        "hardware": {"machine": "x86_64", "gpus": []},
        "versions": {"python": "3.11", "torch": "2.13.0"},
    }
    (folder / "result.json").write_text(json.dumps(result), encoding="utf-8")
    (folder / "logs" / "run.log").write_text("the first line\nthe last line\n", encoding="utf-8")
    (folder / "snapshots" / "step-60.pickle").write_bytes(bytes(2048))
    for step in (60, 120):
        write_checkpoint(folder, step)
    return folder


class PageText(HTMLParser):
    """The text of a page, its tags, and its tables by the heading that stands before them."""

    def __init__(self, page: str):
        super().__init__()
        self.tags: list[str] = []
        self.tables: dict[str, list[list[str]]] = {}
        self.facts: dict[str, str] = {}
        self._heading, self._open, self._label = "", "", ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self._open = tag
        if tag == "tr":
            self.tables.setdefault(self._heading, []).append([])
        if tag in ("td", "th"):
            self.tables[self._heading][-1].append("")
        if tag == "h3":
            self._heading = ""

    def handle_endtag(self, tag):
        self._open = ""

    def handle_data(self, data):
        if self._open == "h3":
            self._heading += data
        elif self._open in ("td", "th"):
            self.tables[self._heading][-1][-1] += data
        elif self._open == "dt":
            self._label = data
        elif self._open == "dd":
            self.facts[self._label] = data


def report(run_dir: Path, status: str = "finished", error: str = "") -> tuple[str, PageText]:
    path = write_report(run_dir, status, error)
    assert path == run_dir / REPORT_NAME
    page = path.read_text(encoding="utf-8")
    return page, PageText(page)


def test_everything_the_files_say_is_shown(run_dir):
    page, text = report(run_dir)
    assert '<p class="status good">finished</p>' in page
    assert text.facts["Model"] == "nano"
    assert text.facts["Parameters"] == "918,656"
    assert text.facts["Steps"] == "120 of 120"
    assert text.facts["Started (first log entry)"] == moment(START + 0.5)
    assert text.facts["From first to last log entry"] == "59.5 s"
    assert text.facts["Training time of the last process"] == "1 min"
    assert text.facts["Last validation accuracy"] == "0.375 (step 120)"
    tables = text.tables
    assert ["trained", "12.38", "0.25", "0.125 – 0.5"] in tables["Evaluation"]
    assert ["unigram", "77.5", "not measured", "not measured"] in tables["Evaluation"]
    alert = [moment(START + 33), "66", "loss_spike", "error", "Loss spike", "8.1 is above 7.2", "log, webhook"]
    assert tables["Alerts"][1:] == [alert]
    assert tables["Rollbacks"][1:] == [["66", "loss spike", "8.125", "checkpoint-60"]]
    assert [row[::2] for row in tables["Checkpoints"][1:]] == [["checkpoint-120", "whole"], ["checkpoint-60", "whole"]]
    assert ["device.activations", "3.00 GiB"] in tables["Plan"]
    assert ["time.seconds", "not estimated"] in tables["Plan"]
    assert ["torch", "2.13.0"] in tables["Versions"]
    assert ["gpus", "none"] in tables["Hardware"]
    assert ["last loss", "2.25"] in tables["Final figures"]
    assert ["step-60.pickle", "2.00 KiB"] in tables["Memory snapshots"]
    assert "max_steps: 120" in page
    assert "the last line" in page
    assert "Files that could not be read" not in page


def plots_of(page: str) -> dict[str, tuple[str, str]]:
    """Title of each plot to its description and its SVG."""
    found = {}
    for svg in re.findall(r"<svg.*?</svg>", page, flags=re.DOTALL):
        root = ElementTree.fromstring(svg)
        title, description = root[0], root[1]
        assert root.get("role") == "img"
        assert root.get("aria-labelledby") == f"{title.get('id')} {description.get('id')}"
        found[title.text] = (description.text, svg)
    return found


def test_plots_are_whole_and_named(run_dir):
    page, _ = report(run_dir)
    plots = plots_of(page)
    assert list(plots) == [
        "Loss",
        "Validation accuracy",
        "Learning rate",
        "Gradient norm",
        "Tokens per second",
        "Steps per second",
        "Waiting for data",
        "Memory, planned and measured",
    ]
    assert "Shaded: trained again after a rollback" in plots["Loss"][0]
    for mark in ("loss_spike", "rollback", "validation"):
        assert f">{mark}</text>" in plots["Loss"][1]
    assert (
        "other: planned 3.00 GiB, measured 2.25 GiB; peak: planned 7.00 GiB, measured 7.50 GiB"
        in (plots["Memory, planned and measured"][0])
    )
    names = re.findall(r'\bid="([^"]+)"', page)
    assert len(names) == len(set(names))
    for place in re.findall(r'(?:xlink:href="|url\()#([^")]+)', page):
        assert place in names
    # Every colour is the page's, which has one for the light and one for the dark scheme.
    assert not re.search(r"(fill|stroke): ?#(?!f{6})", "".join(svg for _, svg in plots.values()))


def test_figures_of_a_gpu_are_shown_where_they_were_measured(run_dir):
    rows = [{**training_row(s, 9), "gpu_utilisation_percent": 90.0 + s, "images_per_second": 7.0} for s in range(1, 9)]
    for row in rows:
        del row["tokens_per_second"]
        row["model_flops_utilisation"] = 0.4
    write_lines(run_dir / "metrics.jsonl", rows)
    plots = plots_of(report(run_dir)[0])
    assert {"GPU utilisation", "Model-FLOPs utilisation", "Images per second"} <= set(plots)
    assert "Tokens per second" not in plots
    assert plots["GPU utilisation"][0] == "Last 98; least 91, greatest 98."


@pytest.mark.parametrize("name", ["metrics.jsonl", "recipe.yaml", "plan.json", "result.json", "checkpoint-120"])
def test_any_file_may_be_absent(run_dir, name):
    path = run_dir / name
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    page, _ = report(run_dir)
    assert "Files that could not be read" not in page


@pytest.mark.parametrize("content", [b'{"step": 1, "ti', b"\xff\xfe{\x00", b"[[[", b"{a: [}"])
def test_unreadable_files_are_named(run_dir, content):
    names = ["alerts.jsonl", "rollbacks.json", "recipe.yaml", "plan.json", "result.json"]
    for name in names:
        (run_dir / name).write_bytes(content)
    page, text = report(run_dir)
    assert text.facts["Last validation loss"] == "2.5 (step 120)"
    notes = page[page.index("Files that could not be read") : page.index("<h2>The run</h2>")]
    for name in names:
        assert name in notes
    assert notes.count("<p>") == len(names)


def test_values_of_other_types_than_expected(run_dir):
    """Valid JSON that no version of ours writes: the report of a long run must not fail over it."""
    plan = {"device": {"parameters": "much"}, "device_bytes": None, "time": [1], "host": 7}
    result = {"model": [], "training": {"seconds": "long", "steps": None}, "evaluation": {"models": {"a": 1, "b": {}}}}
    (run_dir / "plan.json").write_text(json.dumps(plan), encoding="utf-8")
    (run_dir / "result.json").write_text(json.dumps(result), encoding="utf-8")
    (run_dir / "rollbacks.json").write_text('{"step": 1}', encoding="utf-8")
    write_lines(run_dir / "alerts.jsonl", [{}, {"step": "x", "time": [], "kind": None, "sent_to": 3}])
    page, text = report(run_dir)
    assert text.facts["Training time of the last process"] == "not measured"
    assert "parameters: not planned, measured 1.50 GiB" in plots_of(page)["Memory, planned and measured"][0]
    assert len(text.tables["Alerts"]) == 3


def test_an_empty_folder_has_a_report_in_which_nothing_is_zero(tmp_path):
    page, text = report(tmp_path, "failed", "RuntimeError: no data")
    assert '<p class="status bad">failed</p>' in page
    assert "<pre>RuntimeError: no data</pre>" in page
    assert "svg" not in text.tags
    assert text.tables == {}
    assert set(text.facts.values()) == {"not measured", "–"}
    assert page.count('<p class="muted">not measured</p>') == 8


def test_a_torn_last_line_is_said_and_the_rest_shown(run_dir):
    with (run_dir / "metrics.jsonl").open("a") as file:
        file.write('{"step": 121, "loss": 1.')
    page, text = report(run_dir, "stopped")
    assert '<p class="status warn">stopped</p>' in page
    assert "1 line(s) of metrics.jsonl cannot be read" in page
    assert text.facts["Last training loss"].endswith("(step 120)")


def test_values_that_are_not_finite_are_counted_and_marked(run_dir):
    rows = [training_row(step, 50) for step in range(1, 51)]
    rows[20]["loss"], rows[21]["loss"], rows[22]["loss"] = math.nan, None, math.inf
    rows[-1]["grad_norm"] = -math.inf
    write_lines(run_dir / "metrics.jsonl", rows)
    page, _ = report(run_dir)
    plots = plots_of(page)
    assert "3 of 50 values are not finite" in plots["Loss"][0]
    assert ">not finite</text>" in plots["Loss"][1]
    assert "Last -inf; least" in plots["Gradient norm"][0]
    for row in rows:
        row["loss"] = None
    write_lines(run_dir / "metrics.jsonl", rows)
    assert "50 values, none finite." in plots_of(report(run_dir)[0])["Loss"][0]


def test_the_log_history_stands_in_for_absent_metrics(run_dir):
    (run_dir / "metrics.jsonl").unlink()
    state = {"max_steps": 120, "log_history": [{"step": 1, "loss": 3.5}, {"step": 2, "loss": 3.25}]}
    (run_dir / "checkpoint-120" / "trainer_state.json").write_text(json.dumps(state), encoding="utf-8")
    page, text = report(run_dir)
    assert text.facts["Last training loss"] == "3.25 (step 2)"
    assert text.facts["Started (first log entry)"] == "not measured"
    assert "trainer_state.json of the newest checkpoint" in page


def test_texts_are_escaped(run_dir):
    evil = "<script>alert('x')</script>$\\frac{1}{"
    alert = {
        "time": evil,
        "step": 5,
        "kind": evil,
        "level": evil,
        "title": evil,
        "text": evil,
        "sent_to": [evil, "\ud800"],
    }
    write_lines(run_dir / "alerts.jsonl", [alert])
    rollback = {"step": 7, "reason": evil, "loss": evil, "resumed_from": evil}
    (run_dir / "rollbacks.json").write_text(json.dumps([rollback]), encoding="utf-8")
    (run_dir / "recipe.yaml").write_text(yaml.safe_dump({"model": {"preset": evil}}), encoding="utf-8")
    result = {"model": {"start": evil}, "versions": {evil: evil}, "evaluation": {"models": {evil: {evil: evil}}}}
    (run_dir / "result.json").write_text(json.dumps(result), encoding="utf-8")
    (run_dir / "logs" / "run.log").write_text(evil, encoding="utf-8")
    page, text = report(run_dir, "failed", evil)
    assert "<script" not in page
    assert {"script", "img", "link", "iframe"}.isdisjoint(text.tags)
    assert text.tables["Alerts"][1][5] == evil
    assert ElementTree.fromstring(plots_of(page)["Loss"][1]) is not None


def test_nothing_is_fetched(run_dir):
    page, _ = report(run_dir)
    addresses = set(re.findall(r"""[a-z]+://[^"'\s<)]+""", page))
    assert addresses == {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    assert not re.search(r"@import|url\((?!#)|\ssrc=|<link|<base", page)
    assert "default-src 'none'" in page


@pytest.mark.parametrize(("resumed_from", "first"), [("checkpoint-60", 60), (None, 0), (30, 30), ("unknown", 66)])
def test_what_a_rollback_gave_up(run_dir, resumed_from, first):
    rollback = {"step": 66, "reason": "loss spike", "loss": "nan", "resumed_from": resumed_from}
    (run_dir / "rollbacks.json").write_text(json.dumps([rollback]), encoding="utf-8")
    assert _marks(read_run_files(run_dir)).windows == [(first, 66)]


def test_rows_that_come_again_after_a_resume(tmp_path):
    """Saved at step 4, killed after 6, resumed from 4, and ended at 5: of step 5 the later row counts, 6 is void."""
    rows = [{"step": step, "loss": float(step)} for step in (1, 2, 3, 4, 5, 6)]
    rows.insert(4, {"step": 4, "eval_loss": 40.0})
    rows += [{"step": 6, "eval_loss": 60.0}, {"step": 5, "loss": 50.0}, {"step": 5, "train_runtime": 1.0}]
    write_lines(tmp_path / "metrics.jsonl", rows)
    curves = read_run_files(tmp_path).metrics.curves
    assert curves["loss"].steps.tolist() == [1, 2, 3, 4, 5]
    assert curves["loss"].values.tolist() == [1, 2, 3, 4, 50]
    assert curves["eval_loss"].steps.tolist() == [4]
    assert curves["train_runtime"].steps.tolist() == [5]


@pytest.mark.parametrize("row", [{"loss": 1.0}, {"step": "7", "loss": 1.0}, {"step": -1}, {"step": 10**30}, [], 7])
def test_rows_without_a_step_are_passed_over(tmp_path, row):
    write_lines(tmp_path / "metrics.jsonl", [row, {"step": 3, "loss": 2.0, "epoch": 10**400, "flag": True}])
    curves = read_run_files(tmp_path).metrics.curves
    assert curves["loss"].steps.tolist() == [3]
    assert "flag" not in curves


def test_downsampling_keeps_the_extremes_of_each_part():
    rng = np.random.default_rng(0)
    steps, values = np.arange(10_007) * 3, rng.normal(size=10_007)
    values[[0, 77, 5000, 10_006]] = np.nan
    values[1234], values[4321] = 99.0, -99.0
    drawn = downsample(Curve(steps, values), bins=37)
    assert len(drawn.steps) <= 2 * 37 + 2
    assert (np.diff(drawn.steps) > 0).all()
    assert np.isfinite(drawn.values).all()
    finite = np.flatnonzero(np.isfinite(values))
    assert drawn.steps[0] == steps[finite[0]]
    assert drawn.steps[-1] == steps[finite[-1]]
    shown = dict(zip(drawn.steps.tolist(), drawn.values.tolist(), strict=True))
    edges = [round(len(finite) * number // 37) for number in range(38)]
    for first, last in itertools.pairwise(edges):
        part = finite[first:last]
        for place in (part[values[part].argmin()], part[values[part].argmax()]):
            assert shown[int(steps[place])] == values[place]
    short = Curve(steps[:60], values[:60])
    assert downsample(short, bins=37).steps.tolist() == steps[1:60].tolist()


def test_damaged_checkpoints_are_named(run_dir):
    weights = run_dir / "checkpoint-120" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    (run_dir / "checkpoint-60" / "manifest.json").unlink()
    rows = report(run_dir)[1].tables["Checkpoints"][1:]
    assert rows[0][2].startswith("model.safetensors has other content")
    assert rows[1][2].startswith("its manifest.json cannot be read")


def test_a_report_is_written_whole_or_not_at_all(run_dir):
    (run_dir / REPORT_NAME / "in_the_way").mkdir(parents=True)
    with pytest.raises(OSError, match="report"):
        write_report(run_dir, "finished")
    assert (run_dir / REPORT_NAME / "in_the_way").is_dir()


def test_command_line(run_dir, tmp_path, capsys):
    assert main([str(run_dir)]) == 0
    assert capsys.readouterr().out == f"{run_dir / REPORT_NAME}\n"
    assert ">finished</p>" in (run_dir / REPORT_NAME).read_text(encoding="utf-8")
    (run_dir / "result.json").unlink()
    assert main([str(run_dir)]) == 0
    assert ">not finished</p>" in (run_dir / REPORT_NAME).read_text(encoding="utf-8")
    assert main([str(tmp_path / "absent")]) == 2
    assert capsys.readouterr().err.startswith("error: RUN_DIR must be the folder of a run")
    with pytest.raises(RunFolderError, match="which is no folder"):
        write_report(tmp_path / "absent", "finished")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (as_text(None), "not measured"),
        (as_text(0), "0"),
        (as_text(math.nan), "NaN"),
        (as_text(1234567), "1,234,567"),
        (as_text(3.0e-5), "3e-05"),
        (as_text(123456.7), "123,457"),
        (as_text([0.25, 0.5]), "0.25 – 0.5"),
        (as_text([]), "none"),
        (gib(None), "not measured"),
        (gib(3 * 2**30), "3.00 GiB"),
        (gib(0), "0 bytes"),
        (duration(None), "not measured"),
        (duration(90_000), "1 d 1 h"),
        (duration(3599), "1 h 0 min"),
        (moment("yesterday"), "not measured"),
        (moment(1e300), "not measured"),
    ],
)
def test_figures_as_text(text, expected):
    assert text == expected


@pytest.mark.slow
def test_half_a_million_rows(run_dir):
    with (run_dir / "metrics.jsonl").open("w", encoding="utf-8") as file:
        for step in range(1, 500_001):
            file.write(json.dumps(training_row(step, 500_000)) + "\n")
    started = time.monotonic()
    page, text = report(run_dir)
    assert time.monotonic() - started < 60
    assert len(page) < 500_000
    assert text.facts["Last training loss"].endswith("(step 500,000)")


def screenshot(page: Path, picture: Path, profile: Path, size: str, *, dark: bool) -> list[str]:
    """Draw a page with a browser; returns what the page's console said."""
    done = subprocess.run(
        [
            *(CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run"),
            *(f"--user-data-dir={profile}", "--enable-logging=stderr", f"--window-size={size}"),
            # The enumeration of Blink: 0 is dark, 1 light.
            *(f"--blink-settings=preferredColorScheme={0 if dark else 1}", f"--screenshot={picture}", page.as_uri()),
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return [line for line in done.stderr.splitlines() if "CONSOLE" in line]


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium or chrome is installed to look at the report with")
def test_a_browser_shows_the_report(run_dir, tmp_path):
    artefacts = Path(os.environ.get("TEST_ARTEFACTS", tmp_path))
    artefacts.mkdir(parents=True, exist_ok=True)
    path = write_report(run_dir, "stopped", "SIGTERM")
    brightness = {}
    for name, size, dark in (("report_wide_light", "1280,2600", False), ("report_narrow_dark", "400,5000", True)):
        picture = artefacts / f"{name}.png"
        assert screenshot(path, picture, tmp_path / "profile", size, dark=dark) == []
        pixels = (255 * matplotlib.image.imread(picture)[..., :3]).round().astype(np.uint8)
        assert pixels.shape[:2] == tuple(map(int, reversed(size.split(","))))
        assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 100
        # In the first screen and far below it something is drawn.
        for part in (pixels[:700], pixels[900:1600], pixels[1800:2400]):
            assert part.reshape(-1, 3).std(axis=0).min() > 5
        brightness[name] = pixels.mean()
    assert brightness["report_wide_light"] > 200
    assert brightness["report_narrow_dark"] < 70
    # That the console is heard at all: a page that asks for what its policy forbids.
    forbidden = tmp_path / "forbidden.html"
    page = path.read_text(encoding="utf-8").replace("<main>", '<main><img src="http://127.0.0.1:9/x.png" alt="">')
    forbidden.write_text(page, encoding="utf-8")
    said = screenshot(forbidden, tmp_path / "forbidden.png", tmp_path / "profile", "400,400", dark=False)
    assert any("Content Security Policy" in line for line in said), said
