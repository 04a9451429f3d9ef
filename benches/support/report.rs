//! Medians, ratios and Markdown.

use super::relays::Kind;

/// One figure of one contender in one load, a value per round.
pub(crate) struct Series {
    pub(crate) kind: Kind,
    /// The figure that counts: CPU time per unit. Lower is better.
    pub(crate) cost: Vec<f64>,
    /// Units per second of wall time, for orientation.
    pub(crate) rate: Vec<f64>,
}

impl Series {
    pub(crate) fn new(kind: Kind) -> Self {
        Self { kind, cost: Vec::new(), rate: Vec::new() }
    }
}

pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        n if n.is_multiple_of(2) => f64::midpoint(sorted[n / 2 - 1], sorted[n / 2]),
        n => sorted[n / 2],
    }
}

/// The ratios within each round, in which noise that affects a whole round cancels out.
fn ratios(a: &[f64], b: &[f64]) -> Vec<f64> {
    a.iter().zip(b).map(|(a, b)| a / b).collect()
}

fn lower_quartile(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 4).copied().unwrap_or(f64::NAN)
}

fn spread(values: &[f64]) -> String {
    let min = values.iter().copied().fold(f64::INFINITY, f64::min);
    let max = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    format!("{} – {}", digits(min), digits(max))
}

/// Three significant digits or so.
pub(crate) fn digits(value: f64) -> String {
    match value.abs() {
        v if v.is_nan() => "–".into(),
        v if v >= 100.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        v if v >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

/// A limit for dockline against another contender: at most `limit` times its figure.
#[derive(Clone, Copy)]
pub(crate) struct Reach {
    pub(crate) against: Against,
    pub(crate) figure: Figure,
    pub(crate) limit: f64,
    /// The bare relay is the least this load can cost.
    pub(crate) floor: bool,
}

#[derive(Clone, Copy)]
pub(crate) enum Figure {
    Cost,
    /// Wall time, the inverse of the rate.
    Time,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Against {
    Nginx,
    DockerProxy,
    /// The cheapest of the bare relays.
    Bare,
}

impl Against {
    fn find(self, all: &[Series]) -> Option<&Series> {
        match self {
            Self::Nginx => all.iter().find(|s| s.kind == Kind::Nginx),
            Self::DockerProxy => all.iter().find(|s| s.kind == Kind::DockerProxy),
            Self::Bare => all
                .iter()
                .filter(|s| s.kind.is_bare())
                .min_by(|a, b| median(&a.cost).total_cmp(&median(&b.cost))),
        }
    }
}

impl Figure {
    fn ratios(self, a: &Series, b: Option<&Series>) -> Vec<f64> {
        b.map_or_else(Vec::new, |b| match self {
            Self::Cost => ratios(&a.cost, &b.cost),
            Self::Time => ratios(&b.rate, &a.rate),
        })
    }
}

#[derive(Default)]
pub(crate) struct Report {
    lines: Vec<String>,
    missed: bool,
}

impl Report {
    pub(crate) fn section(title: &str, cost: &str, rate: &str) {
        Self::section_beside("nginx", title, cost, rate);
    }

    /// A section whose rows are compared with another peer than nginx.
    pub(crate) fn section_beside(peer: &str, title: &str, cost: &str, rate: &str) {
        println!("\n### {title}\n");
        println!("| load | relay | {cost} | spread | {rate} | of {peer} | of bare splice |");
        println!("|---|---|--:|--:|--:|--:|--:|");
    }

    pub(crate) fn rows(&mut self, load: &str, all: &[Series], reach: &[Reach]) {
        let peer = Against::Nginx.find(all).or_else(|| Against::DockerProxy.find(all));
        let bare = Against::Bare.find(all);
        for series in all {
            println!(
                "| {load} | {} | {} | {} | {} | {} | {} |",
                series.kind.label(),
                digits(median(&series.cost)),
                spread(&series.cost),
                digits(median(&series.rate)),
                digits(median(&Figure::Cost.ratios(series, peer))),
                digits(median(&Figure::Cost.ratios(series, bare))),
            );
        }
        let Some(ours) = all.iter().find(|s| s.kind.is_ours()) else { return };
        for reach in reach {
            let Some(other) = reach.against.find(all) else { continue };
            let name = match (reach.against, reach.figure) {
                (Against::Bare, Figure::Cost) => "bare splice".into(),
                (_, Figure::Cost) => other.kind.label(),
                (_, Figure::Time) => format!("{}, wall time", other.kind.label()),
            };
            let bare = bare.map_or(f64::NAN, |bare| median(&reach.figure.ratios(bare, Some(other))));
            self.verdict(&format!("{load} | {name}"), &reach.figure.ratios(ours, Some(other)), bare, *reach);
        }
    }

    /// `bare` is the ratio of the bare relay. A limit below that floor cannot be met on this
    /// kernel.
    fn verdict(&mut self, what: &str, ratios: &[f64], bare: f64, reach: Reach) {
        let (value, limit) = (median(ratios), reach.limit);
        let word = if value <= limit {
            "met"
        } else if reach.floor && bare > limit {
            "out of reach here"
        } else if lower_quartile(ratios) <= limit && ratios.len() > 3 {
            "within noise"
        } else {
            self.missed = true;
            "**missed**"
        };
        self.lines.push(format!("| {what} | ≤ {limit:.2} | {value:.3} | {} | {word} |", digits(bare)));
    }

    /// A verdict on a figure of dockline alone.
    pub(crate) fn at_most(&mut self, what: &str, value: f64, limit: f64) {
        let met = value <= limit;
        self.missed |= !met;
        let word = if met { "met" } else { "**missed**" };
        self.lines.push(format!("| {what} | – | ≤ {limit} | {} | – | {word} |", digits(value)));
    }

    /// Prints the verdicts. Returns `true` when no figure is missed.
    pub(crate) fn finish(&self) -> bool {
        if !self.lines.is_empty() {
            println!(
                "\n### Reach\n\n| load | against | limit | ours | bare splice | |\n|---|---|--:|--:|--:|---|"
            );
            self.lines.iter().for_each(|line| println!("{line}"));
        }
        !self.missed
    }
}

/// Latencies of responses, pooled over the rounds.
pub(crate) struct Latencies {
    lines: Vec<String>,
}

impl Latencies {
    pub(crate) fn new() -> Self {
        Self { lines: Vec::new() }
    }

    pub(crate) fn add(&mut self, load: &str, kind: Kind, mut nanoseconds: Vec<u32>) {
        nanoseconds.sort_unstable();
        let at = |permille: usize| {
            let at = (nanoseconds.len() * permille / 1000).min(nanoseconds.len().saturating_sub(1));
            nanoseconds.get(at).map_or(f64::NAN, |ns| f64::from(*ns) / 1e3)
        };
        let [p50, p99, p999] = [500, 990, 999].map(at).map(digits);
        self.lines.push(format!("| {load} | {} | {p50} | {p99} | {p999} |", kind.label()));
    }

    pub(crate) fn print(&self, title: &str) {
        if !self.lines.is_empty() {
            println!("\n### {title}\n\n| load | relay | p50 µs | p99 µs | p99.9 µs |\n|---|---|--:|--:|--:|");
            self.lines.iter().for_each(|line| println!("{line}"));
        }
    }
}
