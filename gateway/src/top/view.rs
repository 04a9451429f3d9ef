#![forbid(unsafe_code)]
//! Draws a [`Model`].

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style, Stylize};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Cell as TableCell, Paragraph, Row as TableRow, Table};

use super::model::{Cell, Model, Row, Tab};

/// Draws the whole screen.
pub(super) fn draw(frame: &mut Frame<'_>, model: &mut Model) {
    let [top, body, bottom] =
        Layout::vertical([Constraint::Length(1), Constraint::Min(2), Constraint::Length(1)])
            .areas(frame.area());
    frame.render_widget(tabs(model), top);
    table(frame, body, model);
    let (text, is_error) = model.bottom();
    let style = if is_error { Style::new().fg(Color::Red) } else { Style::new().dim() };
    frame.render_widget(Paragraph::new(text).style(style), bottom);
}

fn tabs(model: &Model) -> Line<'static> {
    let names = ["Tunnels", "Routes", "Not routed"];
    let mut spans = vec![Span::from("dockline  ").bold()];
    for (number, (name, total)) in names.iter().zip(model.totals()).enumerate() {
        let text = Span::from(format!(" {} {name} {total} ", number + 1));
        let is_shown = Tab::ALL[number] == model.tab;
        spans.push(if is_shown { text.add_modifier(Modifier::REVERSED) } else { text });
    }
    if !model.filter.is_empty() {
        spans.push(Span::from(format!("  filter: {}", model.filter)).yellow());
    }
    Line::from(spans)
}

fn table(frame: &mut Frame<'_>, area: Rect, model: &mut Model) {
    let rows = model.rows();
    let (column, reversed) = model.order();
    let mark = if reversed { "\u{25b2}" } else { "\u{25bc}" };
    let titles = model.tab.columns().iter().enumerate();
    let titles =
        titles.map(|(at, title)| if at == column { format!("{title}{mark}") } else { (*title).to_owned() });
    let header = TableRow::new(titles).style(Style::new().bold());
    let table = Table::new(rows.iter().map(row), widths(model.tab))
        .header(header)
        .column_spacing(1)
        .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED));
    frame.render_stateful_widget(table, area, &mut model.table);
}

fn widths(tab: Tab) -> Vec<Constraint> {
    use Constraint::{Fill, Length};
    match tab {
        Tab::Tunnels => [Fill(3), Fill(2), Fill(2)].into_iter().chain([Length(9); 6]).collect(),
        Tab::Routes => vec![Fill(2), Length(7), Fill(4), Length(9), Length(8)],
        Tab::Unrouted => vec![Fill(1), Length(16), Fill(3)],
    }
}

fn row(row: &Row) -> TableRow<'static> {
    TableRow::new(row.cells.iter().map(|cell| {
        let text = shown(cell);
        match text.as_str() {
            "live" => TableCell::from(text).green(),
            "down" => TableCell::from(text).red(),
            "stale" => TableCell::from(text).yellow(),
            _ => TableCell::from(text),
        }
    }))
}

fn shown(cell: &Cell) -> String {
    match cell {
        Cell::Text(text) => text.clone(),
        Cell::Count(n) => n.to_string(),
        Cell::Size(bytes) | Cell::Rate(bytes) => size(*bytes),
        Cell::Time(ms) => time(*ms),
    }
}

/// Returns a size with three digits or less, as `1.2K`.
fn size(bytes: u64) -> String {
    let mut whole = bytes;
    let mut rest = 0;
    for unit in ["", "K", "M", "G", "T"] {
        if whole < 1024 || unit == "T" {
            return if unit.is_empty() || whole >= 10 {
                format!("{whole}{unit}")
            } else {
                format!("{whole}.{}{unit}", rest * 10 / 1024)
            };
        }
        rest = whole % 1024;
        whole /= 1024;
    }
    unreachable!("the last unit has no limit")
}

fn time(ms: u64) -> String {
    let seconds = ms / 1000;
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h{:02}m", seconds / 3600, seconds / 60 % 60),
        _ => format!("{}d{:02}h", seconds / 86_400, seconds / 3600 % 24),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::super::snapshot::{Snapshot, Tunnel};
    use super::*;

    #[test]
    fn sizes_and_times_are_short() {
        for (bytes, text) in [
            (0, "0"),
            (1023, "1023"),
            (1024, "1.0K"),
            (10_239, "9.9K"),
            (10_240, "10K"),
            (7 << 20, "7.0M"),
            (u64::MAX, "16777215T"),
        ] {
            assert_eq!(size(bytes), text);
        }
        for (ms, text) in
            [(0, "0s"), (59_999, "59s"), (61_000, "1m01s"), (3_600_000, "1h00m"), (90_000_000, "1d01h")]
        {
            assert_eq!(time(ms), text);
        }
    }

    /// Names of clients and containers come from outside.
    #[test]
    fn nothing_that_a_terminal_executes_is_drawn() {
        let mut model = Model::default();
        let hostile = "\x1b]0;owned\x07\u{202e}x".to_owned();
        let tunnel =
            Tunnel { identity: Some(hostile.clone().into()), upstream: hostile.into(), ..Tunnel::default() };
        #[expect(clippy::disallowed_methods, reason = "some time")]
        let now = std::time::Instant::now() + Duration::from_secs(1);
        model.update(Snapshot { tunnels: vec![tunnel], ..Snapshot::default() }, now);
        let mut terminal = Terminal::new(TestBackend::new(160, 5)).unwrap();
        terminal.draw(|frame| draw(frame, &mut model)).unwrap();
        let screen = terminal.backend().to_string();
        assert!(screen.contains("owned"), "{screen}");
        assert!(!screen.contains(['\x1b', '\x07', '\u{202e}']), "{screen}");
    }
}
