#![forbid(unsafe_code)]
//! [`Model`]: what is shown, and what keys do to it. Pure.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::fmt::Display;
use std::time::Instant;

use dockline::untrusted::Untrusted;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::widgets::TableState;

use super::snapshot::{Route, Snapshot, Target, Tunnel, Unrouted};

/// Rows that PgUp and PgDn move.
const PAGE: usize = 20;

/// Which table is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Tab {
    #[default]
    Tunnels,
    Routes,
    Unrouted,
}

impl Tab {
    pub(super) const ALL: [Self; 3] = [Self::Tunnels, Self::Routes, Self::Unrouted];

    /// Returns the titles of its columns.
    pub(super) fn columns(self) -> &'static [&'static str] {
        match self {
            Self::Tunnels => {
                &["CLIENT", "ROUTE", "UPSTREAM", "SENT/s", "RECV/s", "SENT", "RECV", "AGE", "IDLE"]
            }
            Self::Routes => &["ROUTE", "STATE", "TARGETS", "REQUESTS", "TUNNELS"],
            Self::Unrouted => &["CONTAINER", "NODE", "WHY"],
        }
    }
}

/// A cell: how it is shown, and how it is sorted.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Cell {
    Text(String),
    /// Bytes.
    Size(u64),
    /// Bytes a second.
    Rate(u64),
    /// Milliseconds.
    Time(u64),
    Count(u64),
}

impl Cell {
    fn text(text: impl Display) -> Self {
        Self::Text(text.to_string())
    }

    fn number(&self) -> Option<u64> {
        match self {
            Self::Text(_) => None,
            Self::Size(n) | Self::Rate(n) | Self::Time(n) | Self::Count(n) => Some(*n),
        }
    }

    fn compare(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Text(a), Self::Text(b)) => a.cmp(b),
            // The largest first: that is what one looks for.
            _ => other.number().cmp(&self.number()),
        }
    }
}

/// A row of the table that is shown.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Row {
    /// The tunnel, if it is one.
    pub(super) tunnel: Option<u64>,
    pub(super) cells: Vec<Cell>,
}

/// What a key asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    None,
    Quit,
    Kill(u64),
}

/// What keys mean.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Mode {
    #[default]
    Table,
    Filter,
    /// A question is open about this tunnel.
    Confirm(u64),
}

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct Model {
    pub(super) tab: Tab,
    pub(super) filter: String,
    /// The column that sorts each table, and whether the order is reversed.
    order: [(usize, bool); 3],
    pub(super) table: TableState,
    /// The tunnel under the cursor, which stays under it when the order changes.
    selected: Option<u64>,
    mode: Mode,
    snapshot: Snapshot,
    at: Option<Instant>,
    /// Bytes a second of each tunnel, sent and received.
    rates: HashMap<u64, (u64, u64)>,
    notice: Option<String>,
    lost: Option<String>,
}

impl Model {
    /// Takes a new snapshot.
    pub(super) fn update(&mut self, snapshot: Snapshot, now: Instant) {
        let passed = self.at.map(|at| now.duration_since(at).as_secs_f64()).filter(|passed| *passed > 0.0);
        let before: HashMap<u64, &Tunnel> =
            self.snapshot.tunnels.iter().map(|tunnel| (tunnel.id, tunnel)).collect();
        let rates = snapshot.tunnels.iter().filter_map(|tunnel| {
            let (old, passed) = (before.get(&tunnel.id)?, passed?);
            let rate = |new: u64, old: u64| per_second(new.saturating_sub(old), passed);
            Some((tunnel.id, (rate(tunnel.bytes_up, old.bytes_up), rate(tunnel.bytes_down, old.bytes_down))))
        });
        self.rates = rates.collect();
        self.snapshot = snapshot;
        self.at = Some(now);
        self.lost = None;
        self.follow();
    }

    /// Notes that the gateway does not answer. What is shown is old then.
    pub(super) fn lost(&mut self, problem: &dyn Display) {
        self.lost = Some(problem.to_string());
    }

    /// Shows a message until the next key.
    pub(super) fn notice(&mut self, text: String) {
        self.notice = Some(text);
    }

    /// Returns what is to be said at the bottom, and whether it is an error.
    pub(super) fn bottom(&self) -> (String, bool) {
        if let Mode::Confirm(tunnel) = self.mode {
            return (format!("end tunnel {tunnel}? y ends it, any other key keeps it"), true);
        }
        if self.mode == Mode::Filter {
            return (format!("filter: {}_", Untrusted::new(&self.filter)), false);
        }
        match (&self.lost, &self.notice) {
            (Some(lost), _) => (format!("what is shown is old: {lost}"), true),
            (None, Some(notice)) => (notice.clone(), false),
            (None, None) => {
                ("Tab next   \u{2190}\u{2192} sort   r reverse   / filter   k end   q quit".into(), false)
            }
        }
    }

    /// Returns the number of rows of each table, without the filter.
    pub(super) fn totals(&self) -> [usize; 3] {
        [self.snapshot.tunnels.len(), self.snapshot.routes.len(), self.snapshot.unrouted.len()]
    }

    /// Returns the column that sorts the table that is shown, and whether it is reversed.
    pub(super) fn order(&self) -> (usize, bool) {
        self.order[self.tab_number()]
    }

    /// Returns the rows that are shown, in order.
    pub(super) fn rows(&self) -> Vec<Row> {
        let mut rows: Vec<Row> = match self.tab {
            Tab::Tunnels => self.snapshot.tunnels.iter().map(|tunnel| self.tunnel(tunnel)).collect(),
            Tab::Routes => self.snapshot.routes.iter().map(route).collect(),
            Tab::Unrouted => self.snapshot.unrouted.iter().map(unrouted).collect(),
        };
        if !self.filter.is_empty() {
            let wanted = self.filter.to_lowercase();
            let has = |cell: &Cell| matches!(cell, Cell::Text(text) if text.to_lowercase().contains(&wanted));
            rows.retain(|row| row.cells.iter().any(has));
        }
        let (column, reversed) = self.order();
        rows.sort_by(|a, b| {
            let order = a.cells[column].compare(&b.cells[column]);
            let order = if reversed { order.reverse() } else { order };
            order.then_with(|| a.cells[0].compare(&b.cells[0]))
        });
        rows
    }

    fn tunnel(&self, tunnel: &Tunnel) -> Row {
        let (sent, received) = self.rates.get(&tunnel.id).copied().unwrap_or_default();
        let client = match &tunnel.identity {
            Some(identity) => format!("{identity} {}", tunnel.peer),
            None => tunnel.peer.to_string(),
        };
        let cells = vec![
            Cell::Text(client),
            Cell::text(tunnel.route.as_ref().unwrap_or(&tunnel.listener)),
            Cell::text(&tunnel.upstream),
            Cell::Rate(sent),
            Cell::Rate(received),
            Cell::Size(tunnel.bytes_up),
            Cell::Size(tunnel.bytes_down),
            Cell::Time(tunnel.age_ms),
            Cell::Time(tunnel.idle_ms),
        ];
        Row { tunnel: Some(tunnel.id), cells }
    }

    fn tab_number(&self) -> usize {
        Tab::ALL.iter().position(|tab| *tab == self.tab).unwrap_or_default()
    }

    /// Puts the cursor where the selected tunnel is now.
    fn follow(&mut self) {
        let rows = self.rows();
        let place = match (self.tab, self.selected) {
            (Tab::Tunnels, Some(id)) => rows.iter().position(|row| row.tunnel == Some(id)),
            _ => None,
        };
        let place = place.or(self.table.selected()).unwrap_or_default();
        self.select(place.min(rows.len().saturating_sub(1)), &rows);
    }

    fn select(&mut self, place: usize, rows: &[Row]) {
        self.table.select((!rows.is_empty()).then_some(place));
        self.selected = rows.get(place).and_then(|row| row.tunnel);
    }

    fn step(&mut self, to: impl FnOnce(usize, usize) -> usize) {
        let rows = self.rows();
        let last = rows.len().saturating_sub(1);
        let place = to(self.table.selected().unwrap_or_default(), last);
        self.select(place.min(last), &rows);
    }

    fn show(&mut self, tab: Tab) {
        self.tab = tab;
        self.table.select(None);
        self.follow();
    }

    /// Takes a key.
    pub(super) fn key(&mut self, key: KeyEvent) -> Action {
        self.notice = None;
        if key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL) {
            return Action::Quit;
        }
        match self.mode {
            Mode::Table => self.table_key(key.code),
            Mode::Filter => {
                self.filter_key(key.code);
                Action::None
            }
            Mode::Confirm(tunnel) => {
                self.mode = Mode::Table;
                if key.code == KeyCode::Char('y') { Action::Kill(tunnel) } else { Action::None }
            }
        }
    }

    fn table_key(&mut self, code: KeyCode) -> Action {
        let columns = self.tab.columns().len();
        let tab = self.tab_number();
        match code {
            KeyCode::Char('q') => return Action::Quit,
            KeyCode::Char('1') => self.show(Tab::Tunnels),
            KeyCode::Char('2') => self.show(Tab::Routes),
            KeyCode::Char('3') => self.show(Tab::Unrouted),
            KeyCode::Tab => self.show(Tab::ALL[(tab + 1) % Tab::ALL.len()]),
            KeyCode::BackTab => self.show(Tab::ALL[(tab + Tab::ALL.len() - 1) % Tab::ALL.len()]),
            KeyCode::Up => self.step(|place, _| place.saturating_sub(1)),
            KeyCode::Down => self.step(|place, _| place + 1),
            KeyCode::PageUp => self.step(|place, _| place.saturating_sub(PAGE)),
            KeyCode::PageDown => self.step(|place, _| place + PAGE),
            KeyCode::Home => self.step(|_, _| 0),
            KeyCode::End => self.step(|_, last| last),
            KeyCode::Right => self.sort(|column| (column + 1) % columns),
            KeyCode::Left => self.sort(|column| (column + columns - 1) % columns),
            KeyCode::Char('r') => {
                let (_, reversed) = &mut self.order[tab];
                *reversed = !*reversed;
                self.follow();
            }
            KeyCode::Char('/') => self.mode = Mode::Filter,
            KeyCode::Esc => {
                self.filter.clear();
                self.follow();
            }
            KeyCode::Char('k') => match self.selected.filter(|_| self.tab == Tab::Tunnels) {
                Some(tunnel) => self.mode = Mode::Confirm(tunnel),
                None => self.notice("only a tunnel can be ended".into()),
            },
            _ => {}
        }
        Action::None
    }

    fn sort(&mut self, to: impl FnOnce(usize) -> usize) {
        let (column, _) = self.order();
        self.order[self.tab_number()] = (to(column), false);
        self.follow();
    }

    fn filter_key(&mut self, code: KeyCode) {
        match code {
            KeyCode::Enter => self.mode = Mode::Table,
            KeyCode::Esc => {
                self.filter.clear();
                self.mode = Mode::Table;
            }
            KeyCode::Backspace => drop(self.filter.pop()),
            KeyCode::Char(c) if self.filter.len() < 100 => self.filter.push(c),
            _ => {}
        }
        self.follow();
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "a rate for people"
)]
fn per_second(bytes: u64, seconds: f64) -> u64 {
    (bytes as f64 / seconds) as u64
}

fn route(route: &Route) -> Row {
    let host = route.host.as_ref().or(route.name.as_ref()).map(ToString::to_string).unwrap_or_default();
    let path = route.path.as_ref().filter(|path| path.raw() != "/").map(ToString::to_string);
    let target = |target: &Target| {
        let address = target.address.as_ref().map(ToString::to_string).unwrap_or_default();
        let node = target.node.as_ref().map(|node| format!("@{node}")).unwrap_or_default();
        let state = if target.state.raw() == "live" { String::new() } else { format!(" ({})", target.state) };
        format!("{}{node} {address}{state}", target.title)
    };
    let targets: Vec<String> = route.targets.iter().map(target).collect();
    let sum = |count: fn(&Target) -> u64| Cell::Count(route.targets.iter().map(count).sum());
    let cells = vec![
        Cell::Text(host + &path.unwrap_or_default()),
        Cell::text(&route.state),
        Cell::Text(targets.join(", ")),
        sum(|target| target.requests),
        sum(|target| target.tunnels),
    ];
    Row { tunnel: None, cells }
}

fn unrouted(one: &Unrouted) -> Row {
    let node = one.node.as_ref().map(ToString::to_string).unwrap_or_default();
    Row { tunnel: None, cells: vec![Cell::text(&one.title), Cell::Text(node), Cell::text(&one.reason)] }
}

#[cfg(test)]
mod tests;
