//! The report as one page that needs nothing else: answers and waits over time.

use super::report::LoadReport;
use super::tally::Second;
use std::fmt::Write;

const WIDTH: f64 = 900.0;
const HEIGHT: f64 = 260.0;
/// Room for the labels of the axes.
const MARGIN: f64 = 60.0;

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1b1b1f}\
    pre{background:#f4f4f6;padding:1rem;overflow:auto}svg{width:100%;height:auto}\
    text{font:12px system-ui,sans-serif;fill:#555}.grid{stroke:#e2e2e6}polyline{fill:none;stroke-width:2}";

/// A line of a plot: its name, its colour, and its values.
type Curve<'a> = (&'a str, &'a str, Vec<f64>);

/// The page.
#[must_use]
pub fn page(report: &LoadReport) -> String {
    let over = |value: fn(&Second) -> f64| report.timeline.iter().map(value).collect::<Vec<f64>>();
    let answers = plot(
        "answers per second",
        &[
            ("accepted", "#0a7d4f", over(|second| second.accepted as f64)),
            ("refused", "#b36b00", over(|second| second.refused as f64)),
            ("failed or lost", "#c0262d", over(|second| second.failed as f64)),
        ],
    );
    let waits = plot(
        "wait in milliseconds",
        &[
            ("p50", "#2456c9", over(|second| second.waits.p50)),
            ("p99", "#8a2be2", over(|second| second.waits.p99)),
            ("max", "#c0262d", over(|second| second.waits.max)),
        ],
    );
    format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>livedrop load</title><style>{STYLE}</style>\
         <h1>livedrop load</h1><pre>{}</pre><h2>Answers</h2>{answers}<h2>Waits</h2>{waits}</html>\n",
        escaped(&report.rendered())
    )
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn plot(title: &str, curves: &[Curve<'_>]) -> String {
    let seconds = curves.iter().map(|(_, _, values)| values.len()).max().unwrap_or_default();
    let highest = curves.iter().flat_map(|(_, _, values)| values).fold(1.0_f64, |highest, value| highest.max(*value));
    let top = rounded_up(highest);
    let x = |at: usize| MARGIN + (WIDTH - MARGIN) * at as f64 / seconds.saturating_sub(1).max(1) as f64;
    let y = |value: f64| HEIGHT - 30.0 - (HEIGHT - 60.0) * value / top;
    let mut svg = format!("<svg viewBox=\"0 0 {} {HEIGHT}\" role=\"img\" aria-label=\"{title}\">", WIDTH + 20.0);
    // Writing to a String never fails.
    for step in 0..=4 {
        let value = top * f64::from(step) / 4.0;
        let _ = write!(
            svg,
            "<line class=\"grid\" x1=\"{MARGIN}\" x2=\"{WIDTH}\" y1=\"{0:.1}\" y2=\"{0:.1}\"/>\
             <text x=\"{1}\" y=\"{2:.1}\" text-anchor=\"end\">{value}</text>",
            y(value),
            MARGIN - 6.0,
            y(value) + 4.0
        );
    }
    let _ = write!(
        svg,
        "<text x=\"{MARGIN}\" y=\"{0}\">0 s</text><text x=\"{WIDTH}\" y=\"{0}\" text-anchor=\"end\">{1} s</text>",
        HEIGHT - 8.0,
        seconds.saturating_sub(1)
    );
    for (n, (name, colour, values)) in curves.iter().enumerate() {
        let points: Vec<String> =
            values.iter().enumerate().map(|(at, value)| format!("{:.1},{:.1}", x(at), y(*value))).collect();
        let _ = write!(
            svg,
            "<polyline stroke=\"{colour}\" points=\"{}\"/><text x=\"{}\" y=\"14\" style=\"fill:{colour}\">{name}</text>",
            points.join(" "),
            MARGIN + 130.0 * n as f64
        );
    }
    svg + "</svg>"
}

/// The next of 1, 2, 4, 8, 10, 20, …: four steps of it are round numbers.
fn rounded_up(value: f64) -> f64 {
    let magnitude = 10_f64.powf(value.log10().floor());
    [1.0, 2.0, 4.0, 8.0, 10.0].map(|step| step * magnitude).into_iter().find(|round| *round >= value).unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_end_at_round_numbers() {
        for (value, round) in [(1.0, 1.0), (1.5, 2.0), (3.0, 4.0), (7.9, 8.0), (9.0, 10.0), (24_310.0, 40_000.0)] {
            assert!((rounded_up(value) - round).abs() < 1e-9, "{value}: {}", rounded_up(value));
        }
    }

    #[test]
    fn a_plot_stays_within_its_frame() {
        let svg = plot("x", &[("a", "#000", vec![0.0, 5.0, 7.5]), ("b", "#111", Vec::new())]);
        let points = svg.split("points=\"").nth(1).unwrap().split('"').next().unwrap();
        for point in points.split(' ') {
            let (x, y) = point.split_once(',').unwrap();
            let (x, y): (f64, f64) = (x.parse().unwrap(), y.parse().unwrap());
            assert!((MARGIN..=WIDTH).contains(&x) && (0.0..=HEIGHT).contains(&y), "{point}");
        }
        assert!(plot("nothing", &[]).ends_with("</svg>"));
    }

    #[test]
    fn what_others_say_is_text() {
        assert_eq!(escaped("<script>&"), "&lt;script&gt;&amp;");
    }
}
