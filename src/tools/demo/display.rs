//! Live progress on standard error: a small picture redrawn in place on a terminal, else a line a second.

use super::{
    counters::{Counters, Stage},
    meter::Meter,
    options::DemoOptions,
};
use crate::console::text::{Paint, count, millis};
use crate::console::{fit, stderr_columns, understands_escapes};
use crate::domain::StockCounts;
use std::{
    io::{IsTerminal, Write},
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};
use tokio::{sync::watch, task::JoinHandle, time};

/// Cells of the stock bar, if the terminal is wide enough.
const BAR_CELLS: usize = 50;
/// Columns before the bar.
const BAR_INDENT: usize = 11;
/// Assumed width if the terminal does not report one.
const COLUMNS: usize = 80;
/// Ten pictures a second look alive and cost nothing.
const FRAME: Duration = Duration::from_millis(100);
/// Without a terminal, one line for this many frames: a line a second.
const FRAMES_PER_LINE: u32 = 10;

/// How progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// A picture that is redrawn in place.
    Picture(Paint),
    /// One line a second.
    Lines,
    /// No progress at all.
    Silent,
}

/// The data of one picture.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Snapshot {
    pub stage: Stage,
    pub elapsed: Duration,
    pub stock: StockCounts,
    pub orders_per_second: u64,
    pub accepted: u64,
    pub refused: u64,
    pub order_p99: f64,
    pub listening: u64,
    pub events: u64,
    pub event_p99: f64,
}

/// The display's running task.
pub struct Display {
    done: watch::Sender<bool>,
    task: JoinHandle<u64>,
}

impl Mode {
    /// A picture on a terminal, else lines, and silence if a program reads the JSON and nobody watches.
    #[must_use]
    pub fn for_stderr(json: bool) -> Self {
        match std::io::stderr().is_terminal() && understands_escapes() {
            true => Self::Picture(Paint::from_environment()),
            false if json => Self::Silent,
            false => Self::Lines,
        }
    }
}

impl Display {
    /// Shows `counters` until [`Display::finish`].
    #[must_use]
    pub fn start(counters: Arc<Counters>, options: &DemoOptions, mode: Mode) -> Self {
        let (done, stop) = watch::channel(false);
        let task = tokio::spawn(show(counters, title(options), mode, stop));
        Self { done, task }
    }

    /// Draws the last picture, restores the terminal, and returns the orders answered in the busiest second.
    pub async fn finish(self) -> u64 {
        self.done.send_replace(true);
        self.task.await.unwrap_or(0)
    }
}

async fn show(counters: Arc<Counters>, title: String, mode: Mode, mut stop: watch::Receiver<bool>) -> u64 {
    let (start, mut meter, mut lines_drawn) = (Instant::now(), Meter::default(), 0);
    let mut ticks = time::interval(FRAME);
    ticks.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
    for frame_number in 0u32.. {
        let last = tokio::select! {
            _ = ticks.tick() => false,
            _ = stop.wait_for(|stop| *stop) => true,
        };
        let snapshot = look(&counters, &mut meter, start);
        match mode {
            Mode::Picture(paint) => {
                // Read each time: a window may be resized. A line that wraps would break the redrawing.
                let columns = stderr_columns().unwrap_or(COLUMNS);
                let frame = frame(&title, &snapshot, paint, columns);
                write(&redraw(&frame, lines_drawn, last));
                lines_drawn = frame.len();
            }
            Mode::Lines if last || frame_number.is_multiple_of(FRAMES_PER_LINE) => write(&(line(&snapshot) + "\n")),
            Mode::Lines | Mode::Silent => {}
        }
        if last {
            break;
        }
    }
    meter.best()
}

fn look(counters: &Counters, meter: &mut Meter, start: Instant) -> Snapshot {
    Snapshot {
        stage: counters.stage(),
        elapsed: start.elapsed(),
        stock: counters.stock(),
        orders_per_second: meter.look(Instant::now(), counters.answered.load(Relaxed)),
        accepted: counters.accepted.load(Relaxed),
        refused: counters.refusals().values().sum(),
        order_p99: counters.accepted_latency.percentiles().p99,
        listening: counters.listening.load(Relaxed),
        events: counters.events.load(Relaxed),
        event_p99: counters.event_latency.percentiles().p99,
    }
}

/// A failed write to the display must not stop the demo.
fn write(text: &str) {
    let mut stderr = std::io::stderr().lock();
    let _ = stderr.write_all(text.as_bytes()).and_then(|()| stderr.flush());
}

fn title(options: &DemoOptions) -> String {
    let crash = if options.crash { ", and a crash" } else { "" };
    format!(
        "{} buyers, {} units, {} followers{crash}",
        count(options.buyers.into()),
        count(options.stock.into()),
        count(options.followers.into())
    )
}

/// The picture, line by line; none is longer than `columns`.
fn frame(title: &str, now: &Snapshot, paint: Paint, columns: usize) -> Vec<String> {
    let stock = now.stock;
    let counts = format!(
        "{} sold   {} held   {} free",
        count(stock.sold.into()),
        count(stock.held.into()),
        count(stock.available.into())
    );
    let orders = format!(
        "{:>7}/s   accepted {}   refused {}   p99 {}",
        count(now.orders_per_second),
        count(now.accepted),
        count(now.refused),
        millis(now.order_p99)
    );
    let events = format!(
        "{:>7} delivered   {} listening   p99 {}",
        count(now.events),
        count(now.listening),
        millis(now.event_p99)
    );
    let cells = BAR_CELLS.min(columns.saturating_sub(BAR_INDENT));
    let lines = [
        String::new(),
        format!("  {}   {}", paint.bold("LiveDrop demo"), paint.dim(title)),
        String::new(),
        format!("  Stock    {}", bar(stock, cells, paint)),
        format!("           {counts}"),
        format!("  Orders   {orders}"),
        format!("  Events   {events}"),
        format!("  Now      {}", paint.dim(&format!("{:>5.1} s   {}", now.elapsed.as_secs_f64(), stage(now.stage)))),
        String::new(),
    ];
    lines.iter().map(|line| fit(line, columns)).collect()
}

fn stage(stage: Stage) -> String {
    match stage.of {
        0 => stage.name.to_owned(),
        of => format!("{} {}/{}", stage.name, count(stage.done.min(of)), count(of)),
    }
}

/// Sold, held and free units as segments that always fill the bar; each that is not zero has at least one cell.
fn bar(stock: StockCounts, cells: usize, paint: Paint) -> String {
    let (sold, held, free) = segments(stock, cells);
    format!("{}{}{}", paint.green(&"█".repeat(sold)), paint.yellow(&"▓".repeat(held)), paint.dim(&"░".repeat(free)))
}

fn segments(stock: StockCounts, cells: usize) -> (usize, usize, usize) {
    let total = u64::from(stock.total.max(1));
    let share = |units: u32| match units {
        0 => 0,
        _ => ((u64::from(units) * cells as u64 / total) as usize).max(1).min(cells),
    };
    // The bar is full of sold units only when all of them are sold.
    let sold = if stock.sold < stock.total { share(stock.sold).min(cells.saturating_sub(1)) } else { cells };
    let held = share(stock.held).min(cells - sold);
    (sold, held, cells - sold - held)
}

/// One line for a log.
fn line(now: &Snapshot) -> String {
    format!(
        "{:>5.1} s  {}: sold {}/{}, held {}, free {}; {} orders/s, accepted {}, refused {}, p99 {}; {} events, p99 {}",
        now.elapsed.as_secs_f64(),
        stage(now.stage),
        now.stock.sold,
        now.stock.total,
        now.stock.held,
        now.stock.available,
        now.orders_per_second,
        now.accepted,
        now.refused,
        millis(now.order_p99),
        now.events,
        millis(now.event_p99)
    )
}

/// The escapes that replace the `drawn` previous lines by `frame`: cursor up, each line cleared to its end. The cursor
/// is hidden meanwhile, and shown again after the last picture.
fn redraw(frame: &[String], drawn: usize, last: bool) -> String {
    let up = if drawn > 0 { format!("\x1b[{drawn}A") } else { String::new() };
    let lines: String = frame.iter().map(|line| format!("\r{line}\x1b[K\n")).collect();
    let cursor = if last { "\x1b[?25h" } else { "\x1b[?25l" };
    format!("{cursor}{up}{lines}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stock(available: u32, held: u32, sold: u32) -> StockCounts {
        StockCounts { total: available + held + sold, available, held, sold }
    }

    fn snapshot() -> Snapshot {
        Snapshot {
            stage: Stage { name: "the rush", done: 0, of: 0 },
            elapsed: Duration::from_millis(2_340),
            stock: stock(20, 9, 71),
            orders_per_second: 1_250,
            accepted: 96,
            refused: 310,
            order_p99: 4.2,
            listening: 200,
            events: 12_400,
            event_p99: 3.1,
        }
    }

    #[test]
    fn the_picture_without_colours() {
        let frame = frame("500 buyers, 100 units, 200 followers", &snapshot(), Paint::Plain, COLUMNS);
        let expected = [
            "",
            "  LiveDrop demo   500 buyers, 100 units, 200 followers",
            "",
            "  Stock    ███████████████████████████████████▓▓▓▓░░░░░░░░░░░",
            "           71 sold   9 held   20 free",
            "  Orders     1,250/s   accepted 96   refused 310   p99 4.2 ms",
            "  Events    12,400 delivered   200 listening   p99 3.1 ms",
            "  Now        2.3 s   the rush",
            "",
        ];
        assert_eq!(frame, expected);
    }

    #[test]
    fn the_picture_fits_into_the_terminal_whatever_the_numbers() {
        let most = u32::MAX / 4;
        let busy = Snapshot {
            stock: StockCounts { total: 1_000_000, available: 1_000_000, held: 1_000_000, sold: 1_000_000 },
            stage: Stage { name: "killed the server (kill -9), starting it again", done: 0, of: 0 },
            orders_per_second: 100_000,
            accepted: 1_000_000,
            refused: u64::from(most) / 100,
            order_p99: 59_999.99,
            listening: 20_000,
            events: 1_000_000_000,
            event_p99: 59_999.99,
            ..snapshot()
        };
        let options =
            DemoOptions { buyers: 50_000, stock: 1_000_000, followers: 20_000, crash: true, ..Default::default() };
        for columns in [0, 1, 20, 60, 80, 200] {
            for line in frame(&title(&options), &busy, Paint::Plain, columns) {
                assert!(line.chars().count() <= columns.min(80), "{columns}: {line}");
            }
        }
        let narrow = frame("x", &snapshot(), Paint::Plain, 60);
        assert!(
            narrow[3].ends_with('░') && narrow[3].chars().count() == 60,
            "the bar is shorter, not cut: {}",
            narrow[3]
        );
    }

    #[test]
    fn the_bar_is_always_full_and_never_lies_about_the_ends() {
        for (counts, expected) in [
            (stock(100, 0, 0), (0, 0, 50)),
            (stock(0, 0, 100), (50, 0, 0)),
            (stock(0, 1, 999), (49, 1, 0)),
            (stock(999, 0, 1), (1, 0, 49)),
            (stock(0, 100, 0), (0, 50, 0)),
            (stock(1, 0, 999), (49, 0, 1)),
        ] {
            assert_eq!(segments(counts, BAR_CELLS), expected, "{counts:?}");
        }
    }

    #[test]
    fn a_line_for_a_log_has_no_escapes() {
        let text = line(&snapshot());
        assert_eq!(
            text,
            "  2.3 s  the rush: sold 71/100, held 9, free 20; 1250 orders/s, accepted 96, refused 310, p99 4.2 ms; 12400 events, p99 3.1 ms"
        );
        assert!(!text.contains('\x1b'));
    }

    #[test]
    fn a_countable_stage_shows_how_far_it_is() {
        assert_eq!(stage(Stage { name: "gathering", done: 3, of: 1_000 }), "gathering 3/1,000");
        assert_eq!(stage(Stage { name: "settling", done: 3, of: 0 }), "settling");
    }

    #[test]
    fn redrawing_goes_back_over_what_was_drawn_and_shows_the_cursor_at_the_end() {
        let frame = ["a".to_owned(), "b".to_owned()];
        assert_eq!(redraw(&frame, 0, false), "\x1b[?25l\ra\x1b[K\n\rb\x1b[K\n");
        assert_eq!(redraw(&frame, 2, true), "\x1b[?25h\x1b[2A\ra\x1b[K\n\rb\x1b[K\n");
    }
}
