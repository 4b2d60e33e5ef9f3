//! One plot: lines over seconds, as HTML that fits any width. The curves are an SVG that stretches, the labels are text
//! beside it, so that they stay readable on a phone.

use crate::console::text::count;
use std::fmt::Write;

/// Width and height of the curves' own coordinates.
const SIDE: f64 = 1_000.0;
/// Labels of an axis, the first and the last included.
const STEPS: usize = 5;

/// A line of a plot.
pub(super) struct Curve<'a> {
    pub name: &'a str,
    /// The CSS class that gives it a colour and a pattern.
    pub class: &'a str,
    /// A value for each second; `None` makes a gap.
    pub values: Vec<Option<f64>>,
}

/// A figure with its title (which names the unit of the values), legend and axes.
pub(super) fn figure(title: &str, curves: &[Curve<'_>]) -> String {
    let seconds = curves.iter().map(|curve| curve.values.len()).max().unwrap_or_default();
    let highest =
        curves.iter().flat_map(|curve| curve.values.iter().flatten()).fold(0.0, |most: f64, value| most.max(*value));
    let top = rounded_up(highest);
    let legend: String = curves.iter().map(|Curve { name, class, .. }| legend_of(name, class)).collect();
    let lines: String = curves.iter().map(|curve| lines(curve, seconds, top)).collect();
    format!(
        "<figure><figcaption>{title}</figcaption><ul class=\"legend\">{legend}</ul>\
         <div class=\"plot\"><div class=\"values\">{}</div><div class=\"area\">\
         <svg viewBox=\"0 0 {SIDE} {SIDE}\" preserveAspectRatio=\"none\" role=\"img\" aria-label=\"{title} over time\">{}{lines}</svg></div>\
         <div class=\"times\">{}</div></div></figure>",
        value_labels(top),
        grid(),
        time_labels(seconds)
    )
}

fn legend_of(name: &str, class: &str) -> String {
    format!(
        "<li><svg class=\"sample\" viewBox=\"0 0 24 10\" aria-hidden=\"true\"><line class=\"{class}\" x1=\"0\" y1=\"5\" x2=\"24\" y2=\"5\"/>\
         </svg>{name}</li>"
    )
}

fn grid() -> String {
    let line =
        |step| format!("<line class=\"grid\" x1=\"0\" x2=\"{SIDE}\" y1=\"{0}\" y2=\"{0}\"/>", SIDE * share(step));
    (0..STEPS).map(line).collect()
}

fn share(step: usize) -> f64 {
    step as f64 / (STEPS - 1) as f64
}

fn value_labels(top: f64) -> String {
    let label = |step| {
        let value = top * share(step);
        let text = if top < 4.0 { format!("{value:.2}") } else { count(value.round() as u64) };
        format!("<span style=\"bottom:{:.1}%\">{text}</span>", share(step) * 100.0)
    };
    (0..STEPS).map(label).collect()
}

/// Seconds since the start, at most as many labels as there are seconds.
fn time_labels(seconds: usize) -> String {
    let last = seconds.saturating_sub(1);
    let steps = last.clamp(1, STEPS - 1);
    let label = |step: usize| {
        let at = last * step / steps;
        let left = if last == 0 { 0.0 } else { at as f64 / last as f64 * 100.0 };
        format!("<span style=\"left:{left:.1}%\">{}</span>", at + 1)
    };
    let labels = 0..if last == 0 { 1 } else { steps + 1 };
    labels.map(label).collect::<String>() + "<em>seconds since the beginning</em>"
}

/// The runs of values between gaps. A single value is a short line, so that it is visible.
fn lines(curve: &Curve<'_>, seconds: usize, top: f64) -> String {
    let x = |at: usize| SIDE * at as f64 / seconds.saturating_sub(1).max(1) as f64;
    let y = |value: f64| SIDE - SIDE * value / top;
    let (mut text, mut points): (String, Vec<(f64, f64)>) = (String::new(), Vec::new());
    for at in 0..=curve.values.len() {
        match curve.values.get(at).copied().flatten() {
            Some(value) => points.push((x(at), y(value))),
            None if points.is_empty() => {}
            None => {
                if let [(x, y)] = points[..] {
                    points = vec![((x - 4.0).max(0.0), y), ((x + 4.0).min(SIDE), y)];
                }
                let points = std::mem::take(&mut points);
                let points: Vec<String> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
                // Writing to a String never fails.
                let _ = write!(text, "<polyline class=\"{}\" points=\"{}\"/>", curve.class, points.join(" "));
            }
        }
    }
    text
}

/// The next of 1, 2, 4, 8, 10, 20, …: its quarters are round numbers. 1 for zero.
fn rounded_up(value: f64) -> f64 {
    if value <= 0.0 {
        return 1.0;
    }
    let magnitude = 10_f64.powf(value.log10().floor());
    [1.0, 2.0, 4.0, 8.0, 10.0].map(|step| step * magnitude).into_iter().find(|round| *round >= value).unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_end_at_round_numbers() {
        for (value, round) in
            [(0.0, 1.0), (0.3, 0.4), (1.0, 1.0), (1.5, 2.0), (3.0, 4.0), (7.9, 8.0), (9.0, 10.0), (24_310.0, 40_000.0)]
        {
            assert!((rounded_up(value) - round).abs() < 1e-9, "{value}: {}", rounded_up(value));
        }
    }

    fn curve(values: &[Option<f64>]) -> Curve<'static> {
        Curve { name: "a", class: "a", values: values.to_vec() }
    }

    #[test]
    fn a_plot_stays_within_its_frame() {
        let html = figure("x", &[curve(&[Some(0.0), Some(5.0), Some(7.5)]), curve(&[])]);
        let points = html.split("points=\"").nth(1).unwrap().split('"').next().unwrap();
        for point in points.split(' ') {
            let (x, y) = point.split_once(',').unwrap();
            let (x, y): (f64, f64) = (x.parse().unwrap(), y.parse().unwrap());
            assert!((0.0..=SIDE).contains(&x) && (0.0..=SIDE).contains(&y), "{point}");
        }
        assert!(figure("nothing", &[]).ends_with("</figure>"));
    }

    #[test]
    fn a_second_without_a_value_is_a_gap_and_no_zero() {
        let html = lines(&curve(&[Some(4.0), Some(4.0), None, Some(2.0), None]), 5, 4.0);
        assert_eq!(html.matches("<polyline").count(), 2);
        assert!(html.contains("points=\"0.0,0.0 250.0,0.0\""), "{html}");
        assert!(!html.contains(",1000.0"), "nothing is drawn at zero: {html}");
    }
}
