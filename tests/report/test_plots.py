"""Figures: what they draw, what they say of it, and that nothing in a name can harm whoever opens them."""

import xml.etree.ElementTree as ET

import numpy as np
import pytest

import ftlib.report.plots as style
from ftlib.report.figures import drawing, panels, svg
from ftlib.report.plots import lines as plots
from ftlib.report.plots import methods

HOSTILE = ["<script>alert(1)</script>", "</svg>&amp;\x1b$\\frac{1}", "類別 ١ \u202e"]


def draw(kind: str, ax, names):
    values, lows, highs = [0.7, 0.6, 0.5], [0.65, np.nan, 0.4], [0.75, np.nan, 0.6]
    if kind == "forest":
        return methods.forest(ax, names, values, lows, highs, label="accuracy", reference=(names[0], 0.5))
    if kind == "cost_quality":
        front = [True, False, True]
        return methods.cost_quality(ax, names, [0, 10, 100], values, lows, highs, label="accuracy", on_front=front)
    if kind == "shots":
        series = {name: ([8, 64], [0.5, 0.6], [0.4, 0.5], [0.6, 0.7]) for name in names[:2]}
        series[names[2]] = ([8], [0.4], [0.3], [0.5])
        lines = {"levels": {"zero_shot": 0.3}, "goals": {names[0]: 0.7}}
        return plots.shots(ax, series, label="accuracy", **lines)
    if kind == "draws":
        return plots.draws([ax], {names[0]: {8: [0.5, 0.6], 64: [0.7]}}, label="accuracy")[0]
    if kind == "seeds":
        return methods.seeds(ax, dict.fromkeys(names, [0.5, 0.6]) | {"one": [0.4], "none": []}, label="accuracy")
    if kind == "best_of":
        curves = {name: ([0.5, 0.6], [0.4, np.nan], [0.6, np.nan]) for name in names}
        return plots.best_of([ax], curves, label="accuracy")[0]
    if kind == "losses":
        line, broken = ([5, 10], [2.0, 1.0]), ([5, 10], [2.0, np.nan])
        lines = plots.Losses([line] * 2, [line], [broken, ([5], [np.nan])], line)
        return plots.losses([ax], {names[0]: lines})[0]
    if kind == "curves":
        return plots.curves(ax, [(name, [1, 2, 3], [2.0, 1.5, 1.0]) for name in names])
    return methods.confusion(ax, [[0.9, 0.1, 0], [0.2, 0.7, 0.1], [np.nan] * 3], names, name=names[0])


KINDS = ["forest", "cost_quality", "shots", "draws", "seeds", "curves", "confusion", "best_of", "losses"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_figure_is_the_same_bytes_each_time(kind):
    drawn = []
    for _ in range(2):
        with drawing(3.0) as ax:
            assert draw(kind, ax, ["full", "lora", "probe"]) is ax
            drawn.append(svg(ax.figure))
    assert drawn[0] == drawn[1]
    assert "<dc:date>" not in drawn[0]


@pytest.mark.parametrize("kind", KINDS)
def test_names_of_any_kind_are_drawn_inert(kind):
    with drawing(3.0) as ax:
        draw(kind, ax, HOSTILE)
        drawn = svg(ax.figure)
    root = ET.fromstring(drawn)
    tags = {element.tag.rpartition("}")[2] for element in root.iter()}
    assert tags <= {
        "svg",
        "title",
        "style",
        "defs",
        "g",
        "path",
        "rect",
        "text",
        "tspan",
        "use",
        "clipPath",
        "metadata",
    }
    links = [v for element in root.iter() for k, v in element.attrib.items() if k.endswith("href")]
    assert all(link.startswith("#") for link in links)
    assert kind in ("draws", "best_of", "losses") or "類別" in "".join(root.itertext())


@pytest.mark.parametrize("kind", KINDS)
def test_a_figure_describes_itself_in_words_and_numbers(kind):
    with drawing(3.0) as ax:
        draw(kind, ax, ["full", "lora", "probe"])
        said, root = style.alt_text(ax), ET.fromstring(svg(ax.figure))
    assert "full" in said and any(c.isdigit() for c in said)
    assert root.attrib["role"] == "img" and root.attrib["aria-label"] == said
    assert root[0].tag.endswith("title") and root[0].text == said


def test_the_forest_puts_the_first_name_on_top_and_says_its_interval():
    with drawing(2.0) as ax:
        methods.forest(ax, ["a", "b"], [0.7, 0.6], [0.6, np.nan], [0.8, np.nan], label="accuracy")
        heights = {label.get_text(): tick for tick, label in zip(ax.get_yticks(), ax.get_yticklabels(), strict=True)}
    assert heights["a"] > heights["b"]
    assert "a 0.700 (0.600 to 0.800); b 0.600." in style.alt_text(ax)


def test_a_curve_is_named_at_its_end_and_lines_across_are_named_too():
    series = {"setfit": ([1, 2, 64], [0.5, 0.6, 0.7], [0.4] * 3, [0.8] * 3), "in_context": ([1], [0.5], [0.4], [0.6])}
    with drawing(3.0) as ax:
        plots.shots(ax, series, label="accuracy", levels={"zero_shot": 0.45}, goals={"tfidf, all labels": 0.65})
        assert {text.get_text() for text in ax.texts} == {"setfit", "in_context", "zero_shot", "tfidf, all labels"}
        assert ax.get_xscale() == "log" and [t.get_text() for t in ax.get_xticklabels()] == ["1", "2", "64"]
    said = style.alt_text(ax)
    assert "setfit: 0.500 at 1, 0.600 at 2, 0.700 at 64" in said and "zero_shot: 0.450 at every number" in said


def test_names_at_the_ends_of_curves_do_not_overlap():
    series = {name: ([1, 64], [0.2, 0.7 + 0.001 * i], [0.1] * 2, [0.8] * 2) for i, name in enumerate("abcdef")}
    with drawing(3.0) as ax:
        plots.shots(ax, series, label="accuracy")
        heights = sorted(text.xyann[1] for text in ax.texts)
    apart = np.diff(heights) / (ax.get_ylim()[1] - ax.get_ylim()[0]) * 3.0 * 72
    assert (apart > 8).all()


def test_every_draw_is_a_mark_of_its_methods_panel():
    with panels(3, 2, 1.5) as axes:
        plots.draws(axes, {"a": {1: [0.1, 0.2], 8: [0.3]}, "b": {1: [0.5]}, "c": {8: [0.6] * 4}}, label="accuracy")
        assert len(axes) == 4 and not axes[3].get_visible()
        said = style.alt_text(axes[0])
    assert said == "accuracy of every run of a, at 1: 0.100, 0.200; at 8: 0.300."


def test_budgets_have_a_panel_each_with_the_others_behind():
    curves = {"a": ([0.5, 0.6, 0.7], [0.4] * 3, [0.8] * 3), "b": ([0.3, 0.4], [np.nan] * 2, [np.nan] * 2)}
    with panels(2, 3, 1.3) as axes:
        plots.best_of(axes, curves, label="accuracy")
        assert [len(ax.lines) for ax in axes] == [2, 2, 0] and not axes[2].get_visible()
        assert [list(line.get_xdata()) for line in axes[1].lines] == [[1, 2, 3], [1, 2]]
        assert style.alt_text(axes[1]).endswith("b: 0.300 of 1, 0.400 of 2.")


def test_a_loss_that_ran_away_does_not_press_the_others_flat():
    good, away = ([5, 10, 15], [2.0, 1.5, 1.0]), ([5, 10, 15], [2.0, 9e9, np.nan])
    with panels(1, 1, 1.3, one_scale=False) as axes:
        plots.losses(axes, {"a": plots.Losses([good], [good], [away])})
        assert axes[0].get_ylim()[1] < 3
        said = style.alt_text(axes[0])
    assert said == (
        "Losses of a: training from 2.000 to 1.000 (1 run); validation from 2.000 to 1.000, lowest 1.000 (1 run); "
        "1 failed run."
    )


def test_a_confusion_matrix_names_the_commonest_mistake():
    with drawing(3.0) as ax:
        methods.confusion(ax, [[0.9, 0.1], [0.4, 0.6]], ["cat", "dog"], name="full")
    assert "Most often mistaken: dog for cat (40 %)" in style.alt_text(ax)


def test_colours_are_told_apart_by_marker_too():
    assert len(set(style.MARKERS)) == len(style.MARKERS) and len(set(style.COLOURS)) == len(style.COLOURS)
    pairs = {(style.COLOURS[i % len(style.COLOURS)], style.MARKERS[i % len(style.MARKERS)]) for i in range(30)}
    assert len(pairs) == 30


def test_drawing_leaves_the_users_own_settings_alone():
    import matplotlib as mpl

    before = dict(mpl.rcParams)
    with drawing(2.0) as ax:
        svg(ax.figure)
    assert dict(mpl.rcParams) == before
