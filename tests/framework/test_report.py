import logging
import re
from dataclasses import dataclass
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure

from poise.evaluator import Findings
from poise.figures.training import Training
from poise.page import page
from poise.report import Report, Use, render, used, write
from poise.scores import Row, Table
from small_runs import splits

METRICS = {
    "val/accuracy": 0.5,
    "test/accuracy": 0.81234,
    "test/ece": 0.1,
    "test/accuracy/class/cat": 0.9,
    "test/accuracy/class/dog": 0.7,
    "test/worst_class_accuracy": 0.7,
    "test/scaled/accuracy": 0.81234,
    "test/scaled/ece": 0.02,
    "test/scaled/worst_class_accuracy": 0.7,
    "snow/accuracy": 0.25,
}
TOKEN = "ghp_abcdefghijklmnopqrstuvwxyz0123456789"


ODD = ["<script>alert(1)</script>", '"><img src=x>', "&amp;", "日本語"]


@dataclass(frozen=True)
class Broken:
    """A drawing that cannot be drawn."""

    def draw(self) -> Figure:
        raise ZeroDivisionError("of no examples")


class Reader(HTMLParser):
    """What a browser takes from a page: its tags, and the text of its cells and headings."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("│").split("│")]


def test_each_split_is_a_table_with_a_column_for_each_calibrator() -> None:
    text = render(METRICS, ["scaled"])
    lines = [cells(line) for line in text.splitlines() if line.startswith("│")]
    assert ["accuracy", "81.23 %", "81.23 %"] in lines
    assert ["ece", "0.1000", "* 0.0200"] in lines
    assert ["accuracy", "25.00 %"] in lines
    titles = [line.strip() for line in text.splitlines() if re.fullmatch(r"(val|test|snow)\b.*", line.strip())]
    assert titles == ["test", "test, by class", "snow"]
    assert "* best of its row" in text


def test_accuracy_by_radius_stands_there_as_it_does_on_the_page() -> None:
    curve = {"0": 0.9, "0.5": 0.6, "1": 0.25}
    metrics = METRICS | {f"test/robust_accuracy/pgd-20/radius/{radius}": value for radius, value in curve.items()}
    text = render(metrics, ["scaled"])
    lines = [cells(line) for line in text.splitlines() if line.startswith("│")]
    assert ["0.5", "60.00 %"] in lines
    assert "test, by radius" in text
    told = Reader(page(report(findings=Findings(metrics)), {})).words
    assert told[told.index("radius / eps") :].index("60.00 %") > 0


def test_what_is_best_and_what_is_shipped_is_marked_in_text_and_page() -> None:
    told = report(shipped="scaled")
    assert "scaled (shipped)" in told.text()
    assert "uncalibrated (shipped)" in report(shipped="uncalibrated").text()
    shown = page(told, {})
    assert "<th scope=col>scaled (shipped)</th>" in shown
    assert "<caption>bold green: best of its row</caption>" in shown
    alone = report(findings=Findings({"test/nll": 1.0}), calibrators=(), shipped="uncalibrated")
    assert "shipped)" not in alone.text() + page(alone, {})


def test_the_page_begins_with_what_it_is_of_and_what_to_be_wary_of() -> None:
    told = report(about="recipe plain · model mlp", remarks=("scaled is shipped.", "Odd.", "Warning: <it> broke."))
    head, _, _ = page(told, {}).partition("<section>")
    assert re.findall(r"<p.*", head) == [
        "<p class=about>recipe plain · model mlp</p>",
        "<p class=warning>Warning: &lt;it&gt; broke.</p>",
        "<p>scaled is shipped.</p>",
        "<p>Odd.</p>",
    ]


def test_parts_have_their_heading_on_the_page() -> None:
    assert "<h3>test, by class</h3>" in page(report(), {})


def test_the_worst_class_is_named_and_calibrators_are_no_rows() -> None:
    text = render(METRICS, ["scaled"])
    assert "worst_class_accuracy (dog)" in text
    assert "scaled/" not in text
    assert "\x1b[" not in text


def test_numbers_are_aligned_whether_marked_or_not() -> None:
    lines = [line for line in render(METRICS, ["scaled"]).splitlines() if line.startswith(("│ ece", "│ worst"))]
    assert [line[-4:] for line in lines] == ["00 │", " % │"]
    assert len({line.rindex("│") for line in lines}) == 1


def test_the_reason_stands_below_and_names_are_taken_as_they_are() -> None:
    text = render({"test/accuracy/class/[bold]x[/]:cat:": 0.5}, [], remarks=["Shipped: [scaled]."])
    assert "[bold]x[/]:cat:" in text
    assert text.rstrip().endswith("Shipped: [scaled].")


def test_what_each_split_was_used_for_is_told() -> None:
    data = splits()
    trained = used(data, ["scaled"], "val/accuracy")
    assert [(use.split, use.examples) for use in trained] == [
        ("train", 68),
        ("val", 24),
        ("calibration", 24),
        ("test", 24),
    ]
    assert trained[1].purpose == "chose the epoch, by val/accuracy"
    assert [use.split for use in used(data, [])] == ["test"]


def report(**changes: object) -> Report:
    known = {
        "title": "a run",
        "findings": Findings(METRICS, {"test-x": Training({"train/loss": {1: 1.0}}), "training": Training({})}),
        "calibrators": ("scaled",),
        "remarks": ("Shipped: scaled.",),
        "uses": (Use("test", 1234, "measured"),),
        "config": "seed: 0\n",
    }
    return Report(**{**known, **changes})  # type: ignore[arg-type]


def test_text_page_and_figures_are_written_and_the_numbers_left_to_the_end(tmp_path: Path) -> None:
    write(report(), tmp_path)
    assert {path.name for path in tmp_path.rglob("*") if path.is_file()} == {
        "report.txt",
        "report.html",
        "test-x.png",
        "training.png",
    }
    assert (tmp_path / "report.txt").read_text() == report().text()


def test_the_page_holds_all_and_needs_nothing_else(tmp_path: Path) -> None:
    write(report(), tmp_path)
    text = (tmp_path / "report.html").read_text()
    read = Reader(text)
    assert "<dl>" not in text
    for word in ("a run", "Shipped: scaled.", "81.23 %", "dog", "test: measured", "1,234", "seed: 0\n", "snow"):
        assert word in read.words
    sources = [str(value) for name, value in read.attributes if name in ("src", "href")]
    assert len(sources) == 2
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    assert not {"script", "link", "iframe"} & set(read.tags)
    assert "http" not in re.sub(r"http-equiv", "", text)
    assert text.index('alt="test-x"') < text.index("<h2>snow</h2>") < text.index('alt="training"')


def test_a_figure_that_cannot_be_drawn_is_said_and_costs_nothing_else(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    findings = Findings(METRICS, {"test-bad": Broken(), "training": Training({})})
    with caplog.at_level(logging.WARNING, logger="poise"):
        write(report(findings=findings), tmp_path)
    assert caplog.messages == ["the figure test-bad cannot be made: ZeroDivisionError: of no examples"]
    assert [path.name for path in (tmp_path / "figures").iterdir()] == ["training.png"]
    assert "test-bad" not in (tmp_path / "report.html").read_text()


def test_a_page_that_cannot_be_written_costs_no_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "report.html").mkdir()
    with caplog.at_level(logging.WARNING, logger="poise"):
        write(report(), tmp_path)
    assert [message.partition(":")[0] for message in caplog.messages] == ["report.html cannot be made"]
    assert (tmp_path / "report.txt").is_file()


def test_a_figures_name_is_a_file_inside_the_directory(tmp_path: Path) -> None:
    drawings = {"../../up/x": Training({}), "y" * 400: Training({})}
    write(report(findings=Findings(METRICS, dict(drawings))), tmp_path)
    assert sorted(path.parent.name for path in tmp_path.rglob("*.png")) == ["figures", "figures"]


def test_secrets_are_in_neither_text_nor_page(tmp_path: Path) -> None:
    metrics = {**METRICS, f"test/accuracy/class/{TOKEN}": 0.5}
    write(
        report(config=f"uri: http://me:pass&word@host\nx: {TOKEN}", findings=Findings(metrics), title=TOKEN), tmp_path
    )
    for name in ("report.txt", "report.html"):
        text = unescape((tmp_path / name).read_text())
        assert TOKEN not in text
        assert "pass&word" not in text
    assert "***" in (tmp_path / "report.html").read_text()


@settings(max_examples=30, deadline=None)
@given(
    name=st.one_of(
        st.text(min_size=1), st.sampled_from(["<script>alert(1)</script>", '"><img src=x>', "&amp;", "日本語"])
    ),
    value=st.floats(),
)
def test_names_and_numbers_of_any_kind_are_text_of_the_page(name: str, value: float) -> None:
    metrics = {f"test/accuracy/class/{name}": value, "test/worst_class_accuracy": value, "test/nll": value}
    told = report(title=name, remarks=(name,), config=name, findings=Findings(metrics), calibrators=(name,))
    told.text()
    assert set(Reader(page(told, {})).tags) <= set(Reader(page(report(), {})).tags) | {"pre"}


def test_many_classes_are_folded_in_the_page_and_all_there() -> None:
    metrics = {f"test/accuracy/class/c{part}": part / 1000 for part in range(1000)}
    text = page(report(findings=Findings(metrics)), {})
    assert "<summary>1000 classes</summary>" in text
    assert text.count("<th scope=row>c") == 1000
    assert "the worst 5 of 1000 classes" in render(metrics, [])


def test_what_a_metric_leaves_out_is_said_where_it_is_shown() -> None:
    told = report(findings=Findings({"test/accuracy": 0.5, "test/mce": 0.1}))
    assert "mce is over bins of 10 or more examples" in told.text()
    assert "<caption>mce is over bins of 10 or more examples</caption>" in page(told, {})


def test_names_are_explained_in_one_place_of_the_page_to_which_the_text_points() -> None:
    told = report(findings=Findings(METRICS, meanings={"ece": "mean gap of <bins>", "accuracy": "share"}))
    shown = page(told, {})
    assert "<h2>What the names mean</h2>\n<dl>\n<dt>ece</dt><dd>mean gap of &lt;bins&gt;</dd>" in shown
    assert shown.index("<h2>snow</h2>") < shown.index("<dl>") < shown.index("<h2>Training</h2>")
    assert told.text().endswith("report.html says what the names in these tables mean.\n")


def test_shifts_stand_together_in_the_text_and_after_test_on_the_page() -> None:
    metrics = {**METRICS, "fog/accuracy": 0.35, "fog/accuracy/class/cat": 0.35, "shifts/accuracy": 0.3}
    lines = [cells(line) for line in render(metrics, ["scaled"]).splitlines() if line.startswith("│")]
    assert lines[-4:] == [
        ["test", "81.23 %"],
        ["snow", "25.00 %"],
        ["fog", "35.00 %"],
        ["mean of shifts", "30.00 %"],
    ]
    assert not any(line[-1] == "35.00 %" for line in lines[:-4])
    words = Reader(page(Report("title", Findings(metrics), ("scaled",)), {})).words
    headings = [word for word in words if word in ("test", "snow", "fog", "shifts")]
    assert headings.index("test") < headings.index("shifts") < headings.index("snow")
    assert words.count("all of it") == 2  # of snow and of fog
    assert words.count("35.00 %") == 3  # in the table of all shifts, in its own, and of its class


def test_ood_sets_are_seen_among_the_data() -> None:
    data = splits(shifts={"snow": splits().val}, ood={"others": splits().test})
    assert used(data, [])[-2:] == (Use("snow", 24, "measured"), Use("others", 24, "other things, of no class"))


def test_further_tables_stand_with_their_split_and_none_is_lost() -> None:
    tables = {
        "test-attacks": Table("test, attacks", ("attack", "ms"), (Row("pgd", ("1.5",)),), "of one <device>"),
        "other": Table("apart", ("a", "b"), (Row("c", ("d",)),)),
    }
    told = report(findings=Findings(METRICS, tables=tables))
    text = told.text()
    assert text.index("test, attacks") < text.index("test, by class") < text.index("apart")
    assert "of one <device>" in text
    shown = page(told, {})
    assert shown.index("<h3>test, attacks</h3>") < shown.index("<h2>snow</h2>") < shown.index("<h3>apart</h3>")
    assert "of one &lt;device&gt;" in shown


def test_metrics_that_all_stand_in_tables_of_their_own_leave_no_empty_one_on_the_page() -> None:
    table = Table("test, failures", ("score", "AUROC"), (Row("msp", ("0.9",)),))
    told = report(findings=Findings({"test/failures/msp/auroc": 0.9}, tables={"test-failures": table}))
    assert "<h2>test</h2>\n<div>\n<h3>test, failures</h3>" in page(told, {})


def test_a_picture_stands_beside_the_table_of_what_it_shows(tmp_path: Path) -> None:
    names = ["test-ood-a", "test-ood-b", "test-sets", "test-sets-of-shifts", "test-failures"]
    tables = {name: Table(name, ("score", "AUROC"), (Row("msp", ("0.9",)),)) for name in names}
    figures = dict.fromkeys(
        ["test-attacked-x", "test-sets-sizes", "test-ood", "test-accuracy-by-class", "test-other"], Training({})
    )
    write(report(findings=Findings({**METRICS, "test/attacked_ece": 0.3}, dict(figures), tables)), tmp_path)
    order = re.findall(r'<h3>([\w-]+)|alt="([\w-]+)"|<th scope=col>(class)', (tmp_path / "report.html").read_text())
    assert [one or other or kind for one, other, kind in order] == [
        "test-other",
        "test",
        "test-attacked-x",
        "test-ood-a",
        "test-ood-b",
        "test-ood",
        "test-sets",
        "test-sets-sizes",
        "test-sets-of-shifts",
        "test-failures",
        "test",  # by class
        "class",
        "test-accuracy-by-class",
    ]


def test_long_names_may_go_on_in_the_next_line() -> None:
    metrics = {"test/nll": 1.0, "test/a_scaling/nll": 0.5}
    shown = page(report(findings=Findings(metrics), calibrators=("a_scaling",)), {})
    assert "<th scope=col>a_<wbr>scaling</th>" in shown


def test_tables_of_many_columns_are_set_tight() -> None:
    names = [f"c{place}" for place in range(9)]
    metrics = {"test/nll": 1.0, **{f"test/{name}/nll": 0.5 for name in names}}
    for calibrators, tight in ((names[:7], 0), (names, 1)):
        own = {name: value for name, value in metrics.items() if name.count("/") == 1 or name[5:7] in calibrators}
        shown = page(report(findings=Findings(own), calibrators=tuple(calibrators)), {})
        assert shown.count("<table class=tight>") == tight


def test_long_tables_are_folded_and_all_there() -> None:
    rows = tuple(Row(f"r{place}", ("0.5",)) for place in range(21))
    tables = {"test-a": Table("few", ("a", "b"), rows[:20]), "test-b": Table("many", ("a", "b"), rows)}
    shown = page(report(findings=Findings(METRICS, tables=tables)), {})
    assert "<h3>many</h3>\n<details><summary>21 lines</summary>" in shown
    assert shown.count("<details>") == 1


def test_tables_of_shifts_stand_with_them() -> None:
    tables = {"shifts-sets": Table("shifts, sets", ("a", "b"), (Row("fog", ("0.9",)),))}
    shown = page(report(findings=Findings(METRICS, tables=tables)), {})
    assert "<h2>shifts</h2>\n<h3>shifts, sets</h3>" in shown
    assert shown.index("<h2>shifts</h2>") < shown.index("<h2>snow</h2>")


def test_a_table_of_many_columns_takes_the_room_it_needs() -> None:
    names = [f"calibrator_with_a_long_name_{place}" for place in range(9)]
    metrics = {"test/nll": 1.0, **{f"test/{name}/nll": 0.5 for name in names}}
    text = render(metrics, names)
    assert all(name in text for name in names)
    assert max(map(len, text.splitlines())) > 250
    few = render({"test/nll": 1.0, "test/scaled/nll": 0.5}, ["scaled"])
    assert max(map(len, few.splitlines())) <= 100


def test_a_name_goes_on_below_only_where_the_terminal_has_no_room() -> None:
    names = ["temperature_scaling", "vector_scaling", "histogram_binning", "intra_order_preserving", "an_alias"]
    metrics = {f"test/{column}nll": 0.5 for column in ("", *(f"{name}/" for name in names))}
    whole = render(metrics, names)
    assert all(name in whole for name in names)
    assert max(map(len, whole.splitlines())) > 100
    assert "a_metric_of_a_longer_name" in render({**metrics, "test/a_metric_of_a_longer_name": 0.5}, names)
    assert render(metrics, names, room=120) == whole
    text = render(metrics, names, room=100)
    assert max(map(len, text.splitlines())) <= 100
    assert "…" not in text
    assert "intra_order_preserving" not in text
