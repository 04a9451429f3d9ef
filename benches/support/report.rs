//! Medians, ratios and Markdown.

use super::contender::Kind;

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

/// The ratios within each round: what disturbs a whole round falls out of them.
fn ratios(a: &Series, b: Option<&Series>) -> Vec<f64> {
    b.map_or_else(Vec::new, |b| a.cost.iter().zip(&b.cost).map(|(a, b)| a / b).collect())
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

/// What the module has to reach against another contender.
#[derive(Clone, Copy)]
pub(crate) struct Reach {
    pub(crate) against: Against,
    pub(crate) limit: f64,
    /// The bare relay is the least this load can cost.
    pub(crate) floor: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Against {
    Stock,
    /// The cheapest of the bare relays.
    Bare,
}

pub(crate) struct Report {
    lines: Vec<String>,
    missed: bool,
}

impl Report {
    pub(crate) fn new() -> Self {
        Self { lines: Vec::new(), missed: false }
    }

    pub(crate) fn section(title: &str, load: &str, cost: &str, rate: &str) {
        println!("\n### {title}\n");
        println!("| {load} | relay | {cost} | spread | {rate} | of stock | of bare splice |");
        println!("|---|---|--:|--:|--:|--:|--:|");
    }

    pub(crate) fn rows(&mut self, load: &str, all: &[Series], reach: &[Reach]) {
        let stock = all.iter().find(|s| s.kind == Kind::Stock);
        let bare = all
            .iter()
            .filter(|s| s.kind.is_bare())
            .min_by(|a, b| median(&a.cost).total_cmp(&median(&b.cost)));
        for series in all {
            println!(
                "| {load} | {} | {} | {} | {} | {} | {} |",
                series.kind.label(),
                digits(median(&series.cost)),
                spread(&series.cost),
                digits(median(&series.rate)),
                digits(median(&ratios(series, stock))),
                digits(median(&ratios(series, bare))),
            );
        }
        let Some(module) = all.iter().find(|s| s.kind == Kind::Module) else { return };
        for reach in reach {
            let (other, name) = match reach.against {
                Against::Stock => (stock, "stock nginx"),
                Against::Bare => (bare, "bare splice"),
            };
            let bare_value = bare.map_or(f64::NAN, |bare| median(&ratios(bare, other)));
            self.verdict(&format!("{load} | {name}"), &ratios(module, other), bare_value, *reach);
        }
    }

    /// `bare` is what the bare relay reaches. Where it is the floor, a limit below it tells of the kernel, not of the
    /// module.
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
        self.lines.push(format!(
            "| {what} | ≤ {limit:.2} | {} | {} | {word} |",
            format_args!("{value:.3}"),
            digits(bare)
        ));
    }

    /// A verdict on a plain count.
    pub(crate) fn at_most(&mut self, what: &str, value: f64, limit: f64) {
        let met = value <= limit;
        self.missed |= !met;
        let word = if met { "met" } else { "**missed**" };
        self.lines.push(format!("| {what} | – | ≤ {limit} | {} | – | {word} |", digits(value)));
    }

    /// Prints the verdicts; `true` when no figure is missed.
    pub(crate) fn finish(&self) -> bool {
        if !self.lines.is_empty() {
            println!(
                "\n### Reach\n\n| load | against | limit | module | bare splice | |\n|---|---|--:|--:|--:|---|"
            );
            self.lines.iter().for_each(|line| println!("{line}"));
        }
        !self.missed
    }
}
