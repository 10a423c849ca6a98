from poise.figures.selective import Curve, RiskCoverage


def test_curves_end_at_the_risk_of_all_and_dots_are_where_thresholds_lie() -> None:
    curves = (
        Curve("msp", (0.5, 1.0), (0.0, 0.2), (0.5, 0.0)),
        Curve("centroid", (0.25, 1.0), (0.1, 0.2), None),
    )
    (axes,) = RiskCoverage("test", 0.05, 1234, curves).draw().axes
    msp, dot, centroid, target = axes.lines
    assert (list(msp.get_xdata()), list(msp.get_ydata())) == ([0.5, 1.0], [0.0, 0.2])
    assert (list(dot.get_xdata()), list(dot.get_ydata())) == ([0.5], [0.0])
    assert dot.get_color() == msp.get_color() != centroid.get_color()
    assert list(target.get_ydata()) == [0.05, 0.05]
    assert axes.get_ylim() == (0, 0.25)
    told = {text.get_text() for text in axes.texts}
    assert told == {"target 5 %", "1,234 examples; dots: threshold chosen on the calibration split"}
