//! The report as one self-contained page: the verdict first, then numbers, then plots over time.

use super::audit::Audit;
use super::counters::{Row, Second, Waits};
use super::machine::Machine;
use super::plot::{Curve, figure};
use super::report::{LoadReport, name};
use super::watch::Watched;
use crate::console::text::{count, millis};
use std::fmt::Display;

const STYLE: &str = include_str!("page.css");

/// Renders the report as HTML.
#[must_use]
pub fn page(report: &LoadReport) -> String {
    let title = format!("livedrop load: {}", name(&report.scenario));
    let parts = [
        verdict(report),
        headline(report),
        answers(report),
        plots(report),
        watchers(report),
        audit(&report.audit),
        run(report),
    ];
    format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"><title>{title}</title><style>{STYLE}</style></head>\
         <body><main><h1>{title}</h1>{}</main></body></html>\n",
        parts.concat()
    )
}

fn verdict(report: &LoadReport) -> String {
    let findings: String =
        report.audit.findings.iter().map(|finding| format!("<li>{}</li>", escaped(finding))).collect();
    let verdict = match report.audit.findings.len() {
        0 => "<p class=\"verdict kept\">✓ The server kept its word.</p>".to_owned(),
        1 => format!("<p class=\"verdict broken\">✗ A promise was broken.</p><ul>{findings}</ul>"),
        many => format!("<p class=\"verdict broken\">✗ {many} promises were broken.</p><ul>{findings}</ul>"),
    };
    let note = report.note_of_quotas().map(|note| format!("<p class=\"note\">{}</p>", escaped(&note)));
    verdict + &note.unwrap_or_default()
}

fn headline(report: &LoadReport) -> String {
    let figure = |value: f64, what: &str| {
        format!("<div><dt>{what}</dt><dd>{}<small>/s</small></dd></div>", count(value.round() as u64))
    };
    format!(
        "<dl class=\"headline\">{}{}{}</dl>",
        figure(report.accepted_per_second, "accepted"),
        figure(report.answers_per_second, "answers of any kind"),
        figure(report.client_ceiling, "the client alone reaches")
    )
}

fn cells(values: &[&dyn Display]) -> String {
    values.iter().map(|value| format!("<td>{value}</td>")).collect()
}

fn waits_of(waits: &Waits) -> String {
    let ms = |value: f64| format!("{value:.2}");
    cells(&[&ms(waits.p50), &ms(waits.p90), &ms(waits.p99), &ms(waits.p999), &ms(waits.max)])
}

fn answers(report: &LoadReport) -> String {
    let row = |Row { kind, verdict, code, waits }: &Row| {
        format!(
            "<tr><th scope=\"row\">{}</th><td class=\"text\">{}</td><td class=\"text\">{}</td><td>{}</td>{}</tr>",
            name(kind),
            name(verdict),
            escaped(code),
            count(waits.count),
            waits_of(waits)
        )
    };
    format!(
        "<h2>Answers</h2><div class=\"table\"><table><thead><tr><th>request</th><th>answer</th><th>code</th><th class=\"number\">count</th>\
         <th class=\"number\">p50 ms</th><th class=\"number\">p90 ms</th><th class=\"number\">p99 ms</th><th class=\"number\">p99.9 ms</th>\
         <th class=\"number\">max ms</th></tr></thead><tbody>{}</tbody></table></div>",
        report.rows.iter().map(row).collect::<String>()
    )
}

fn plots(report: &LoadReport) -> String {
    let curve = |name, class, value: fn(&Second) -> f64, shown: fn(&Second) -> bool| Curve {
        name,
        class,
        values: report.timeline.iter().map(|second| shown(second).then(|| value(second))).collect(),
    };
    // Without answers the count is zero, but the wait has no value.
    let always = |_: &Second| true;
    let answered = |second: &Second| second.waits.count > 0;
    let rates = [
        curve("accepted", "accepted", |second| second.accepted as f64, always),
        curve("refused", "refused", |second| second.refused as f64, always),
        curve("failed or lost", "failed", |second| second.failed as f64, always),
    ];
    let waits = [
        curve("p50", "p50", |second| second.waits.p50, answered),
        curve("p99", "p99", |second| second.waits.p99, answered),
        curve("max", "max", |second| second.waits.max, answered),
    ];
    let row = |second: &Second| {
        let Second { at, accepted, refused, failed, waits } = second;
        let wait = |value: f64| if waits.count > 0 { format!("{value:.2}") } else { "–".to_owned() };
        let numbers: [&dyn Display; 6] = [
            &count(*accepted),
            &count(*refused),
            &count(*failed),
            &wait(waits.p50),
            &wait(waits.p99),
            &wait(waits.max),
        ];
        format!("<tr><th scope=\"row\">{}</th>{}</tr>", at + 1, cells(&numbers))
    };
    format!(
        "<h2>Over time</h2>{}{}<details><summary>The same as numbers</summary><div class=\"table\"><table><thead><tr><th>second</th>\
         <th class=\"number\">accepted</th><th class=\"number\">refused</th><th class=\"number\">failed or lost</th>\
         <th class=\"number\">p50 ms</th><th class=\"number\">p99 ms</th><th class=\"number\">max ms</th></tr></thead><tbody>{}</tbody>\
         </table></div></details>",
        figure("Answers per second", &rates),
        figure("Wait in milliseconds", &waits),
        report.timeline.iter().map(row).collect::<String>()
    )
}

fn facts<const N: usize>(facts: [(&str, String); N]) -> String {
    let fact = |(name, value): &(&str, String)| format!("<div><dt>{name}</dt><dd>{}</dd></div>", escaped(value));
    format!("<dl class=\"facts\">{}</dl>", facts.iter().map(fact).collect::<String>())
}

fn watchers(report: &LoadReport) -> String {
    let Some(Watched { sessions, deliveries, deliveries_per_second, came_back, delay }) = &report.watched else {
        return String::new();
    };
    let heard = match delay.count {
        0 => "no restock was sent".to_owned(),
        _ => format!(
            "p50 {}, p90 {}, p99 {}, max {}",
            millis(delay.p50),
            millis(delay.p90),
            millis(delay.p99),
            millis(delay.max)
        ),
    };
    let facts = facts([
        ("WebSocket sessions", count((*sessions).into())),
        ("messages delivered", format!("{} ({}/s)", count(*deliveries), count(deliveries_per_second.round() as u64))),
        ("sessions that came back", count(*came_back)),
        ("from a restock to each session", heard),
    ]);
    format!("<h2>Watchers</h2>{facts}")
}

fn audit(audit: &Audit) -> String {
    let facts = facts([
        (
            "orders answered",
            format!("{} ({} of them only afterwards)", count(audit.answered), count(audit.answered_late)),
        ),
        ("keys asked again", count(audit.asked_again)),
        ("units promised", count(audit.units_promised)),
        ("units taken", count(audit.units_taken)),
    ]);
    format!("<h2>Audit</h2>{facts}")
}

fn run(report: &LoadReport) -> String {
    let pace = match report.rate {
        Some(rate) => format!("open loop, {}/s, {}", count(rate.round() as u64), name(&report.shape)),
        None => "closed loop: each connection sends its next request when it has its answer".to_owned(),
    };
    let Machine { cores, processor, memory_mib, system } = &report.machine;
    let facts = facts([
        ("server", report.url.clone()),
        ("scenario", name(&report.scenario)),
        ("connections", count(report.connections.into())),
        ("pace", pace),
        ("retries", format!("{:.0} % of orders", report.retries * 100.0)),
        ("duration", format!("{:.1} s", report.seconds)),
        ("began", report.began_at.to_string()),
        ("livedrop", report.version.to_owned()),
        ("machine of the load driver", format!("{cores} cores, {processor}, {} MiB, {system}", count(*memory_mib))),
    ]);
    format!("<h2>The run</h2>{facts}")
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tools::load::options::tests::options;

    fn report(findings: &[&str]) -> LoadReport {
        let audit = Audit { findings: findings.iter().map(|&text| text.to_owned()).collect(), ..Audit::default() };
        let second = |at, accepted| Second { at, accepted, refused: 0, failed: 0, waits: Waits::default() };
        let seconds = vec![second(0, 10), second(1, 20), second(2, 1)];
        LoadReport::new(&options(), 2.4, 1.0, (Vec::new(), seconds, None), None, audit)
    }

    #[test]
    fn the_verdict_comes_first() {
        let kept = page(&report(&[]));
        assert!(kept.contains("kept its word") && kept.find("verdict") < kept.find("<h2>"), "{kept}");
        let broken = page(&report(&["<b>one</b>", "two"]));
        assert!(broken.contains("✗ 2 promises were broken."), "{broken}");
        assert!(broken.contains("&lt;b&gt;one"), "what others say is text: {broken}");
    }

    #[test]
    fn a_second_that_has_not_ended_is_not_shown() {
        let report = report(&[]);
        assert_eq!(report.timeline.iter().map(|second| second.accepted).collect::<Vec<_>>(), [10, 20]);
    }

    #[test]
    fn it_says_when_and_where_it_was() {
        let html = page(&report(&[]));
        for fact in ["livedrop</dt>", env!("CARGO_PKG_VERSION"), "cores", "T", "began"] {
            assert!(html.contains(fact), "{fact}");
        }
    }
}
