//! Two curves over a logarithmic axis, each with a scale of its own.

use std::fmt::Write;

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 300.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = WIDTH - 60.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = HEIGHT - 50.0;

/// One curve of the plot.
pub struct Curve {
    pub name: &'static str,
    pub colour: &'static str,
    pub points: Vec<(f64, f64)>,
}

/// Zero is drawn at the left, below one.
fn log(x: f64) -> f64 {
    x.max(0.5).log10()
}

/// The plot as SVG: the first curve's scale at the left, the second's at the right.
pub fn plot(of: &str, curves: &[Curve; 2]) -> String {
    let xs = || curves.iter().flat_map(|curve| &curve.points).map(|(x, _)| log(*x));
    let (first, last) = (xs().fold(f64::INFINITY, f64::min), xs().fold(f64::NEG_INFINITY, f64::max));
    let x = |value: f64| LEFT + (RIGHT - LEFT) * (log(value) - first) / (last - first).max(f64::EPSILON);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{of}\" \
         font-family=\"system-ui,sans-serif\" font-size=\"12\"><rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>"
    );
    // Writing to a String never fails.
    for (value, _) in &curves[0].points {
        let _ = write!(
            svg,
            "<line x1=\"{0:.1}\" x2=\"{0:.1}\" y1=\"{TOP}\" y2=\"{BOTTOM}\" stroke=\"#eee\"/>\
             <text x=\"{0:.1}\" y=\"{1}\" text-anchor=\"middle\" fill=\"#555\">{2}</text>",
            x(*value),
            BOTTOM + 18.0,
            short(*value)
        );
    }
    let _ = write!(
        svg,
        "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\" fill=\"#555\">{of}</text>",
        (LEFT + RIGHT) / 2.0,
        BOTTOM + 38.0
    );
    for (Curve { name, colour, points }, (edge, anchor)) in curves.iter().zip([(LEFT, "end"), (RIGHT, "start")]) {
        let highest = points.iter().fold(f64::MIN_POSITIVE, |highest, (_, value)| highest.max(*value)) * 1.05;
        let y = |value: f64| BOTTOM - (BOTTOM - TOP) * value / highest;
        let aside = if anchor == "end" { -8.0 } else { 8.0 };
        for step in 0..=4 {
            let value = highest * f64::from(step) / 4.0;
            let _ = write!(
                svg,
                "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"{anchor}\" fill=\"{colour}\">{}</text>",
                edge + aside,
                y(value) + 4.0,
                short(value)
            );
        }
        let line: Vec<String> = points.iter().map(|(at, value)| format!("{:.1},{:.1}", x(*at), y(*value))).collect();
        let _ = write!(
            svg,
            "<polyline fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\" points=\"{}\"/>\
             <text x=\"{edge:.1}\" y=\"{}\" text-anchor=\"middle\" fill=\"{colour}\">{name}</text>",
            line.join(" "),
            TOP - 16.0
        );
        for (at, value) in points {
            let _ = write!(svg, "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"3\" fill=\"{colour}\"/>", x(*at), y(*value));
        }
    }
    svg + "</svg>\n"
}

/// 12k and 3.4M; small numbers with a decimal.
fn short(value: f64) -> String {
    match value {
        0.0 => "0".to_owned(),
        value if value >= 1e6 => format!("{:.1}M", value / 1e6),
        value if value >= 1e4 => format!("{:.0}k", value / 1e3),
        value if value >= 100.0 || value.fract() == 0.0 => format!("{value:.0}"),
        value => format!("{value:.1}"),
    }
}
